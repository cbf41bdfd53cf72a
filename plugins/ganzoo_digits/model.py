"""The extractor ``digit-cnn``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from ganzoo.api import GanzooError, MissingError, NoOptions, Spec, UsageError
from ganzoo.nn import Extractor, Features
from ganzoo.nn.weights import load_tensors
from ganzoo_digits.network import CLASSES, DIM, as_mnist, body, head

WEIGHTS: Final = Path(__file__).with_name("digit_cnn.safetensors")
SHA256: Final = "54e0b85ca1df6f4dd359d9661dbe5087e551ab44f617c8717d5fd7cac5c60a47"
"""Of the weights file, in hexadecimal."""
_PREPROCESSING: Final = 1
_MOST_DIGITS: Final = 3
_LUMA: Final = (0.299, 0.587, 0.114)


class DigitCnn(Extractor):
    """Images of digits -> 96 features, and logits of the digit; colour becomes grey.

    Raises:
        UsageError: a sample is no image.
        GanzooError: the weights are not those that ganzoo ships.
    """

    dim = DIM
    num_classes = CLASSES

    def __init__(self, _config: NoOptions, spec: Spec) -> None:
        super().__init__(spec)
        if not spec.is_image:
            raise UsageError(f"digit-cnn looks at images, and a sample here is {spec}: score points by their modes.")
        # Built empty: an extractor must not take numbers from the random generator of whoever evaluates.
        with torch.device("meta"):
            self.body, self.head = body(batch_norm=False), head()
        self.load_state_dict(load_weights(WEIGHTS), assign=True)
        self.eval().requires_grad_(False)
        self.digest = hashlib.sha256(f"{SHA256} {_PREPROCESSING}".encode()).hexdigest()

    def forward(self, images: Tensor) -> Features:
        """See :meth:`Extractor.forward`."""
        features: Tensor = self.body(as_mnist(_grey(images)))
        return Features(features, self.head(features))


class DigitCnnEach(Extractor):
    """Images whose channels are a digit each -> their features side by side, and one class for each combination.

    With three channels class 407 means 4 in the first, 0 in the second and 7 in the third. Its logit is the sum of
    theirs, so its probability is the product.

    Raises:
        UsageError: a sample is no image, or has more than three channels.
    """

    def __init__(self, config: NoOptions, spec: Spec) -> None:
        super().__init__(spec)
        channels = spec.shape[0]
        if spec.is_image and channels > _MOST_DIGITS:
            raise UsageError(
                f"digit-cnn-each takes images of 1 to {_MOST_DIGITS} channels, each a digit, not {channels}: choose "
                "digit-cnn."
            )
        self.single = DigitCnn(config, spec)
        self.stacked = CLASSES, channels
        self.dim, self.num_classes = DIM * channels, CLASSES**channels
        self.digest = hashlib.sha256(f"each {self.single.digest}".encode()).hexdigest()

    def forward(self, images: Tensor) -> Features:
        """See :meth:`Extractor.forward`."""
        features, logits = self.single(images.flatten(0, 1)[:, None])
        parts = logits.view(*images.shape[:2], CLASSES).unbind(1)
        joint = parts[0]
        for part in parts[1:]:
            joint = (joint[:, :, None] + part[:, None]).flatten(1)
        return Features(features.reshape(len(images), -1), joint)


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
