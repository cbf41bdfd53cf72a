"""Random flips and crops of a batch, on its device. Free of torch until a batch comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ganzoo.api import Spec
from ganzoo.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FLIP_HELP: Final = "Mirror images left to right, each with a chance of one half."
CROP_HELP: Final = "Shift images at random by up to so many pixels; what comes in at an edge is mirrored there."


@dataclass(frozen=True)
class Augment:
    """What is done at random to each image, anew each time that it is drawn.

    Attributes:
        flip: whether to mirror it left to right, with a chance of one half.
        crop: it is padded by so many mirrored pixels at each side and cut to its size anywhere within.
    """

    flip: bool = False
    crop: int = 0

    def __bool__(self) -> bool:
        return self.flip or self.crop > 0

    def check(self, spec: Spec) -> Spec:
        """``spec``, if its samples can be augmented so.

        Raises:
            UsageError: they are points, or smaller than the crop.
        """
        if self and not spec.is_image:
            raise UsageError(
                f"The options flip and crop are for images, and these are points of {spec.shape[0]} numbers."
            )
        if self.crop and self.crop >= min(spec.shape[1:]):
            raise UsageError(
                f"The option crop must be less than the sides of the images, which are {spec}, not {self.crop}."
            )
        return spec

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Augmented copies of the images ``x [B, C, H, W]``; all that is random comes from ``rng``, on their device."""
        import torch

        count, _, height, width = x.shape
        rows = torch.arange(height, device=x.device).expand(count, height)
        columns = torch.arange(width, device=x.device).expand(count, width)
        if self.crop:
            moved = torch.randint(-self.crop, self.crop + 1, (2, count, 1), generator=rng, device=x.device)
            rows, columns = _mirrored(rows + moved[0], height), _mirrored(columns + moved[1], width)
            x = x.gather(2, rows[:, None, :, None].expand_as(x))
        if self.flip:
            turned = torch.rand(count, 1, generator=rng, device=x.device) < 0.5
            columns = torch.where(turned, columns.flip(1), columns)
        return x.gather(3, columns[:, None, None, :].expand_as(x))


def _mirrored(index: Tensor, length: int) -> Tensor:
    """Indices beyond ``0 .. length - 1`` mirrored at its ends, which are not repeated."""
    last = length - 1
    inside: Tensor = last - (last - index.abs()).abs()
    return inside
