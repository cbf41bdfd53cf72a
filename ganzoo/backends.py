"""The two libraries that are imported only when used, because their import may fail: torchvision and torch-fidelity.

The torchvision that package registries offer is built for CUDA. Beside a torch built for the CPU alone its extension
does not load, and its import ends in ``operator torchvision::nms does not exist``. Exactly this is repaired, after it
happened: with the missing operators declared, everything but them and torchvision's own image decoding works.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from functools import cache
from types import ModuleType
from typing import Final

from ganzoo.errors import MissingError

_SYMPTOM: Final = "operator torchvision::nms does not exist"
_OPERATORS: Final = ("nms", "qnms")
_SCHEMA: Final = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_repaired = False


@cache
def torchvision() -> ModuleType:
    """torchvision, repaired if need be, with its ``datasets``, ``models`` and ``transforms``.

    Raises:
        MissingError: it is not installed, or does not import beside the torch that is.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as err:
        if str(err) != _SYMPTOM:
            raise _unusable("torchvision", err) from err
    except Exception as err:
        raise _unusable("torchvision", err) from err
    return _repair()


@cache
def torch_fidelity() -> ModuleType:
    """torch-fidelity, which imports torchvision itself.

    Raises:
        MissingError: it or torchvision is not installed, or does not import.
    """
    torchvision()
    try:
        return importlib.import_module("torch_fidelity")
    except Exception as err:
        raise _unusable("torch-fidelity", err) from err


def torchvision_state() -> str:
    """One line on torchvision for ``ganzoo doctor``; imports it."""
    try:
        version = torchvision().__version__
    except MissingError as err:
        return str(err)
    if _repaired:
        return f"{version}, repaired: its operators do not load beside this torch; nothing here needs them"
    return str(version)


def _repair() -> ModuleType:
    global _repaired  # noqa: PLW0603
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    try:
        for operator in _OPERATORS:
            if not hasattr(torch.ops.torchvision, operator):
                torch.library.define(f"torchvision::{operator}", _SCHEMA)
        with warnings.catch_warnings():
            # It warns that its image decoders did not load; Pillow decodes here.
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            module = importlib.import_module("torchvision")
    except Exception as err:
        raise _unusable("torchvision", err) from err
    _repaired = True
    return module


def _unusable(name: str, err: Exception) -> MissingError:
    package = name.replace("-", "_")
    if isinstance(err, ModuleNotFoundError) and (err.name or "").partition(".")[0] == package:
        return MissingError(f"{name} is not installed: run 'pip install {name}'.")
    reason = " ".join(str(err).split())
    return MissingError(
        f"{name} is installed but does not import ({type(err).__name__}: {reason}): reinstall torch and torchvision "
        "together from one package index, so that they were built for each other."
    )
