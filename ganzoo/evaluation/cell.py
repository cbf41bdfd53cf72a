"""Evaluates one run of a sweep, in a process of its own: ``python -m ganzoo.evaluation.cell RUN REQUEST``.

The request is a JSON object of arguments for :func:`ganzoo.evaluation.evaluate.evaluate`; the result is added to the
run. Free of torch until it starts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ganzoo.errors import GanzooError


def evaluate_run(run: Path, request: dict[str, Any]) -> None:
    """Evaluate a run and keep the result with it.

    Raises:
        GanzooError: what went wrong, in a sentence.
    """
    from ganzoo.evaluation.evaluate import evaluate  # it imports torch

    evaluate(run, update=True, **request)


def main(run: str, request: str) -> int:
    """The exit code; what went wrong goes to standard error, in a sentence."""
    try:
        evaluate_run(Path(run), json.loads(request))
    except GanzooError as err:
        print(f"Error: {err}", file=sys.stderr)  # noqa: T201
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
