"""Keeping results: in the run or export that they are about, and in the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.evaluation.result import Result, append_result, read_results
from ganzoo.files import write_text
from ganzoo.outputs.card import CARD, card
from ganzoo.outputs.source import open_source


def keep_result(folder: Path, result: Result) -> None:
    """Add a result to a run or an export; an export's card tells it at once, a run's when it is exported.

    Raises:
        GanzooError: it cannot be written.
    """
    source = open_source(folder)
    text = None
    if source.kind == "export":
        text = card(source.record, conditional=source.conditional, results=[*read_results(folder), result])
    append_result(folder, result)
    if text is not None:
        write_text(folder / CARD, text)


def results_of(run: Path, record: Mapping[str, Any]) -> list[Result]:
    """The results of a run that are about the weights which an export of it holds."""
    wanted = {"step": record["steps"], "weights": record["weights"]}
    return [r for r in read_results(run) if all(r.subject.get(key) == value for key, value in wanted.items())]
