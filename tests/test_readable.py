"""What a run saves can be read back; if it could not, the run says so, and goes on from what it saved before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from installing import installed
from running import TINY, train, weights

import ganzoo
from ganzoo.errors import DivergedError, GanzooError, MissingError
from ganzoo.files import sha256
from ganzoo.nn.guard import are_finite
from ganzoo.nn.weights import load_tensors, save_tensors
from ganzoo.training import checkpoint
from ganzoo.training.run import Run


@pytest.fixture(autouse=True)
def hard() -> Iterator[None]:
    """The parts of ``hard_parts`` are installed."""
    with installed("hard_parts", "hiccup_parts"):
        yield


@pytest.mark.parametrize(
    ("reg", "said"),
    [
        ("counting", r"saves numbers that are not finite in 'held'; this is for the plugin's author to mend"),
        ("retyping", r"changes 'held' from I64 \[\] to F32 \[\], which no checkpoint could give back"),
        ("reshaping", r"changes 'held' from F32 \[\] to F32 \[3\], which no checkpoint could give back"),
    ],
)
def test_what_could_not_be_read_back_is_not_saved_and_the_run_goes_on_from_before(
    tmp_path: Path, reg: str, said: str
) -> None:
    settings: dict[str, Any] = {"reg": reg, f"reg.{reg}.after": 7, "run.log_every": 100}
    with pytest.raises(GanzooError, match=f"The regularizer hard_parts/{reg} .*{said}"):
        train(tmp_path, steps=12, **settings)
    (path,) = tmp_path.iterdir()
    assert checkpoint.newest_good(path).name == checkpoint.name_of(4)
    assert train(tmp_path, resume=path, steps=5, **settings).metrics()[-1]["step"] == 5


def test_a_line_of_metrics_tells_of_it_before_the_next_checkpoint(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"reg": "counting", "reg.counting.after": 4, "run.checkpoint_every": 0}
    with pytest.raises(GanzooError, match="saves numbers that are not finite"):
        train(tmp_path, steps=100, **settings)
    (path,) = tmp_path.iterdir()
    assert Run.open(path).metrics()[-1]["step"] == 3


def test_moments_that_became_infinite_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"step 4 is not saved, .*: disc\.0\.exp_avg_sq, .* not finite") as caught:
        train(tmp_path, steps=9, loss="steep")
    assert caught.value.exit_code == 3
    (path,) = tmp_path.iterdir()
    assert checkpoint.list_all(path / "checkpoints") == []


@pytest.mark.parametrize("trainer", ["averaging", "copying"])
def test_a_skipped_update_leaves_what_the_trainer_keeps(tmp_path: Path, trainer: str) -> None:
    settings: dict[str, Any] = {
        "trainer": trainer,
        "loss": "hiccup",
        "loss.at": (1, 6),
        "run.on_nonfinite": "skip",
    }
    straight = train(tmp_path / "a", steps=9, **settings)
    saved = checkpoint.load(straight.checkpoints / checkpoint.name_of(9))
    assert 0.2 < float(saved.optimizer["trainer.mean"]) < 2
    halted = train(tmp_path / "b", steps=6, **settings)
    assert weights(train(tmp_path / "b", resume=halted.path, steps=9, **settings), 9) == weights(straight, 9)


def test_a_checkpoint_that_cannot_be_used_is_passed_over(tmp_path: Path) -> None:
    straight = train(tmp_path / "a", steps=9)
    run = train(tmp_path / "b", steps=8)
    spoil(run.checkpoints / checkpoint.name_of(8))
    assert checkpoint.problem(run.checkpoints / checkpoint.name_of(8)) is None
    said: list[str] = []
    assert weights(train(tmp_path / "b", said, resume=run.path, steps=9), 9) == weights(straight, 9)
    passed = [sentence for sentence in said if "step-00000008 is passed over" in sentence]
    assert len(passed) == 1
    assert "optimizer.safetensors cannot be used: gen.0.exp_avg holds numbers that are not finite" in passed[0]


def test_a_run_without_a_checkpoint_that_can_be_used_says_why(tmp_path: Path) -> None:
    run = train(tmp_path, steps=1)
    spoil(run.checkpoints / checkpoint.name_of(1))
    with pytest.raises(MissingError, match=r"none of its checkpoints is whole \(step-00000001: .* not finite"):
        train(tmp_path, resume=run.path, steps=2)


def spoil(path: Path) -> None:
    """Write a checkpoint as one may have been written by others: whole, but with infinite numbers."""
    tensors = load_tensors(path / checkpoint.OPTIMIZER)
    tensors["gen.0.exp_avg"].fill_(float("inf"))
    save_tensors(path / checkpoint.OPTIMIZER, tensors)
    manifest = json.loads((path / checkpoint.MANIFEST).read_text(encoding="utf-8"))
    file = path / checkpoint.OPTIMIZER
    manifest["files"][checkpoint.OPTIMIZER] = {"size": file.stat().st_size, "sha256": sha256(file)}
    (path / checkpoint.MANIFEST).write_text(checkpoint.sealed(manifest), encoding="utf-8")


@pytest.mark.parametrize("how", [{"run.on_nonfinite": "skip"}, {"run.precision": "fp16"}])
def test_a_parameter_without_numbers_is_finite(tmp_path: Path, how: dict[str, Any]) -> None:
    settings = {key: value for key, value in TINY.items() if not key.startswith("gen.")}
    run = ganzoo.train({**settings, "run.out": tmp_path, "gen": "empty", "run.steps": 2, **how})
    assert run.metrics()[-1]["step"] == 2


def test_tensors_without_numbers_are_left_out() -> None:
    empty, full, broken = torch.zeros(0), torch.ones(2), torch.tensor([1.0, float("nan")])
    assert are_finite([empty, full, broken]).tolist() == [True, False]
    assert are_finite([empty]).tolist() == [True]
