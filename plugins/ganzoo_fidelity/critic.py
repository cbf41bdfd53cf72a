"""The discriminator of a run as a feature network."""

from __future__ import annotations

import torch
from torch import Tensor

import ganzoo
from ganzoo.api import Interrupted, Spec, UsageError
from ganzoo.data import resample, to_unit, weights_digest
from ganzoo.nn import Extractor, Features
from ganzoo_fidelity import DiscriminatorConfig

_VERSION = "bicubic, antialiased; grey repeated, colour by ITU-R 601"
_CHANNELS = (1, 3)
_LUMA = (0.299, 0.587, 0.114)


class DiscriminatorFeatures(Extractor):
    """Images of any size, grey or coloured -> what the run's discriminator sees before its last layer.

    Images are brought to the size and the channels that it was trained on.

    Raises:
        UsageError: no run is named, it was trained on points or on images of other channels, or its discriminator
            cannot do without labels.
        MissingError: there is no such run, or its export holds no discriminator.
    """

    def __init__(self, config: DiscriminatorConfig, spec: Spec) -> None:
        super().__init__(spec)
        if config.run is None:
            raise UsageError(
                "The extractor 'discriminator' needs a run whose discriminator it is: --features.run FOLDER."
            )
        if not spec.is_image or spec.shape[0] not in _CHANNELS:
            raise UsageError(
                f"The extractor 'discriminator' sees grey or coloured images, not samples of {spec.shape}."
            )
        self.network = ganzoo.load_discriminator(config.run, "cpu")
        self.shape = self.network.spec.shape
        if not self.network.spec.is_image:
            raise UsageError(f"The discriminator of {config.run} judges points, so it cannot see images.")
        if self.shape[0] not in _CHANNELS:
            raise UsageError(
                f"The discriminator of {config.run} judges images of {self.shape[0]} channels, so it cannot see grey "
                "or coloured ones; name another run."
            )
        self.digest = weights_digest(
            self.network.state_dict(), type(self.network).__qualname__, str(self.shape), _VERSION
        )
        self.requires_grad_(False)
        self.eval()
        try:
            with torch.inference_mode():
                self.dim = self.network.features(torch.zeros(1, *self.shape)).shape[1]
        except Interrupted:
            raise
        except Exception as err:
            raise UsageError(
                f"The discriminator of {config.run} gives no features of an image without a label "
                f"({' '.join(str(err).split())[:120].rstrip('.')}); name a run whose discriminator is not conditional."
            ) from None

    def forward(self, images: Tensor) -> Features:
        """Features of ``images [B, 1 or 3, H, W]`` uint8."""
        channels, height, width = self.shape
        if images.shape[-2:] != (height, width):
            images = resample(images.float(), (height, width), "bicubic").round_().clamp_(0, 255)
        if channels == 1 and images.shape[1] == 3:
            weights = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
            images = (images.float() * weights).sum(1, keepdim=True).round_()
        elif channels == 3 and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        return Features(self.network.features(to_unit(images.float())).float())
