"""``ganzoo doctor``: what it looks at, what it says, and that its comparison of arithmetic finds what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from installing import installed
from torch import Tensor, nn

from ganzoo.api import Component, Spec
from ganzoo.cli import main
from ganzoo.data import pretrained
from ganzoo.errors import MissingError, UsageError
from ganzoo.nn import Discriminator, Regularizer
from ganzoo.options import NoOptions
from ganzoo.plugins import Plugin
from ganzoo.registry import Entry, registry
from ganzoo.training import doctor, parity
from ganzoo.training.device import resolve_device
from ganzoo.training.doctor import Finding, examine, verdict
from ganzoo.training.parity import check, entries

CPU = torch.device("cpu")


class _Wrong(torch.autograd.Function):
    """The square, which in float32 has a wrong value, derivative or second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.where = where
        return x * x * (1.01 if where == "forward" and x.dtype == torch.float32 else 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope = 2 * x * gradient
        if x.dtype == torch.float32 and ctx.where == "backward":
            slope = slope * 1.01
        if x.dtype == torch.float32 and ctx.where == "twice":
            slope = slope + (slope.detach() - slope) * 0.1
        return slope, None


class Suspicious(Discriminator):
    where = "nowhere"

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(spec)
        self.layer = nn.Linear(spec.numel, 1)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        squared: Tensor = _Wrong.apply(self.layer(self.features(x)), self.where)  # type: ignore[no-untyped-call]
        return squared.squeeze(1)


class NotFinite(Suspicious):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(x, y) * (float("nan") if x.dtype == torch.float32 else 1)


class Unsupported(Suspicious):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if x.dtype == torch.float32:
            raise NotImplementedError("The operator 'aten::x' is not\nimplemented for this device.")
        return super().forward(x, y)


class WrongForward(Suspicious):
    where = "forward"


class WrongBackward(Suspicious):
    where = "backward"


class WrongTwice(Suspicious):
    where = "twice"


class NoPenalty(Regularizer):
    """Has nothing to differentiate."""


def entry(kind: Any, target: str) -> Entry:
    return Entry(Component(kind, "made-here", target=f"{__name__}:{target}"), Plugin("mine", "mine", "1", "active"))


@pytest.fixture
def with_mine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Entry], Entry]:
    """A registry that knows an entry of this test."""

    def add(mine: Entry) -> Entry:
        monkeypatch.setattr(type(registry()), "get", lambda _self, _kind, _name: mine)
        return mine

    return add


OURS = [entry for entry in entries() if entry.plugin.builtin]


def test_every_kind_that_can_be_compared_ships() -> None:
    assert {entry.component.kind for entry in OURS} == set(parity.CHECKED)


@pytest.mark.parametrize("which", OURS, ids=lambda entry: f"{entry.component.kind}-{entry.component.name}")
def test_everything_that_ships_agrees_with_float64_here(which: Entry) -> None:
    found = check(which, CPU)
    assert found.verdict == "agrees", found.sentence
    assert found.errors["forward"] < 1e-4
    assert ("twice" in found.errors) == (found.kind in ("generator", "discriminator"))


@pytest.mark.parametrize(
    ("target", "wrong"), [("WrongForward", "forward"), ("WrongBackward", "backward"), ("WrongTwice", "twice")]
)
def test_wrong_arithmetic_is_found(with_mine: Callable[[Entry], Entry], target: str, wrong: str) -> None:
    found = check(with_mine(entry("discriminator", target)), CPU)
    assert found.verdict == "differs"
    too_large = {name for name, error in found.errors.items() if error > parity.TOLERANCE[name]}
    assert wrong in too_large
    if wrong == "twice":
        assert too_large == {"twice"}
    assert "differs (forward" in found.sentence


def test_what_is_right_agrees_and_what_is_not_finite_does_not(with_mine: Callable[[Entry], Entry]) -> None:
    assert check(with_mine(entry("discriminator", "Suspicious")), CPU).verdict == "agrees"
    assert check(with_mine(entry("discriminator", "NotFinite")), CPU).verdict == "differs"


def test_a_failure_is_a_verdict_with_its_reason(with_mine: Callable[[Entry], Entry]) -> None:
    found = check(with_mine(entry("discriminator", "Unsupported")), CPU)
    assert found.verdict == "failed"
    assert found.sentence.startswith("failed: NotImplementedError: The operator 'aten::x' is not implemented")
    assert "does not import" in check(with_mine(entry("generator", "Missing")), CPU).sentence
    assert check(with_mine(entry("regularizer", "NoPenalty")), CPU).verdict == "left out"


def test_a_component_is_tried_with_what_its_own_rules_allow() -> None:
    with installed("particular_parts"):
        assert check(registry().get("generator", "black"), CPU).verdict == "agrees"
        refused = check(registry().get("loss", "never"), CPU)
    assert refused.sentence == "left out: its own rules refuse all samples that are tried"


def test_attention_is_differentiated_twice() -> None:
    with installed("odd_parts"):
        found = check(registry().get("discriminator", "attentive"), CPU)
    assert found.verdict == "agrees", found.sentence
    assert "twice" in found.errors


def test_random_numbers_are_the_same_whatever_the_precision() -> None:
    drawn = []
    for dtype in (torch.float32, torch.float64):
        with parity._same_noise(3):
            like = torch.zeros(3, 2, dtype=dtype)
            rng = torch.Generator()
            drawn.append(
                [
                    torch.rand(2, 2, generator=rng, dtype=dtype),
                    torch.randn_like(like),
                    torch.rand_like(like),
                    torch.randint(0, 9, (4,)),
                    torch.randperm(5),
                ]
            )
            assert drawn[-1][0].dtype == drawn[-1][1].dtype == dtype
    assert all(torch.equal(a.double(), b.double()) for a, b in zip(*drawn, strict=True))


