"""Numbers that are not finite: left out, gone back from, or the end of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from running import also, train, weights
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from ganzoo.errors import DivergedError
from ganzoo.nn.bundle import Side
from ganzoo.nn.guard import Guard, are_finite
from ganzoo.training import checkpoint

OPTIMIZERS: dict[str, Any] = {
    "adam": lambda p: Adam(p, 0.01, fused=True),
    "adamw": lambda p: AdamW(p, 0.01, fused=True),
    "adam, not fused": lambda p: Adam(p, 0.01, foreach=True),
    "rmsprop": lambda p: RMSprop(p, 0.01, foreach=True),
    "sgd": lambda p: SGD(p, 0.01, fused=True),
    "sgd with momentum": lambda p: SGD(p, 0.01, momentum=0.9, fused=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("where", ["gradient", "loss"])
def test_a_skipped_update_changes_nothing_and_leaves_no_trace(name: str, where: str) -> None:
    def side() -> Side:
        layer = torch.nn.Linear(3, 2)
        torch.nn.init.constant_(layer.weight, 0.5)
        torch.nn.init.constant_(layer.bias, 0.25)
        return Side({"gen": layer}, OPTIMIZERS[name])

    def state(optimizer: Optimizer) -> list[Any]:
        return [
            value.tolist()
            for moments in optimizer.state_dict()["state"].values()
            for value in moments.values()
            if isinstance(value, torch.Tensor)
        ]

    ours, plain = side(), side()
    guard = Guard(torch.device("cpu"))
    for bad in (True, False, True, False, False):
        for each in (ours, plain):
            for i, parameter in enumerate(each.trainable):
                parameter.grad = torch.full_like(parameter, 0.1 * (i + 1))
        total = torch.tensor(1.0)
        if bad and where == "loss":
            total = torch.tensor(float("inf"))
        elif bad:
            assert ours.trainable[1].grad is not None
            ours.trainable[1].grad[0] = float("nan")
        guard.step(ours, total)
        if not bad:
            plain.optimizer.step()
    for mine, its in zip(ours.trainable, plain.trainable, strict=True):
        assert torch.equal(mine, its)
    assert state(ours.optimizer) == state(plain.optimizer)
    assert int(guard.skipped) == 2


def test_the_guard_puts_the_statistics_of_a_norm_back() -> None:
    norm = torch.nn.BatchNorm1d(2)
    side = Side({"gen": norm}, OPTIMIZERS["adam"])
    guard = Guard(torch.device("cpu"))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    guard.begin([side])
    total = norm(torch.full((4, 2), float("nan"))).sum()
    total.backward()
    guard.step(side, total)
    guard.settle()
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_a_guarded_run_of_good_numbers_is_the_same_run(tmp_path: Path) -> None:
    plain = train(tmp_path / "a", steps=6)
    for mode in ("skip", "rollback"):
        assert weights(train(tmp_path / mode, steps=6, **also({"run.on_nonfinite": mode})), 6) == weights(plain, 6)


HICCUPS: dict[str, Any] = {
    "skip": {"loss": "hiccup", "loss.at": (6, 9), "run.on_nonfinite": "skip"},
    "rollback": {"loss": "hiccup", "loss.at": (6, 9), "loss.once": True, "run.on_nonfinite": "rollback"},
    "skip, sgd": {
        "loss": "hiccup",
        "loss.at": (1, 6),
        "run.on_nonfinite": "skip",
        "optim.name": "sgd",
        "optim.momentum": 0.5,
    },
}


@pytest.mark.usefixtures("hiccups")
@pytest.mark.parametrize("name", HICCUPS)
def test_a_run_gets_over_bad_numbers_and_resumes_exactly(tmp_path: Path, name: str) -> None:
    straight = train(tmp_path / "straight", steps=14, **HICCUPS[name])
    kinds = [event["event"] for event in straight.events()]
    assert kinds
    assert set(kinds) == {HICCUPS[name]["run.on_nonfinite"].replace("skip", "skipped")}
    assert straight.metrics()[-1]["step"] == 14
    for text in straight.metrics_file.read_text(encoding="utf-8").splitlines():
        json.loads(text, parse_constant=pytest.fail)
    saved = checkpoint.load(straight.checkpoints / checkpoint.name_of(14))
    assert all(torch.isfinite(value).all() for value in saved.model.values())
    counts = saved.state["nonfinite"]
    assert counts["attempt" if name == "rollback" else "skipped"] >= 1
    for first in (2, 4, 5, 7, 8, 11):
        out = tmp_path / str(first)
        halted = train(out, steps=first, **HICCUPS[name])
        resumed = train(out, resume=halted.path, steps=14, **HICCUPS[name])
        assert weights(resumed, 14) == weights(straight, 14), first
        assert checkpoint.load(resumed.checkpoints / checkpoint.name_of(14)).state["nonfinite"] == counts


@pytest.mark.usefixtures("hiccups")
@pytest.mark.parametrize("mode", ["skip", "rollback"])
def test_too_many_bad_numbers_stop_the_run(tmp_path: Path, mode: str) -> None:
    settings: dict[str, Any] = {
        "loss": "hiccup",
        "loss.at": tuple(range(6, 40)),
        "run.on_nonfinite": mode,
        "run.nonfinite_limit": 2,
    }
    with pytest.raises(DivergedError, match=r"Step [67]: .*became NaN.*--nonfinite-limit 2") as caught:
        train(tmp_path, steps=40, **settings)
    assert caught.value.exit_code == 3
    (run,) = tmp_path.iterdir()
    saved = checkpoint.load(checkpoint.newest_good(run))
    assert all(torch.isfinite(value).all() for value in saved.model.values())


TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64)
BAD = st.sampled_from([float("nan"), float("inf"), float("-inf")])


@given(
    st.lists(st.tuples(st.sampled_from(TYPES), st.integers(0, 40), st.none() | BAD), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_numbers_that_are_not_finite_are_found_wherever_they_stand(
    described: list[tuple[torch.dtype, int, float | None]], random: Any
) -> None:
    tensors = []
    for kind, rows, bad in described:
        tensor = torch.full((rows, 3), -2.0, dtype=kind).T
        if bad is not None and rows:
            tensor[random.randrange(3), random.randrange(rows)] = bad
        tensors.append(tensor)
    expected = [bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.numel()]
    assert are_finite(tensors).tolist() == (expected or [True])


def test_the_largest_numbers_are_finite_and_sparse_gradients_are_looked_into() -> None:
    largest = [torch.full((1000,), torch.finfo(kind).max, dtype=kind) for kind in (torch.float32, torch.float64)]
    assert are_finite(largest).all()
    sparse = torch.sparse_coo_tensor(torch.tensor([[1]]), [float("nan")], (4,), check_invariants=True)
    assert not are_finite([sparse]).any()
    assert are_finite([torch.sparse_coo_tensor(torch.tensor([[1]]), [3.0], (4,), check_invariants=True)]).all()
