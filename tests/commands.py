"""The command line in the process of a test, and what came of it. The fixture ``ganzoo`` is in ``conftest.py``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Done:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was printed for programs."""
        return json.loads(self.out)


Ganzoo = Callable[..., Done]