def silent(_text: str) -> None:
    """Nobody listens."""


def test_findings_cover_every_topic_and_say_what_is_being_done() -> None:
    heard: list[str] = []
    found = list(examine("cpu", say=heard.append))
    assert list(dict.fromkeys(finding.topic for finding in found)) == [
        "Versions",
        "Devices",
        "Choices",
        "Folders",
        "Plugins",
        "Parity",
    ]
    checked = [finding.name for finding in found if finding.topic == "Parity"]
    assert checked == [f"{e.component.kind}/{e.component.name}" for e in entries()]
    assert [text.split()[0] for text in heard] == ["torch", "torchvision", *checked]
    sound, sentence = verdict(found)
    assert sound, sentence
    assert sentence.startswith("Sound: runs will use cpu, and its arithmetic agrees")


def test_the_command_in_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "cpu", "--no-parity"]) == 0
    text, err = capsys.readouterr()
    assert err == ""
    assert text.startswith("Versions\n  ok    python: 3.")
    assert "its arithmetic was not checked" in text.splitlines()[-1]
    assert main(["doctor", "--device", "cpu", "--no-parity", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert {"topic", "name", "status", "text", "path", "free", "writable", "exists"} <= set(
        next(item for item in found["findings"] if (item["topic"], item["name"]) == ("Folders", "data"))
    )
    chosen = {item["name"]: item["value"] for item in found["findings"] if item["topic"] == "Choices"}
    assert {"precision", "layout", "convolutions", "critic", "tf32", "compile", "optimiser", "data"} == set(chosen)


def test_a_bad_finding_is_exit_code_1_and_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def findings(*_: object, **__: object) -> Iterator[Finding]:
        yield Finding("Devices", "cpu", "note", "slow")
        yield Finding("Parity", "generator/x", "bad", "differs")

    monkeypatch.setattr(doctor, "examine", findings)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("1 of 2 checks failed: generator/x.\n")
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_broken_and_disabled_plugins_are_found(tmp_path: Path) -> None:
    (tmp_path / "torn.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    env = {**os.environ, "GANZOO_PLUGINS": str(tmp_path / "torn.py"), "GANZOO_DISABLE_PLUGINS": "wgan"}
    line = [sys.executable, "-m", "ganzoo", "doctor", "--no-parity", "--device", "cpu"]
    done = subprocess.run(line, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "bad   torn: of torn, does not load (ModuleNotFoundError: No module named 'nothing_of_this" in done.stdout
    assert "note  wgan: switched off by GANZOO_DISABLE_PLUGINS" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("checks failed: torn.")


@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_it_survives_a_broken_installation(tmp_path: Path, package: str) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise OSError('libc10.so: cannot open')\n", encoding="utf-8")
    line = [sys.executable, "-m", "ganzoo", "doctor", "--no-parity"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(line, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "does not import (OSError: libc10.so: cannot open)" in done.stdout
    assert f"checks failed: {package}." in done.stdout
    assert "Traceback" not in done.stderr


def test_folders_that_cannot_be_written_or_are_nearly_full_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    found = {finding.name: finding for finding in doctor._folders()}
    assert found["weights"].status == "note"
    assert "cannot be written, so downloads need another: set GANZOO_CACHE" in found["weights"].text
    assert found["here"].status == "ok"
    monkeypatch.setattr(doctor, "_LITTLE", 10**18)
    assert {finding.status for finding in doctor._folders() if finding.name == "here"} == {"note"}


@pytest.mark.parametrize("named", ["", "weights.pth", "folder", "nothing"])
@pytest.mark.parametrize("variable", ["", "TORCH_HOME", "XDG_CACHE_HOME"])
def test_weights_are_looked_for_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, variable: str
) -> None:
    (tmp_path / "weights.pth").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    for name in ("TORCH_HOME", "XDG_CACHE_HOME", "GANZOO_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    if named:
        monkeypatch.setenv("GANZOO_WEIGHTS", str(tmp_path / named))
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    found = [finding for finding in doctor._folders() if finding.name == "weights"]
    assert [finding.data["path"] for finding in found] == [str(place) for place in pretrained._places()]
    assert {finding.status for finding in found} == {"ok"}
    if named == "weights.pth":
        assert found[0].text == f"{tmp_path / named} (a file)"


def _given(device: torch.device, **_: object) -> torch.device:
    return device


def test_xpu_and_mps_come_through_the_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("xpu", "mps"):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        present = torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", partial(_given, present))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
        assert resolve_device().device.type == kind
        assert kind.upper() in resolve_device().reason
        assert resolve_device(kind).reason == "asked for"
        assert "stays idle" in (resolve_device("cpu").warning or "")
        with pytest.raises(MissingError, match="there are only 1"):
            resolve_device(f"{kind}:1")
        with pytest.raises(MissingError, match=f"only cpu and {kind} can be used here"):
            resolve_device("cuda")


@pytest.mark.parametrize(("asked", "error"), [("gpu", UsageError), ("", UsageError), ("cpu:x", UsageError)])
def test_a_device_that_does_not_exist_is_refused_before_anything_is_shown(asked: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        next(examine(asked, say=silent))


def test_a_fact_that_fails_does_not_break_show() -> None:
    def fail() -> str:
        raise OSError("no\ndisk")

    part = Component("loss", "x", target="a:b", config=NoOptions, facts={"place": fail, "licence": "MIT"})
    assert part.known_facts() == {"place": "cannot be found out (OSError: no disk)", "licence": "MIT"}
