"""Evaluates one run of a sweep, in a process of its own: ``python -m ganzoo.evaluation.cell RUN REQUEST``.

The request is a JSON object of arguments for :func:`ganzoo.evaluation.evaluate.evaluate`; the result is added to the
run. What a request says is looked at without torch, and then, before anything is trained for it, what it needs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from ganzoo.api import CONDITIONAL
from ganzoo.config import RunConfig
from ganzoo.data.naming import reference_settings
from ganzoo.errors import GanzooError, UsageError, did_you_mean
from ganzoo.registry import registry

KINDS: Final[Mapping[str, Literal["images", "points"]]] = {
    "fid": "images",
    "kid": "images",
    "isc": "images",
    "prc": "images",
    "classes": "images",
    "accuracy": "images",
    "modes": "points",
}
"""Name -> what it is for, of each metric of :mod:`ganzoo.evaluation.table`, which imports torch."""
OF_LABELS: Final = frozenset({"accuracy"})
"""Metrics for conditional generators alone."""
_LEAST: Final = 2
_ARGUMENTS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "metrics": (lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value), "names"),
    "features": (lambda value: isinstance(value, str), "a name"),
    "samples": (lambda value: type(value) is int and value >= _LEAST, f"a whole number from {_LEAST} on"),
    "against": (lambda value: isinstance(value, str), "the name of a data set, or a path"),
}
"""What a request may say -> whether a value fits, and which ones do."""


def check_request(request: Mapping[str, Any] | None, configs: Iterable[RunConfig]) -> None:
    """Refuse at once an evaluation that could only fail after the training.

    Args:
        request: arguments of the evaluation, maybe from a stranger's file; None for no evaluation.
        configs: of the runs that it is for.

    Raises:
        UsageError: there is no such argument, metric, extractor or data set, or it does not fit a run.
        MissingError: the weights of the feature network are not here.
        GanzooError: the real data are damaged.
    """
    if request is None:
        return
    for name, value in request.items():
        if name not in _ARGUMENTS:
            raise UsageError(f"The evaluation of a sweep has no argument {name!r}.{did_you_mean(name, _ARGUMENTS)}")
        fits, words = _ARGUMENTS[name]
        if not fits(value):
            raise UsageError(f"The argument {name!r} of the evaluation must be {words}, not {value!r:.80}.")
    metrics = request.get("metrics", ())
    for name in metrics:
        if name not in KINDS:
            raise UsageError(f"There is no metric {name!r}.{did_you_mean(name, KINDS)}")
    if "features" in request:
        registry().get("extractor", request["features"])
    if "against" in request:
        name, options = reference_settings(request["against"], "--eval.against")
        registry().choose("dataset", name, options)
    unlike: dict[tuple[Any, ...], RunConfig] = {}
    for config in configs:
        _check_run(config, metrics, features="features" in request)
        uses_labels = config.plan().has(CONDITIONAL, "gen")
        unlike.setdefault((config.data.id, repr(config.data.config), uses_labels), config)
    if unlike:
        from ganzoo.evaluation.rehearsal import rehearse  # it imports torch

        for config in unlike.values():
            rehearse(config, request)


def _check_run(config: RunConfig, metrics: Iterable[str], *, features: bool) -> None:
    these = "images" if config.spec().is_image else "points"
    for name in metrics:
        if KINDS[name] != these:
            raise UsageError(
                f"The metric {name} is for {KINDS[name]}, and the data set {config.data.name} has {these}: leave it "
                "out, or sweep the two kinds apart."
            )
        if name in OF_LABELS and not config.plan().has(CONDITIONAL, "gen"):
            raise UsageError(
                f"The metric {name} is for conditional generators, and {config.gen.name} is asked for no classes here: "
                "leave it out, or choose --cond on."
            )
    if features and these == "points":
        raise UsageError(
            f"Points, as of the data set {config.data.name}, are judged as they are: leave --eval.features out."
        )


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
