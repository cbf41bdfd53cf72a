"""What people write into a model card stays when the export is scored."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import TINY

import ganzoo
from ganzoo.errors import GanzooError
from ganzoo.evaluation.result import FILE, Result, Score
from ganzoo.outputs.card import CARD
from ganzoo.outputs.export import export_run
from ganzoo.outputs.scores import keep_result

NONE = "No score was computed for this export.\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {**TINY, "run.out": tmp_path_factory.mktemp("cards"), "run.name": "points", "run.steps": 2}
    return ganzoo.train(settings).path


@pytest.fixture
def out(run: Path, tmp_path: Path) -> Path:
    return export_run(run, tmp_path / "export")


def scored(value: float) -> Result:
    return Result({"path": "x", "kind": "export"}, (Score("modes", "Modes", value, "higher"),), {"samples": 10})


def table(*values: float) -> str:
    """What a card tells of results."""
    each = "| score | value | note |\n| --- | --- | --- |\n| `Modes` | {} |  |\n\nMeasured with `samples 10`.\n"
    return "\n".join(each.format(f"{value:g}") for value in values)


def read(out: Path) -> str:
    return (out / CARD).read_bytes().decode()


def write(out: Path, text: str) -> None:
    (out / CARD).write_bytes(text.encode())


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_nothing_but_the_scores_is_written_anew(out: Path, end: str) -> None:
    text = read(out).replace("---\n", "---\nlicense: mit\n", 1).replace("# points", "# My own points")
    text = text.replace(NONE, f"Look at these:\n\n{NONE}\nThey say little.\n")
    text = f"{text}\n## Thanks\n\nTo all.\n".replace("\n", end)
    write(out, text)
    for values in ((3.0,), (3.0, 5.0)):
        keep_result(out, scored(values[-1]))
        assert read(out) == text.replace(NONE.replace("\n", end), table(*values).replace("\n", end))


def test_scores_that_were_altered_are_written_anew_within_their_section(out: Path) -> None:
    before, rest = read(out).split("## Evaluation\n")
    _, after = rest.split("## Licence\n")
    listing = "```md\n## Evaluation\n# no heading\n```\n"
    _, picture = rest.split("## Licence\n")[0].split(NONE)
    changed = f"{listing}{before}## Evaluation\n\nNothing yet.\n\n{listing}{picture}### More\n\n## Licence\n{after}"
    write(out, changed)
    keep_result(out, scored(3))
    assert read(out) == f"{listing}{before}## Evaluation\n\n{table(3)}{picture}## Licence\n{after}"


@pytest.mark.parametrize("last", ["", "## Evaluation\n\nNothing yet.\n"])
def test_a_section_that_is_missing_or_the_last_one_is_there_in_the_end(out: Path, last: str) -> None:
    write(out, f"# Mine\n\n{last}")
    keep_result(out, scored(3))
    assert read(out) == f"# Mine\n\n## Evaluation\n\n{table(3)}"


def test_a_card_that_is_gone_is_written_and_one_that_cannot_be_read_loses_nothing(out: Path) -> None:
    (out / CARD).unlink()
    keep_result(out, scored(3))
    assert f"## Evaluation\n\n{table(3)}" in read(out)
    (out / CARD).unlink()
    (out / CARD).mkdir()
    before = (out / FILE).read_bytes()
    with pytest.raises(GanzooError, match=r"README\.md cannot be read"):
        keep_result(out, scored(4))
    assert (out / FILE).read_bytes() == before
