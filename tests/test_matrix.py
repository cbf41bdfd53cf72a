"""The matrix: what the rules say of every combination, and that what they allow trains.

Driven by the registry: a component is tested by being registered. A covering set of the cells is trained here;
``nox -s matrix`` trains all of them.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from cells import TINY, configure, covering, data_in, train
from running import flags

import ganzoo
from ganzoo import cli, matrix
from ganzoo.api import UsageError
from ganzoo.config import Layer, resolve
from ganzoo.matrix import AXES, DATA, Cell
from ganzoo.training.run import Run

COSTLY = ("torchvision",)
CELLS = list(matrix.cells())
ALLOWED = [cell for cell in CELLS if cell.status != "refused"]
# All without a regularizer, and enough others for every two components to meet; of the slow networks only the latter.
TRAINED = list(
    dict.fromkeys(
        [
            *(cell for cell in ALLOWED if cell.reg == matrix.NO_REG and cell.disc not in COSTLY),
            *covering(ALLOWED, COSTLY),
        ]
    )
)
Data = dict[str, dict[str, Any]]
REFUSED = {"data": "digits", "data.size": 16, "loss": "wgan-gp", "disc.norm": "batch", "run.steps": 2}
FITTING = {"run.batch_size", "gen.width", "disc.width", "gen.latent_dim", *REFUSED}
TINY_FITTING = {key: value for key, value in TINY.items() if key in FITTING}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return data_in(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(("gen", "disc"), sorted({(cell.gen, cell.disc) for cell in TRAINED}), ids=str)
def test_what_the_rules_allow_trains(data: Data, gen: str, disc: str) -> None:
    for cell in TRAINED:
        if (cell.gen, cell.disc) == (gen, disc):
            train(cell, data)


def test_the_trained_cells_cover_every_pair() -> None:
    def pairs(cells: list[Cell]) -> set[Any]:
        return {
            pair for cell in cells for pair in itertools.combinations([(axis, getattr(cell, axis)) for axis in AXES], 2)
        }

    assert pairs(TRAINED) == pairs(ALLOWED)


def test_the_matrix_has_every_component() -> None:
    kinds = ("gen", "disc", "loss", "trainer")
    regs = 1 + len(ganzoo.list_components("reg"))
    assert len(CELLS) == math.prod(len(ganzoo.list_components(kind)) for kind in kinds) * regs * len(DATA)
    assert len(CELLS) == len(set(CELLS))
    assert len(ALLOWED) >= 1000


def test_every_refusal_says_what_why_and_what_instead() -> None:
    for cell in CELLS:
        assert bool(cell.sentences) is (cell.status == "refused")
        assert bool(cell.changes) is (cell.status == "adapted")
        for sentence in cell.sentences:
            assert sentence.endswith("."), sentence
            assert ": " in sentence, sentence
            assert "; " in sentence, sentence


def test_adaptations_say_what_was_changed_and_why() -> None:
    def cell(**names: str) -> Cell:
        return next(cell for cell in CELLS if names.items() <= vars(cell).items())

    usual = {"gen": "dcgan", "disc": "dcgan", "trainer": "alternating", "data": "images"}
    assert cell(**usual, loss="ns", reg="none").status == "works"
    assert cell(**usual, loss="wgan-gp", reg="none").changes == (
        "disc.norm: batch -> none (recipe of loss wgan-gp)",
        "trainer.critic_steps: 1 -> 5 (recipe of loss wgan-gp)",
    )
    assert cell(**usual, loss="ns", reg="r1").changes == ("disc.norm: batch -> none (recipe of regularizer r1)",)
    # Nothing changes where auto means none already.
    assert cell(**{**usual, "disc": "mlp"}, loss="ns", reg="r1").status == "works"


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"data": "digits"}, False),
        ({"data": "digits", "gen": "cgan"}, False),
        ({"data": "ring"}, False),
        ({"data": "ring", "gen": "dcgan"}, True),
        ({"data": "swissroll", "gen": "cgan"}, True),
        ({"data": "digits", "gen": "cgan", "disc": "dcgan"}, True),
        ({"data": "digits", "gen": "dcgan", "disc": "cgan"}, True),
        ({"data": "ring", "disc": "torchvision"}, True),
        ({"data": "digits", "loss": "wgan-gp", "disc.norm": "batch", "data.size": 32}, True),
        ({"data": "digits", "loss": "wgan-gp", "data.size": 32}, False),
        ({"data": "digits", "reg": ("r1",), "disc.norm": "batch", "data.size": 32}, True),
        ({"data": "digits", "disc": "torchvision", "disc.norm": "batch", "loss": "wgan-gp"}, True),
    ],
)
def test_what_is_refused_and_what_is_not(settings: dict[str, Any], refused: bool) -> None:
    assert bool(resolve([Layer("test", settings)]).plan().broken_rules()) is refused


def test_every_cell_stands_in_the_summary() -> None:
    found = matrix.summarise(CELLS)
    assert sum(found.counts.values()) == len(CELLS)
    pairs = {(cell.gen, cell.disc, cell.data) for cell in CELLS}
    assert sorted((row.gen, row.disc, kind) for row in found.rows for kind in row.data) == sorted(pairs)
    assert {note for cell in CELLS for note in cell.sentences} == set(found.sentences)
    assert {note for cell in CELLS for note in cell.changes} == set(found.changes)
    assert len(found.rows) < 60


def test_a_pair_that_is_refused_in_part_says_where() -> None:
    def cell(loss: str, reg: str, status: Any) -> Cell:
        sentences = ("No: because; so.",) if status == "refused" else ()
        return Cell("g", "d", loss, "t", reg, "images", status, (), sentences)

    every = [cell(loss, reg, "refused" if loss == "a" else "works") for loss in "abc" for reg in "xy"]
    (row,) = matrix.summarise(every).rows
    assert matrix.verdict(row) == "works; refused with loss a: r1"
    every = [cell(loss, reg, "refused" if loss + reg == "ax" else "works") for loss in "abc" for reg in "xy"]
    (row,) = matrix.summarise(every).rows
    assert matrix.verdict(row) == "works; refused in 1 more cell: r1"


def test_the_page_has_every_row_and_note() -> None:
    page, found = matrix.to_markdown(), matrix.summarise(matrix.cells(builtin=True))
    assert all(f"| {row.gen} | {row.disc} | {', '.join(row.data)} |" in page for row in found.rows)
    assert all(sentence in page for sentence in found.sentences)


def test_the_matrix_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--matrix", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format"] == "ganzoo-matrix/1"
    assert len(document["cells"]) == len(CELLS) == sum(document["counts"].values())
    assert cli.main(["list", "--matrix"]) == 0
    out, err = capsys.readouterr()
    assert "adapted: " in out
    assert "refused: r1" in out
    assert f"{sum(cell.status == 'refused' for cell in CELLS):,} refused" in err
    assert len(out.splitlines()) < 150
    assert cli.main(["list", "loss", "--matrix"]) == 2


def test_no_refused_cell_trains_unless_it_is_allowed_and_then_that_is_recorded(tmp_path: Path) -> None:
    line = ["run", *flags({**TINY_FITTING, **REFUSED}), "--out", str(tmp_path), "--name", "r", "--quiet"]
    assert cli.main(line) == 2
    assert not (tmp_path / "r").exists()
    assert cli.main([*line, "--allow-incompatible"]) == 0
    noted = json.loads((tmp_path / "r" / "config.json").read_text())["incompatible"]
    assert noted == configure(**REFUSED).plan().broken_rules()
    assert len(noted) == 1
    assert Run.open(tmp_path / "r").metrics()[-1]["step"] == 2
    with pytest.raises(UsageError, match="gradient penalty"):
        ganzoo.train({**TINY_FITTING, **REFUSED}, out=tmp_path)


def test_an_allowed_run_has_nothing_to_record(tmp_path: Path) -> None:
    run = ganzoo.train({**TINY_FITTING, "data.size": 8}, steps=1, out=tmp_path)
    assert json.loads((run.path / "config.json").read_text())["incompatible"] == []
