"""A classifier of torchvision turned into a critic."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu6

from ganzoo.api import Spec, UsageError, did_you_mean
from ganzoo.data import torchvision_module
from ganzoo.nn import Discriminator, norm_layer
from ganzoo_torchvision import Norm, TorchvisionConfig

_SMALLEST = 32
"""Five halvings leave one pixel of it."""
_FIXED = {"vit": "image_size", "maxvit": "input_size"}
"""Families that are built for one size, and the argument that says which."""
_FIXED_SIZE = 224
_WITHOUT_AUXILIARIES = ("googlenet", "inception")
"""Families with further classifiers for training, and a slow initialisation of their own."""
_CALIBRATION_SAMPLES, _LEAST_DEVIATION = 8, 1e-6


class TorchvisionDiscriminator(Discriminator):
    """Images ``[B, C, H, W]`` of any channel count and size -> logits ``[B]``.

    The first convolution is made for ``C`` channels, the classifier for one logit. Images smaller than the network
    needs are enlarged bilinearly; those of a network for one size only are resized to it.

    Raises:
        UsageError: a sample is no image, or torchvision has no such model or not for this size.
    """

    def __init__(self, config: TorchvisionConfig, spec: Spec) -> None:
        super().__init__(spec)
        if not spec.is_image:
            raise UsageError(f"A torchvision network needs images, not points of shape {spec}; choose the one 'mlp'.")
        channels, height, width = spec.shape
        fixed = next((argument for family, argument in _FIXED.items() if config.model.startswith(family)), None)
        least = config.min_size or _size_needed(config, fixed)
        self.size: tuple[int, int] | None = None
        if fixed:
            self.size = (least, least)
        elif min(height, width) < least:
            scale = least / min(height, width)
            self.size = (math.ceil(height * scale), math.ceil(width * scale))
        self.body = _classifier(config.model, fixed, least)
        _adapt_first_convolution(self.body, channels)
        _make_twice_differentiable(self.body)
        bare = _replace_batch_norm(self.body, config.norm_used) and config.norm_used == "none"
        self.head = nn.Linear(_remove_head(self.body), 1)
        shape = (channels, *(self.size or (height, width)))
        if config.min_size is not None:
            self._try(config, shape, _size_needed(config, fixed))
        if bare:
            _calibrate(self.body, shape)

    @torch.no_grad()
    def _try(self, config: TorchvisionConfig, shape: tuple[int, ...], needed: int) -> None:
        """Look whether the body takes images of a size that the user asked for.

        Raises:
            UsageError: it does not.
        """
        self.body.eval()
        try:
            self.body(torch.zeros(2, *shape))
        except (ValueError, RuntimeError) as err:
            reason = " ".join(str(err).split())
            raise UsageError(
                f"torchvision's {config.model} cannot take images of {'x'.join(map(str, shape))} ({reason}): leave "
                f"min_size out, or set it to {needed}."
            ) from err
        self.body.train()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits ``[B]``; labels are not used."""
        logits: Tensor = self.head(self.features(x))
        return logits.squeeze(1)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """What the classifier would see, ``[B, F]``."""
        if self.size is not None and self.size != x.shape[2:]:
            x = interpolate(x, self.size, mode="bilinear", align_corners=False)
        features: Tensor = self.body(x)
        return features


def _size_needed(config: TorchvisionConfig, fixed: str | None) -> int:
    if fixed:
        return _FIXED_SIZE
    weights = _models().get_model_weights(_known(config.model)).DEFAULT
    least: int = max(_SMALLEST, *weights.meta["min_size"])
    return 2 * least if config.norm == "instance" and config.has_batch_norm else least  # one pixel has no variance


def _classifier(name: str, fixed: str | None, size: int) -> nn.Module:
    settings: dict[str, Any] = {}
    if fixed:
        settings[fixed] = (size, size) if fixed == "input_size" else size
    if name.startswith(_WITHOUT_AUXILIARIES):
        settings |= {"aux_logits": False, "init_weights": False}
    try:
        model: nn.Module = _models().get_model(_known(name), weights=None, **settings)
    except (ValueError, AssertionError, RuntimeError) as err:
        raise UsageError(f"torchvision's {name} cannot be built for images of {size}x{size}: {err}.") from err
    return model


def _known(name: str) -> str:
    models = _models()
    names = models.list_models(module=models)
    if name not in names:
        raise UsageError(f"torchvision has no classification model {name!r}.{did_you_mean(name, names)}")
    return name


def _models() -> Any:
    return torchvision_module().models


def _adapt_first_convolution(model: nn.Module, channels: int) -> None:
    conv = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    if conv.in_channels != channels:
        conv.in_channels = channels
        conv.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, channels, *conv.kernel_size))
        conv.reset_parameters()


def _replace_batch_norm(model: nn.Module, norm: Norm) -> bool:
    """Whether there was any to replace."""
    found = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    for name, layer in found if norm != "batch" else ():
        model.set_submodule(name, norm_layer(norm, layer.num_features) or nn.Identity())
    return bool(found) and norm != "batch"


class _Hardsigmoid(nn.Module):
    """``relu6(x + 3) / 6``, written so that torch can differentiate it twice."""

    def forward(self, x: Tensor) -> Tensor:
        return relu6(x + 3) / 6


def _make_twice_differentiable(model: nn.Module) -> None:
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Hardsigmoid):
            model.set_submodule(name, _Hardsigmoid())


@torch.no_grad()
def _calibrate(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Scale each convolution so that noise leaves it with variance 1 (arXiv:1511.06422).

    The models' own initial weights rely on batch norm; without it the signal dies on its way through a deep one.
    """

    def rescale(layer: nn.Module, _: Any, out: Tensor) -> Tensor:
        deviation = out.std().clamp_min(_LEAST_DEVIATION)
        for parameter in layer.parameters():
            parameter.div_(deviation)
        return out / deviation

    hooks = [layer.register_forward_hook(rescale) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    model(torch.randn(_CALIBRATION_SAMPLES, *shape))
    for hook in hooks:
        hook.remove()


def _remove_head(model: nn.Module) -> int:
    """Take off what turns features into class scores, and return how many features there are."""
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if linear:
        name, last = linear[-1]
        model.set_submodule(name, nn.Identity())
        return last.in_features
    # SqueezeNet scores each position by a convolution and a ReLU, which must not touch a logit, and then averages.
    name, score = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)][-1]
    model.set_submodule(name.rpartition(".")[0], nn.AdaptiveAvgPool2d(1))
    return score.in_channels
