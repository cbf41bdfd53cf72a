"""Names of the parts in their order, for what must not import torch."""

from __future__ import annotations

from typing import Final

PART_NAMES: Final = (
    "start-up",
    "first-step",
    "overhead",
    "tutorial",
    "pipeline",
    "peak",
    "precision",
    "critic",
    "convolutions",
    "zoo",
    "unrolled",
    "sizes",
    "processes",
    "memory",
    "images",
)
