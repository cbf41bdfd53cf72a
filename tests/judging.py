"""One process among several, started by ``test_shared_evaluation`` as ``python tests/judging.py OUT PORT``.

Three processes score the subjects in OUT together; then two of them do it again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from group import go_on_as_two, tell

from ganzoo.errors import GanzooError
from ganzoo.evaluation.evaluate import evaluate
from ganzoo.evaluation.result import Result

SCORES = ("fid", "kid", "isc", "prc", "classes", "accuracy")
SUBJECTS: dict[str, dict[str, Any]] = {
    "classes": {"samples": 700, "metrics": SCORES, "real_samples": 900},
    "points": {"samples": 1100},
    "folder": {"against": "digits", "metrics": ("fid", "isc"), "fid_infinity": True},
}


def scored(out: Path) -> dict[str, Any]:
    """The results of all subjects, as JSON values without how long they took."""
    return {name: told(evaluate(out / name, device="cpu", **asked)) for name, asked in SUBJECTS.items()}


def told(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(result.to_dict()))
    del found["seconds"]
    return found


def heard(function: Callable[[], object]) -> list[Any]:
    """The sentence that ``function`` raises, and its exit code."""
    try:
        function()
    except GanzooError as err:
        return [str(err), err.exit_code]
    return []


def asked_to_stop(_name: str, _total: int) -> Callable[[int], None]:
    """A stage of the work in which one signal comes; a second one would end the process at once."""
    left = [signal.SIGTERM]
    return lambda _: os.kill(os.getpid(), left.pop()) if left else None


def main(out: Path, port: str) -> None:
    """Everything, in one process of three, of which two go on; they meet anew at ``port``."""
    rank = int(os.environ["RANK"])
    for world in (3, 2):
        found = scored(out)
        found["damaged"] = heard(lambda: evaluate(out / "damaged", against="digits", device="cpu"))
        found["few"] = heard(lambda: evaluate(out / "points", samples=5, metrics=("fid",), device="cpu"))
        found["late"] = heard(lambda: evaluate(out / "classes", samples=8, metrics=("isc",), device="cpu"))
        if hasattr(signal, "SIGUSR1"):
            stopped = {"samples": 2000, "progress": asked_to_stop, "metrics": ("isc",), "device": "cpu"}
            found["stopped"] = heard(lambda asked=stopped: evaluate(out / "classes", **asked))  # type: ignore[misc]
        tell(out, world, rank, found)
        if rank == 2:
            return
        go_on_as_two(port)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
