"""What is chosen for a run: what may be, what is measured, and that the run stays the same run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from running import DIGITS, weights

import ganzoo
from ganzoo import decisions, processes
from ganzoo.api import Spec
from ganzoo.config import Layer, resolve
from ganzoo.data.dataset import place
from ganzoo.decisions import Arrangement, Machine
from ganzoo.errors import UsageError
from ganzoo.nn import Bundle
from ganzoo.settings import RunSettings
from ganzoo.testing.training import Session
from ganzoo.training import choices, convolving, fast, trial
from ganzoo.training.loop import Session as LiveSession
from ganzoo.training.run import Run

CPU = torch.device("cpu")
IMAGES, POINTS = Spec((1, 16, 16)), Spec((2,))
PLAIN, LAST = Arrangement("fp32", "contiguous"), Arrangement("fp32", "channels-last")
BF16, PRODUCTS = Arrangement("bf16", "contiguous"), Arrangement("bf16-products", "contiguous")
TINY = {**DIGITS, "run.steps": 3}


def machine(device: str = "cpu", *, bf16: bool = False) -> Machine:
    return Machine(device, "of the test", "test", 1, bf16)


@pytest.mark.parametrize(
    ("settings", "spec", "where", "expected"),
    [
        ({}, IMAGES, machine(), [PLAIN, LAST]),
        ({}, POINTS, machine(), [PLAIN]),
        ({}, IMAGES, machine("mps", bf16=True), [PLAIN]),
        ({"deterministic": True}, IMAGES, machine("cuda:0", bf16=True), [PLAIN]),
        ({"layout": "channels-last"}, IMAGES, machine(), [LAST]),
        ({"precision": "fp32"}, POINTS, machine(bf16=True), [PLAIN]),
        ({}, POINTS, machine(bf16=True), [PLAIN, BF16, PRODUCTS]),
        ({}, POINTS, machine("cuda:0", bf16=True), [PLAIN, BF16]),
        ({"compile": True}, POINTS, machine(bf16=True), [PLAIN, BF16]),
        ({"precision": "bf16"}, POINTS, machine(bf16=True), [BF16, PRODUCTS]),
        ({"precision": "bf16"}, POINTS, machine(), [BF16]),
        ({"precision": "bf16", "deterministic": True}, POINTS, machine(bf16=True), [BF16]),
        (
            {},
            IMAGES,
            machine(bf16=True),
            [PLAIN, LAST, BF16, Arrangement("bf16", "channels-last"), PRODUCTS],
        ),
        ({"precision": "fp16", "layout": "contiguous"}, IMAGES, machine(), [Arrangement("fp16", "contiguous")]),
    ],
)
def test_what_may_be_chosen(settings: dict[str, Any], spec: Spec, where: Machine, expected: list[Arrangement]) -> None:
    assert decisions.to_measure(RunSettings(**settings), spec, where) == expected


def test_wrong_gradients_are_refused() -> None:
    with pytest.raises(UsageError, match="wrong gradients with channels-last on MPS; use --layout contiguous"):
        decisions.to_measure(RunSettings(layout="channels-last"), IMAGES, machine("mps"))


def test_float16_is_never_chosen_unasked() -> None:
    found = decisions.to_measure(RunSettings(), IMAGES, machine("cuda", bf16=True))
    assert {each.precision for each in found} == {"fp32", "bf16"}


@pytest.mark.parametrize(("precision", "on"), [("auto", True), ("bf16", True), ("fp32", False)])
def test_tf32_follows_what_is_asked_of_float32(precision: Any, *, on: bool) -> None:
    settings = RunSettings(precision=precision)
    assert decisions.tf32(settings, machine("cuda")).value == ("on" if on else "off")
    assert decisions.tf32(settings, machine()).value == "off"


def test_the_switches_of_torch_are_as_they_were_after_a_run() -> None:
    def now() -> tuple[bool, ...]:
        backends = torch.backends
        return (
            torch.are_deterministic_algorithms_enabled(),
            backends.cudnn.benchmark,
            backends.cudnn.allow_tf32,
            backends.cuda.matmul.allow_tf32,
        )

    before = now()
    with fast.switches(RunSettings(precision="fp32"), torch.device("cuda")):
        assert now() == (False, True, False, False)
    assert now() == before
    with fast.switches(RunSettings(deterministic=True), torch.device("cuda")):
        assert now() == (True, False, True, True)
    assert now() == before


def test_arithmetic_that_is_emulated_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast.slow_precision(RunSettings(), CPU) is None
    monkeypatch.setattr(fast, "_has_bf16", lambda _: False)
    said = fast.slow_precision(RunSettings(precision="bf16"), CPU)
    assert said is not None
    assert "many times slower" in said
    assert fast.slow_precision(RunSettings(precision="bf16"), torch.device("cuda")) is None


@pytest.mark.parametrize("settings", [{"loss": "wgan-gp"}, {"disc.norm": "spectral"}, {"gen": "cgan", "loss": "ns"}])
def test_the_layout_changes_no_number_beyond_its_last_bits(settings: dict[str, Any]) -> None:
    config = resolve([Layer("test", {**TINY, "data.size": 16, **settings})])
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        one = Session(config)
        names = list(one.bundle.gen_side.state_dict())
        one.bundle.arrange(layout)
        one.take(3)
        assert list(one.bundle.gen_side.state_dict()) == names
        assert_strides_agree(one.bundle)
        found.append(torch.cat([p.detach().flatten() for p in one.bundle.gen_side.trainable]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-4)  # three steps of 2e-4


def test_weights_of_one_channel_are_laid_out_too_and_those_of_five_dimensions_are_left() -> None:
    bundle = Session(resolve([Layer("test", {**TINY, "loss": "ns"})])).bundle
    bundle.disc.register_parameter("five", torch.nn.Parameter(torch.ones(1, 2, 3, 4, 5)))
    for layout in (torch.channels_last, torch.contiguous_format):
        bundle.arrange(layout)
        four = [p for side in (bundle.gen_side, bundle.disc_side) for p in side.parameters() if p.dim() == 4]
        assert any(1 in p.shape[:2] for p in four)
        assert [p.stride() for p in four] == [torch.empty(p.shape, memory_format=layout).stride() for p in four]


def assert_strides_agree(bundle: Bundle) -> None:
    """torch's fused optimisers compute nonsense, in silence, where these differ."""
    some = 0
    for side in (bundle.gen_side, bundle.disc_side):
        for p in side.trainable:
            moments = side.optimizer.state[p].values()
            for value in (p.grad, *moments):
                if isinstance(value, torch.Tensor) and value.shape == p.shape:
                    assert value.stride() == p.stride()
                    some += 1
    assert some


