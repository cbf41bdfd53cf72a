"""Keeping results: in the run or export that they are about, and in the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganzoo.errors import GanzooError
from ganzoo.evaluation.result import Result, append_result, read_results
from ganzoo.files import write_text
from ganzoo.outputs.card import CARD, card, rescored
from ganzoo.outputs.source import Source, open_source


def keep_result(folder: Path, result: Result) -> None:
    """Add a result to a run or an export; an export's card tells it at once, a run's when it is exported.

    What people wrote into the card stays.

    Raises:
        GanzooError: it cannot be written, or the card cannot be read.
    """
    source = open_source(folder)
    text = _card(source, result) if source.kind == "export" else None
    append_result(folder, result)
    if text is not None:
        write_text(folder / CARD, text)


def _card(source: Source, result: Result) -> str:
    """The card of an export, as it is but for its results."""
    before = read_results(source.path)
    after = [*before, result]
    file = source.path / CARD
    try:
        return rescored(file.read_bytes().decode("utf-8", "surrogateescape"), before, after)
    except FileNotFoundError:
        return card(source.record, conditional=source.conditional, results=after)
    except OSError as err:
        raise GanzooError(f"{file} cannot be read: {err.strerror or err}.") from None


def results_of(run: Path, record: Mapping[str, Any]) -> list[Result]:
    """The results of a run that are about the weights which an export of it holds."""
    wanted = {"step": record["steps"], "weights": record["weights"]}
    return [r for r in read_results(run) if all(r.subject.get(key) == value for key, value in wanted.items())]
