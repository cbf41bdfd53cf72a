"""Names of the scripts, for what must not import torch."""

from __future__ import annotations

from typing import Final

SCRIPT_NAMES: Final = ("mlp-gan", "mlp-wgan", "mlp-wgan-gp", "dcgan-32", "dcgan-64")
