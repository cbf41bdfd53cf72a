"""``--compile``: what is compiled, that it computes the same, and what happens if not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from installing import installed
from running import DIGITS

from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.testing.training import Session
from ganzoo.training import compiling
from ganzoo.training.build import build_bundle
from ganzoo.training.start import start

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's compiler trips over torch's own warnings
CPU = torch.device("cpu")
SMALL = {**DIGITS, "trainer.steps": 1}


def config(**more: Any) -> RunConfig:
    return resolve([Layer("test", {**SMALL, **more}, optional=True)])


def difference(backend: Any, **more: Any) -> str:
    chosen = config(**more)
    torch._dynamo.reset()
    return compiling.difference(chosen, chosen.spec(), CPU, 4, backend)


@pytest.mark.parametrize(
    ("settings", "critic"),
    [
        ({"loss": "ns"}, True),
        ({"loss": "wgan-clip"}, True),
        ({"loss": "wgan-gp"}, False),
        ({"loss": "ns", "reg": ("r1",)}, False),
        ({"loss": "minimax", "trainer": "unrolled"}, False),
    ],
)
def test_a_critic_that_is_differentiated_twice_is_not_compiled(settings: dict[str, Any], *, critic: bool) -> None:
    one = Session(config(**settings))
    names = [*one.bundle.gen_side.state_dict(), *one.bundle.disc_side.state_dict()]
    assert compiling.apply(one.bundle, one.trainer, CPU, "eager") is critic
    assert [*one.bundle.gen_side.state_dict(), *one.bundle.disc_side.state_dict()] == names


def test_what_is_tried_is_arranged_as_the_run_is() -> None:
    asked = config(**{"run.precision": "fp16", "run.layout": "channels-last"})
    bundle = build_bundle(asked, asked.spec(), CPU)
    assert bundle.precision.name == "fp16"
    weights = [p for p in bundle.disc.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
    assert weights
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


@pytest.mark.parametrize(
    "settings", [{"loss": "ns"}, {"loss": "wgan-gp"}, {"loss": "minimax", "trainer": "unrolled"}, {"gen": "cgan"}]
)
def test_compiled_steps_are_the_same_steps(settings: dict[str, Any]) -> None:
    assert difference("aot_eager", **settings) == ""


def test_a_compiler_that_computes_wrong_is_noticed() -> None:
    def wrong(graph: Any, _: Any) -> Any:
        def computed(*args: Any) -> Any:
            return tuple(value * 1.5 if value.is_floating_point() else value for value in graph(*args))

        return computed

    assert "differs by" in difference(wrong, loss="ns")


def test_rounding_that_the_networks_magnify_themselves_is_not_the_compilers_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first step of Adam is the sign of a gradient, so what is next to zero decides a whole step."""

    def rounding(graph: Any, _: Any) -> Any:
        def computed(*args: Any) -> Any:
            return tuple(v * (1 + 1e-6 * torch.randn_like(v)) if v.is_floating_point() else v for v in graph(*args))

        return computed

    wide = {"gen.width": 64, "disc.width": 64, "disc.norm": "batch"}
    deep = {"data.size": 32, "gen_optim.lr": 0.01, "disc_optim.lr": 0.01, "loss": "ns", **wide}
    torch.manual_seed(0)
    assert difference(rounding, **deep) == ""
    monkeypatch.setattr(compiling, "_TIMES", 0.0)
    assert "differs by" in difference(rounding, **deep)


def test_why_a_compiler_fails_is_told_without_the_advice_of_torch() -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("It has\nno way.")

    said = difference(broken, loss="ns")
    assert said.startswith("torch.compile fails (")
    assert said.endswith("ValueError: It has no way.)")


def test_a_compiler_that_fails_is_told() -> None:
    def failing(_graph: Any, _: Any) -> Any:
        raise ValueError("no such machine")

    said = difference(failing, loss="ns")
    assert said.startswith("torch.compile fails")
    assert "no such machine" in said


CRASHING = """
from dataclasses import dataclass
from ganzoo.api import Component, NoOptions, hookimpl

@hookimpl
def ganzoo_components():
    yield Component("generator", "crashing", target="crashing_parts:Crashing", config=NoOptions, summary="Crashes.")

try:
    import torch
    from torch import nn
    from ganzoo.nn import Generator

    class Crashing(Generator):
        def __init__(self, config, spec):
            super().__init__(spec, 4)
            self.main = nn.Linear(4, spec.numel)
        def forward(self, z, y=None):
            if torch.compiler.is_compiling():
                crash()
            return self.main(z).tanh().reshape(len(z), *self.spec.shape)

    def crash():
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
except ImportError:
    pass
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_run_goes_on_where_compiling_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crashing_parts.py").write_text(CRASHING, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    said: list[str] = []
    with installed("crashing_parts"):
        asked = config(gen="crashing", **{"run.compile": True, "run.out": tmp_path, "run.steps": 1})
        run = start(asked, say=said.append)
    assert run.metrics()[-1]["step"] == 1
    (warning,) = (text for text in said if "--compile" in text)
    assert warning == "Warning: The run goes on without --compile: compiling crashes with this torch (signal 9)."
    settled = {each["name"]: each for each in json.loads((run.path / "config.json").read_text("utf-8"))["decisions"]}
    assert settled["compile"]["value"] == "off"
    assert "compiler" not in settled["convolutions"]["reason"], "what is not compiled may use matrices"
