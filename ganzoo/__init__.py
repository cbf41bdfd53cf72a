"""ganzoo: any generator x any discriminator x any loss x any trainer.

Names are imported when they are first used, so that ``import ganzoo`` stays free of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.api import Spec
    from ganzoo.errors import GanzooError
    from ganzoo.evaluation.evaluate import evaluate
    from ganzoo.evaluation.result import Result, Score
    from ganzoo.outputs.export import load, load_discriminator
    from ganzoo.registry import config_for, create, describe, list_components
    from ganzoo.training.run import Run
    from ganzoo.training.start import train

__version__ = "0.1.0"
__all__ = [
    "GanzooError",
    "Result",
    "Run",
    "Score",
    "Spec",
    "config_for",
    "create",
    "describe",
    "evaluate",
    "list_components",
    "load",
    "load_discriminator",
    "train",
]

_HOMES = {
    "GanzooError": "ganzoo.errors",
    "Result": "ganzoo.evaluation.result",
    "Run": "ganzoo.training.run",
    "Score": "ganzoo.evaluation.result",
    "Spec": "ganzoo.api",
    "config_for": "ganzoo.registry",
    "create": "ganzoo.registry",
    "describe": "ganzoo.registry",
    "evaluate": "ganzoo.evaluation.evaluate",
    "list_components": "ganzoo.registry",
    "load": "ganzoo.outputs.export",
    "load_discriminator": "ganzoo.outputs.export",
    "train": "ganzoo.training.start",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ganzoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