def test_a_gradient_that_lies_otherwise_in_memory_is_laid_right() -> None:
    config = resolve([Layer("test", {**TINY, "loss": "ns"})])
    ones = [Session(config) for _ in range(2)]
    for one in ones:
        one.bundle.arrange(torch.channels_last)
        one.take(1)
        for p in one.bundle.gen_side.trainable:
            assert p.grad is not None
            strange = one is ones[1]
            p.grad = p.grad.contiguous() if strange else p.grad
        one.bundle.apply_gradients(one.bundle.gen_side, torch.ones(()))
    for mine, its in zip(*(one.bundle.gen_side.trainable for one in ones), strict=True):
        assert torch.equal(mine, its)


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Even tiny networks are measured, and remembered in a folder of the test."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(convolving, "LEAST", 0)
    monkeypatch.setattr(trial, "_BUDGET", 0.0)
    return monkeypatch


def train(out: Path, name: str, **more: Any) -> Run:
    return ganzoo.train({**TINY, "run.out": out, "run.name": name, **more})


def chosen(run: Run) -> dict[str, str]:
    listed = json.loads((run.path / "config.json").read_text(encoding="utf-8"))["decisions"]
    return {each["name"]: each["value"] for each in listed}


def test_measuring_leaves_no_trace_in_a_run(measuring: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measuring.setattr(decisions, "GAIN", 1e9)
    measured = train(tmp_path, "measured", loss="ns", reg=("r1",))
    assert list((tmp_path / "cache" / "choices").glob("*.json"))
    assert chosen(measured)["layout"] == "contiguous"
    asked = train(tmp_path, "asked", loss="ns", reg=("r1",), **{"run.layout": "contiguous"})
    assert weights(measured, 3) == weights(asked, 3)


def test_what_was_measured_is_remembered_by_the_run_and_by_the_machine(
    measuring: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measuring.setattr(decisions, "GAIN", 0.0)
    measuring.setattr(fast, "_verdict", lambda *_: {"chosen": LAST, "reason": "the test wants it"})
    measuring.setattr(convolving, "_quicker", lambda _: [])
    first = train(tmp_path, "first")
    assert chosen(first)["layout"] == "channels-last"
    measuring.setattr(fast, "_measure", lambda *_: pytest.fail("measured twice"))
    again = train(tmp_path, "again")
    assert weights(first, 3) == weights(again, 3)
    for file in (tmp_path / "cache" / "choices").glob("*.json"):
        file.write_text(json.dumps({"chosen": PLAIN, "reason": "another wants that"}), encoding="utf-8")
    resumed = ganzoo.train({}, resume=first.path, steps=4)
    assert chosen(resumed)["layout"] == "channels-last"
    assert chosen(train(tmp_path, "third"))["layout"] == "contiguous"
    assert chosen(ganzoo.train({}, resume=first.path, steps=5, layout="contiguous"))["layout"] == "contiguous"


def test_matrices_bring_the_layout_that_they_need(measuring: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measuring.setattr(fast, "_verdict", lambda *_: {"chosen": PLAIN, "reason": "the test wants it"})
    measuring.setattr(convolving, "_quicker", lambda _: ["disc.main.0/weight"])
    for gained, layout in ((2.0, "channels-last"), (1.0, "contiguous")):
        measuring.setattr(convolving, "_gained", lambda *_, gained=gained: gained)
        run = train(tmp_path, layout)
        assert chosen(run)["layout"] == layout
        assert (chosen(run)["convolutions"] == "disc.main.0/weight") is (gained > 1)
        assert chosen(ganzoo.train({}, resume=run.path, steps=4)) == chosen(run)
        for file in (tmp_path / "cache" / "choices").glob("*.json"):
            file.unlink()


@pytest.mark.parametrize(
    ("apart", "words"),
    [
        (0.29, ""),
        (0.31, "compute other numbers than in fp32 (by 31%)"),
        (math.inf, "compute numbers that are not finite"),
        (math.nan, "could not be computed"),
    ],
)
def test_arithmetic_that_computes_something_else_is_not_offered(
    apart: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "difference", lambda *_: apart)
    both = [PLAIN, LAST, Arrangement("bf16", "contiguous"), Arrangement("bf16", "channels-last")]
    sound, why, passing = fast._sound(Session(resolve([Layer("test", TINY)])), both)  # type: ignore[arg-type]
    assert sound == (both[:2] if words else both)
    assert passing is math.isnan(apart)
    assert why == (f"bf16 is left out: with it these networks {words}" if words else "")


def test_each_arithmetic_is_compared_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for apart, left in (
        ((0.5, 0.5), [PLAIN]),
        ((0.5, 0.1), [PLAIN, PRODUCTS]),
        ((0.1, 0.5), [PLAIN, BF16]),
        ((0.1, 0.1), [PLAIN, BF16, PRODUCTS]),
    ):
        found = iter(apart)
        monkeypatch.setattr(fast, "difference", lambda *_, found=found: next(found))
        session: Any = Session(resolve([Layer("test", TINY)]))
        sound, why, _ = fast._sound(session, [PLAIN, BF16, PRODUCTS])
        assert sound == left
        assert why.count("is left out") == 3 - len(left)


def test_two_ways_of_computing_are_compared_on_the_run_itself(tmp_path: Path) -> None:
    config = resolve([Layer("test", {**TINY, "loss": "ns", "run.out": tmp_path})])
    session = LiveSession(Run.create(config, config.spec(), {}), CPU, say=lambda _: None)
    before = [p.detach().clone() for p in session.bundle.gen_side.parameters()]
    factor = 1.0

    def scaled(by: float) -> None:
        nonlocal factor
        with torch.no_grad():
            for p in session.bundle.gen.parameters():
                p.mul_(by / factor)
        factor = by

    def apart(by: float) -> float:
        return trial.difference(session, [lambda: scaled(1.0), lambda: scaled(by)])

    assert apart(1.0) == 0
    assert 0.001 < apart(1.25) < math.inf
    assert apart(math.inf) == math.inf
    for p, value in zip(session.bundle.gen_side.parameters(), before, strict=True):
        with torch.no_grad():
            p.copy_(value)

    def fails() -> None:
        raise ValueError("as an operation that bfloat16 does not have")

    assert math.isnan(trial.difference(session, [lambda: None, fails]))


def test_the_first_to_remember_is_right(tmp_path: Path) -> None:
    file = tmp_path / "choices" / "x.json"

    def valid(found: choices.Choice) -> bool:
        return found["chosen"] in ("one", "two", "three")

    choices._remember(file, {"chosen": "one"}, valid)
    choices._remember(file, {"chosen": "two"}, valid)
    assert choices._remembered(file, valid) == {"chosen": "one"}
    for broken in ("{", '{"chosen": []}', '{"chosen": "four"}', "[]"):
        file.write_text(broken, encoding="utf-8")
        assert choices._remembered(file, valid) is None
    choices._remember(file, {"chosen": "three"}, valid)
    assert choices._remembered(file, valid) == {"chosen": "three"}
    assert [path.name for path in file.parent.iterdir()] == ["x.json"]


def test_the_quicker_way_is_taken_if_it_gains_enough() -> None:
    both = [PLAIN, LAST]
    assert fast._verdict({PLAIN: [1.0, 1.0, 9.0], LAST: [0.5, 0.5, 9.0]}, both)["chosen"] == LAST
    assert fast._verdict({PLAIN: [1.0, 1.1], LAST: [0.5, 9.0]}, both)["chosen"] == LAST  # disturbed in one round
    assert fast._verdict({PLAIN: [1.0, 1.0, 9.0], LAST: [0.97, 0.97, 1.0]}, both)["chosen"] == PLAIN
    failed = fast._verdict({PLAIN: [1.0]}, both)
    assert failed["chosen"] == PLAIN
    assert failed["reason"] == "fp32, channels-last failed here"
    assert failed["passing"]
    assert fast._verdict({}, both)["chosen"] == PLAIN


@pytest.mark.parametrize(("size", "where"), [(40, "cuda:0"), (60, "cpu")])
def test_data_go_where_memory_is_free(size: int, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 1000))
    found, why = place(size, CPU, torch.device("cuda:0"))
    assert str(found) == where
    assert "GB free" in why
    assert place(size, CPU, CPU)[0] == CPU


def test_small_networks_and_points_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_measure", lambda *_: pytest.fail("measured"))
    assert chosen(train(tmp_path, "small"))["layout"] == "contiguous"


def test_a_decision_for_another_kind_of_device_is_not_kept() -> None:
    record = {"decisions": [{"name": "device", "value": "cuda:0"}, {"name": "layout", "value": "channels-last"}]}
    assert decisions.kept(record, machine("cuda:1"))["layout"] == "channels-last"
    assert decisions.kept(record, machine()) == {}
    assert decisions.kept({"decisions": [3, {"name": []}]}, machine()) == {}


def test_a_dry_run_tells_what_will_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    from ganzoo.cli import main

    assert main(["run", "--data", "ring", "--precision", "fp16", "--device", "cpu", "--dry-run", "--json"]) in (0, None)
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)["decisions"]}
    assert {
        *("device", "threads", "precision", "layout", "convolutions", "critic", "tf32", "compile", "optimiser", "data")
    } == set(listed)
    assert listed["precision"]["value"] == "fp16"
    native = machine(bf16=True)
    asked = resolve([Layer("test", {"data": "ring", "run.precision": "bf16"})])
    told = {each.name: each for each in decisions.expected(asked, native)}["precision"]
    assert (told.value, told.reason) == ("bf16", "asked for; in products alone where that is quicker")
    assert listed["layout"]["reason"] == "points have no channels"
    for norm, value in (("batch", "one after the other"), ("none", "found out at the start")):
        assert main(["run", "--disc.norm", norm, "--dry-run", "--json"]) in (0, None)
        listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)["decisions"]}
        assert value in listed["critic"]["value"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (("--device", "cuda"), ("precision", "measured at the start")),
        (("--device", "mps"), ("precision", "fp32")),
        (("--device", "cpu", "--devices", "2"), ("threads", "1")),
        (("--data", "photos", "--data.memory", "stream"), ("data", "found out at the start")),
        (("--device", "cuda", "--precision", "fp32"), ("data", "measured at the start")),
    ],
)
def test_a_dry_run_says_what_only_the_start_can_tell(
    line: tuple[str, ...],
    expected: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from ganzoo.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "threads_each", lambda world: 2 // world)
    Path("photos").mkdir()
    Image.new("L", (8, 8)).save("photos/one.png")
    assert main(["run", *line, "--dry-run", "--json"]) in (0, None)
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)["decisions"]}
    assert expected in {(name, each["value"]) for name, each in listed.items()}, listed
