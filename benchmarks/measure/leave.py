"""An observer that ends its process after the first step, so that the process lasts as long as the way to it."""

from __future__ import annotations

import os

from ganzoo.api import hookimpl


@hookimpl
def ganzoo_step_end(step: int) -> None:
    """Leave at once; what the device still computes is waited for."""
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    os._exit(0 if step == 1 else 1)
