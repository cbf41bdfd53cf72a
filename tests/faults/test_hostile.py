"""A few hundred hostile files of each kind; ``hostile.py`` runs tens of thousands."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import hostile

COUNTS = {"configs": 200, "headers": 200, "images": 160}


@pytest.mark.parametrize("kind", COUNTS)
def test_hostile_files_are_read_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    counts = dict.fromkeys(COUNTS, 0) | {kind: COUNTS[kind]}
    (report,) = hostile.everything(counts, 1, tmp_path)
    assert report.failures == []
    assert report.outcomes["refused"] > 0
    assert report.outcomes["read"] > 0
