"""Weights files in the published formats, with random numbers in them: the real ones are no part of the tests."""

from __future__ import annotations

import importlib
import io
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganzoo.backends import torch_fidelity, torchvision


def random_like(state: dict[str, Tensor], *, spread: bool = False) -> dict[str, Tensor]:
    """Random weights that keep the signal alive, for the names and shapes of a state dict (on any device).

    With ``spread``, a matrix repeats few numbers, so that its file is small.
    """
    rng = torch.Generator().manual_seed(0)
    made = {}
    for name, value in state.items():
        shape = tuple(value.shape)
        if not value.is_floating_point():
            made[name] = torch.zeros(shape, dtype=value.dtype)
        elif name.endswith("running_var"):
            made[name] = torch.rand(shape, generator=rng) + 0.5
        elif len(shape) < 2:
            centre = 1.0 if name.endswith("weight") else 0.0
            made[name] = torch.randn(shape, generator=rng) * 0.1 + centre
        else:
            gain = math.sqrt(2 / math.prod(shape[1:]))
            if spread and len(shape) == 2:
                made[name] = (torch.randn(sum(shape), generator=rng) * gain).as_strided(shape, (1, 1))
            else:
                made[name] = torch.randn(shape, generator=rng) * gain
    return made


def inception_state() -> dict[str, Tensor]:
    """Random weights for torch-fidelity's Inception."""
    torch_fidelity()
    part: Any = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")

    class Outline(part.FeatureExtractorInceptionV3):  # type: ignore[misc]
        """Built without weights: its constructor insists on a file, and this one has none to give."""

        def load_state_dict(self, *_: Any, **__: Any) -> None:
            return

    file = io.BytesIO()
    torch.save({}, file)
    file.seek(0)
    with torch.device("meta"):
        network = Outline("inception-v3-compat", ["2048"], feature_extractor_weights_path=file)
    return random_like(network.state_dict())


def save_inception(path: Path) -> Path:
    """A file of random Inception weights, as torch.save writes it."""
    torch.save(inception_state(), path)
    return path


def save_vgg16(path: Path) -> Path:
    """A small file of random VGG-16 weights."""
    with torch.device("meta"):
        network = torchvision().models.vgg16(weights=None)
    torch.save(random_like(network.state_dict(), spread=True), path)
    return path


def clip_state(width: int = 64, layers: int = 1, patch: int = 16, side: int = 32, out: int = 24) -> dict[str, Tensor]:
    """Random weights of a tiny vision transformer in the format of CLIP, with the parts for text that are left out."""
    torch_fidelity()
    part: Any = importlib.import_module("torch_fidelity.feature_extractor_clip")
    with torch.device("meta"):
        model = part.CLIPVisual(out, side, layers, width, patch)
    text = {"text_projection": torch.zeros(8, out), "logit_scale": torch.zeros(()), "ln_final.weight": torch.zeros(8)}
    return random_like(model.state_dict()) | text
