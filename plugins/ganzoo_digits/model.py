"""The extractor ``digit-cnn``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from ganzoo.api import GanzooError, MissingError, Spec, UsageError
from ganzoo.nn import Extractor, Features
from ganzoo.nn.weights import load_tensors
from ganzoo_digits import DigitCnnConfig
from ganzoo_digits.network import CLASSES, DIM, as_mnist, body, head

WEIGHTS: Final = Path(__file__).with_name("digit_cnn.safetensors")
SHA256: Final = "54e0b85ca1df6f4dd359d9661dbe5087e551ab44f617c8717d5fd7cac5c60a47"
"""Of the weights file, in hexadecimal."""
_PREPROCESSING: Final = 1
_MOST_DIGITS: Final = 3
_LUMA: Final = (0.299, 0.587, 0.114)


class DigitCnn(Extractor):
    """Images of digits -> 96 features of each digit, and logits of its class.

    With ``channels="each"`` the features of an image's channels stand one after the other, and the class of digits
    a, b, c is ``100 a + 10 b + c``: the logits ``[B, 1000]`` are the sums of log-probabilities.

    Raises:
        UsageError: a sample is no image, or has more than three digits.
        GanzooError: the weights are not those that ganzoo ships.
    """

    def __init__(self, config: DigitCnnConfig, spec: Spec) -> None:
        super().__init__(spec)
        if not spec.is_image:
            raise UsageError(f"digit-cnn looks at images, and a sample here is {spec}: score points by their modes.")
        self.each = config.channels == "each"
        digits = spec.shape[0] if self.each else 1
        if digits > _MOST_DIGITS:
            raise UsageError(
                f"With channels=each digit-cnn takes images of 1 to {_MOST_DIGITS} channels, not {digits}: choose "
                "channels=grey."
            )
        self.dim, self.num_classes = DIM * digits, CLASSES**digits
        # Built empty: an extractor must not take numbers from the random generator of whoever evaluates.
        with torch.device("meta"):
            self.body, self.head = body(batch_norm=False), head()
        self.load_state_dict(load_weights(WEIGHTS), assign=True)
        self.eval().requires_grad_(False)
        self.digest = hashlib.sha256(f"{SHA256} {_PREPROCESSING} {config.channels}".encode()).hexdigest()

    def forward(self, images: Tensor) -> Features:
        """See :meth:`Extractor.forward`."""
        digits = images.flatten(0, 1)[:, None] if self.each else _grey(images)
        features: Tensor = self.body(as_mnist(digits))
        logits: Tensor = self.head(features)
        if not self.each:
            return Features(features, logits)
        scores = logits.log_softmax(1).view(*images.shape[:2], CLASSES)
        joint = scores[:, 0]
        for channel in scores.unbind(1)[1:]:
            joint = (joint[:, :, None] + channel[:, None]).flatten(1)
        return Features(features.view(len(images), -1), joint)


def load_weights(file: Path) -> dict[str, Tensor]:
    """The weights as float32.

    Raises:
        MissingError: the file is not there.
        GanzooError: it is not the file that ganzoo ships.
    """
    mend = "install ganzoo again"
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise MissingError(f"The weights of digit-cnn are not at {file}: {mend}.") from None
    except OSError as err:
        raise GanzooError(f"The weights of digit-cnn cannot be read from {file}: {err.strerror or err}.") from None
    if found != SHA256:
        raise GanzooError(
            f"{file} does not hold the weights of digit-cnn as ganzoo ships them (SHA-256 {found[:12]}.. instead of "
            f"{SHA256[:12]}..), so its scores would be comparable to none: {mend}."
        )
    return {name: tensor.float() for name, tensor in load_tensors(file).items()}


def _grey(images: Tensor) -> Tensor:
    """``[B, C, H, W]`` as ``[B, 1, H, W]``: luma of three channels, the mean of other numbers."""
    channels = images.shape[1]
    if channels == 1:
        return images
    if channels == len(_LUMA):
        weights = torch.tensor(_LUMA, device=images.device).view(1, -1, 1, 1)
        return (images * weights).sum(1, keepdim=True)
    return images.float().mean(1, keepdim=True)
