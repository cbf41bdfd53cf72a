"""Health in words: each failure raises its own warning, healthy runs raise none, and watching changes nothing."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from installing import installed
from torch import Tensor

import ganzoo
from ganzoo import cli
from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.errors import DivergedError
from ganzoo.nn import Batch
from ganzoo.testing import take_steps
from ganzoo.training import advice, checkpoint, monitor
from ganzoo.training.monitor import Monitor
from ganzoo.training.run import Run
from ganzoo.training.start import start
from ganzoo.training.vitals import Examiner, Vitals, broken_names

QUICK: dict[str, Any] = {"run.steps": 200, "run.samples": 4, "run.sample_every": 0, "run.checkpoint_every": 0}
POINTS = {**QUICK, "data": "ring", "run.batch_size": 64}
IMAGES = {**QUICK, "data.size": 8, "disc.width": 8, "run.batch_size": 16}
DIGITS = {**IMAGES, "gen.width": 8}


@pytest.fixture(autouse=True)
def unhealthy() -> Iterator[None]:
    with installed("unhealthy_parts"):
        yield


def configure(settings: dict[str, Any]) -> RunConfig:
    return resolve([Layer("test", settings)])


def train(out: Path, settings: dict[str, Any]) -> tuple[Run, list[str]]:
    said: list[str] = []
    run = start(configure({**settings, "run.out": out}), say=said.append)
    return run, [sentence for sentence in said if sentence.startswith("Warning: ")]


FAILURES: dict[str, tuple[dict[str, Any], str, str]] = {
    "learning rate 10 on points": ({**POINTS, "optim.lr": 10}, "explosion", "-optim.lr 0.0002"),
    "learning rate 10 on images": ({**DIGITS, "optim.lr": 10}, "explosion", "-optim.lr 0.0002"),
    "a generator without gradient": ({**POINTS, "gen": "frozen"}, "frozen-generator", "--gen mlp"),
    "a generator that may not move": ({**POINTS, "gen_optim.lr": 1e-12}, "frozen-generator", "--gen-optim.lr 0.0002"),
    "a constant generator of points": ({**POINTS, "gen": "constant"}, "collapse", "--loss wgan-gp"),
    "a constant generator of images": ({**IMAGES, "gen": "constant"}, "collapse", "--loss wgan-gp"),
    "a critic that may not move": ({**POINTS, "disc_optim.lr": 1e-12}, "generator-wins", "--disc-optim.lr 0.001"),
    "100 critic steps": (
        {**IMAGES, "gen": "mlp", "disc": "mlp", "disc.depth": 1, "run.steps": 150, "trainer.critic_steps": 100},
        "critic-wins",
        "--trainer.critic-steps 1",
    ),
    "a clip that leaves nothing": (
        {**POINTS, "loss": "wgan-clip", "loss.clip": 1e-4},
        "vanishing-gradient",
        "--loss ns",
    ),
    "a penalty without weight": (
        {**POINTS, "loss": "wgan-gp", "loss.gp_weight": 1e-4, "disc_optim.lr": 1e-3},
        "penalty-drift",
        "--loss wgan-gp",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_raises_its_own_warning_within_200_steps(tmp_path: Path, name: str) -> None:
    settings, kind, advised = FAILURES[name]
    run, said = train(tmp_path, settings)
    assert [event["event"] for event in run.events()] == [kind]
    event = run.events()[0]
    assert event["step"] <= 200
    assert said == [f"Warning: {event['message']}"]
    seen, means, command = event["message"].split("; ")
    assert seen.startswith(f"Step {event['step']}: ")
    assert means == f"usually {advice.meaning(kind)}"
    assert advised in command
    words = shlex.split(command.removeprefix("try: "))
    assert words[:2] == ["ganzoo", "run"]
    assert cli.main([*words[1:], "--dry-run"]) == 0


HEALTHY: dict[str, dict[str, Any]] = {
    "the default": {"run.steps": 300, "run.samples": 4, "gen.width": 16, "disc.width": 16},
    "narrow digits": {**DIGITS, "run.steps": 400},
    "wgan-gp": {**DIGITS, "loss": "wgan-gp"},
    "wgan-clip": {**DIGITS, "loss": "wgan-clip"},
    "hinge, conditional": {**DIGITS, "gen": "cgan", "loss": "hinge"},
    "rpgan with penalties": {**DIGITS, "loss": "rpgan", "reg": ("r1", "r2"), "gen.norm": "none"},
    "ring": {**QUICK, "data": "ring", "run.steps": 600},
    "ring, wgan-gp": {**POINTS, "loss": "wgan-gp"},
    "ring, wgan-clip": {**POINTS, "loss": "wgan-clip"},
    "ring, unrolled": {**POINTS, "trainer": "unrolled"},
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_raise_no_warning(tmp_path: Path, name: str) -> None:
    run, said = train(tmp_path, HEALTHY[name])
    assert not said
    assert not run.events()


def test_nan_in_the_data_is_told_from_a_training_that_diverged(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"^Step \d: real samples hold NaN .* ganzoo show dataset/holed$"):
        train(tmp_path, {**POINTS, "data": "holed", "data.at": 7, "gen": "mlp", "disc": "mlp"})
    assert DivergedError.exit_code == 3
    (run,) = (Run.open(path) for path in tmp_path.iterdir())
    (event,) = run.events()
    assert event["event"] == "non-finite"
    assert event["step"] == int(event["message"].split()[1].rstrip(":"))
    assert not checkpoint.list_all(run.checkpoints)


def test_the_step_the_term_and_the_parameter_are_named_and_the_last_good_state_is_kept(tmp_path: Path) -> None:
    settings = {**POINTS, "gen": "simple", "reg": ("rooted",), "reg.rooted.at": 77}
    with pytest.raises(DivergedError) as caught:
        train(tmp_path, settings)
    message = str(caught.value)
    assert message.startswith("Step 77: the generator's loss became NaN or infinite")
    assert "the gradient of disc.main.0.weight" in message
    assert "the gradient of gen.layer.weight (the first of 2 of its 2)" in message
    (run,) = (Run.open(path) for path in tmp_path.iterdir())
    kept = checkpoint.newest_good(run.path)
    assert kept.name == "step-00000050"
    assert str(kept) in message
    # What is kept is what a run that never went on would have.
    other = {**settings, "run.steps": 50, "run.name": "other"}
    straight = checkpoint.newest_good(train(tmp_path, other)[0].path)
    assert (kept / checkpoint.MODEL).read_bytes() == (straight / checkpoint.MODEL).read_bytes()
    assert (kept / checkpoint.OPTIMIZER).read_bytes() == (straight / checkpoint.OPTIMIZER).read_bytes()


def test_a_newer_checkpoint_is_not_replaced_by_an_older_state(tmp_path: Path) -> None:
    settings = {**POINTS, "gen": "simple", "reg": ("rooted",), "reg.rooted.at": 77, "run.checkpoint_every": 30}
    with pytest.raises(DivergedError, match=r"Step 77: .*step-00000060"):
        train(tmp_path, settings)


def test_a_term_is_named(tmp_path: Path) -> None:
    settings = {**POINTS, "reg": ("r1",), "reg.r1.gamma": 1e39}
    with pytest.raises(DivergedError, match=r"Step 1: the term r1, the critic's loss and .* of disc\.main\.0\.weight"):
        train(tmp_path, settings)


def test_no_state_with_a_broken_weight_is_saved(tmp_path: Path) -> None:
    """A gradient may be NaN where the loss is not, in the last step of all."""
    settings = {**POINTS, "gen": "simple", "reg": ("rooted",), "reg.rooted.at": 9, "run.steps": 9}
    with pytest.raises(DivergedError, match="Step 9: "):
        train(tmp_path, settings)
    (run,) = (Run.open(path) for path in tmp_path.iterdir())
    assert not checkpoint.list_all(run.checkpoints)


def test_watching_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**DIGITS, "run.steps": 60, "disc.norm": "spectral", "disc.dropout": 0.2, "data.size": 16}

    def weights(name: str) -> bytes:
        run, _ = train(tmp_path, {**settings, "run.name": name})
        return (checkpoint.newest_good(run.path) / checkpoint.MODEL).read_bytes()

    watched = weights("watched")
    monkeypatch.setattr(Monitor, "due", lambda *_: False)
    assert weights("unwatched") == watched


def test_events_do_not_disturb_the_readers_of_metrics(tmp_path: Path) -> None:
    run, _ = train(tmp_path, {**POINTS, "gen": "constant", "run.name": "r", "run.checkpoint_every": 100})
    assert [line["step"] for line in run.metrics()] == [50, 100, 150, 200]
    assert all("loss_d" in line for line in run.metrics())
    assert [line["step"] for line in run.lines()] == [50, 100, 150, 150, 200]
    assert all(json.loads(text) for text in run.metrics_file.read_text().splitlines())
    run.rewind_metrics(150)
    assert [line["step"] for line in run.lines()] == [50, 100, 150, 150]
    run.rewind_metrics(149)
    assert not run.events()
    resumed = ganzoo.train({}, resume=run.path, steps=360)
    assert [event["step"] for event in resumed.events()] == [350]


def test_the_command_line_prints_the_warning_and_the_last_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", "ring", "--gen", "constant", "--steps", "150", "--sample-every", "0", "--samples", "4"]
    assert cli.main(["run", *flags, "--out", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.count("Warning: Step 150: the generator draws nearly the same sample") == 1
    assert json.loads(out)["metrics"]["step"] == 150
    assert "loss_d" in json.loads(out)["metrics"]


def vitals(**values: float) -> Vitals:
    healthy = Vitals(
        diversity=0.9, spread=0.9, above=0.7, critic_push=0.8, gen_push=0.9, gen_gradient=1e-3, gen_moved=0.1,
        gen_size=0.1, gen_grown=1.0, disc_size=0.1, disc_grown=1.0, at_bound=0.0, slope=1.0,
    )  # fmt: skip
    return replace(healthy, **values)


class Script(Monitor):
    """A monitor that sees what it is told to."""

    def __init__(self, *looks: Vitals) -> None:
        config = configure(POINTS)
        bundle, _ = take_steps(config, 0)
        super().__init__(config, bundle, ganzoo.create("dataset", "ring", config.spec()))
        assert self._examiner is not None
        self._examiner.look = iter(looks).__next__  # type: ignore[method-assign]
        self.kinds = [[event.kind for event in self.look(50 * (i + 1))] for i in range(len(looks))]


OK = vitals()


@pytest.mark.parametrize(
    ("sick", "looks", "kind"),
    [
        ({"diversity": 0.01}, 3, "collapse"),
        ({"diversity": 0.2}, monitor.LONG, "collapse"),
        ({"gen_moved": 0.0}, 2, "frozen-generator"),
        ({"gen_size": 9.0, "gen_grown": 90.0}, 1, "explosion"),
        ({"disc_size": 9.0, "disc_grown": 90.0, "diversity": 0.0}, 1, "explosion"),
        ({"gen_gradient": 0.0}, 3, "vanishing-gradient"),
        ({"gen_push": 0.01, "above": 1.0, "critic_push": 0.01}, 3, "vanishing-gradient"),
        ({"above": 0.999, "critic_push": 0.01}, 3, "critic-wins"),
        ({"above": 0.0}, 3, "generator-wins"),
        ({"at_bound": 1.0}, 3, "clip-saturation"),
        ({"slope": 0.01}, 4, "penalty-drift"),
        ({"slope": 50.0}, 4, "penalty-drift"),
    ],
)
def test_a_warning_needs_several_looks_and_is_given_once_until_it_clears(
    sick: dict[str, float], looks: int, kind: str
) -> None:
    bad, quiet = vitals(**sick), 2 * monitor.LONG
    script = Script(*[bad] * (looks + 3), *[OK] * quiet, *[bad] * (looks + monitor.LONG))
    said = [(index + 1, kinds) for index, kinds in enumerate(script.kinds) if kinds]
    assert said[0] == (looks, [kind])
    assert [kinds for _, kinds in said] == [[kind], [kind]]
    assert said[1][0] > looks + 3 + quiet


def test_what_passes_or_grows_or_is_no_number_is_no_failure() -> None:
    flat = vitals(diversity=0.01)
    assert not any(Script(flat, flat, OK, flat, flat, OK).kinds)
    assert not any(Script(*(vitals(diversity=0.001 * 1.3**i) for i in range(14))).kinds)
    nothing = vitals(**dict.fromkeys(vars(OK), float("nan")))
    assert not any(Script(*[nothing] * 20).kinds)


def test_a_gradient_that_fades_from_what_it_was_vanishes() -> None:
    script = Script(*[OK] * 6, *[vitals(gen_gradient=1e-7)] * 3)
    assert script.kinds[-1] == ["vanishing-gradient"]


def test_looks_become_rarer() -> None:
    script, looked = Script(), []
    for step in range(10, 10_001, 10):
        if script.due(step):
            looked.append(step)
            script._last = step
    assert looked[:10] == list(range(50, 501, 50))
    assert {b - a for a, b in zip(looked[-10:], looked[-9:], strict=False)} == {250}
    assert len(looked) < 70


@pytest.mark.parametrize("loss", ganzoo.list_components("loss"))
def test_pushes_are_1_where_the_critic_knows_nothing(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each loss by its own measure: 1 for logits of 0; where a Wasserstein critic stays there, others fall."""
    config = configure({**POINTS, "loss": loss})
    bundle, _ = take_steps(config, 0)
    real = ganzoo.create("dataset", "ring", config.spec()).draw(64, torch.Generator().manual_seed(0))
    examiner = Examiner(bundle, real, bundle.gen.latent(64, torch.Generator().manual_seed(0)), by_class=False)

    def look(scale: float) -> Vitals:
        sign = iter((scale, -scale))
        monkeypatch.setattr(bundle.disc, "forward", lambda x, _: next(sign) * torch.ones(len(x)))
        return examiner.look()

    if not any(reg.slope for reg in bundle.regularizers):
        knows_nothing, certain = look(0.0), look(30.0)
        assert knows_nothing.critic_push == pytest.approx(1, rel=1e-5)
        assert knows_nothing.gen_push == pytest.approx(1, rel=1e-5)
        assert certain.above == 1
        if loss not in ("wgan-clip", "lsgan"):
            assert certain.critic_push < 1e-6
        if loss == "minimax":
            assert certain.gen_push < 1e-6


def test_diversity_is_within_a_class_where_labels_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure({**DIGITS, "gen": "cgan"})
    bundle, _ = take_steps(config, 0)
    y = torch.arange(40) % 10
    real = Batch(torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)), y)
    latents = bundle.gen.latent(40, torch.Generator().manual_seed(0))

    class OnePerClass(torch.nn.Module):
        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            return y.float()[:, None, None, None].expand(-1, 1, 8, 8)

    monkeypatch.setattr(bundle.gen, "forward", OnePerClass().forward)
    assert Examiner(bundle, real, latents, by_class=True).look().diversity == 0
    assert Examiner(bundle, real, latents, by_class=False).look().diversity > 0.3


def test_broken_names() -> None:
    bad = torch.tensor([1.0, float("inf")])
    assert broken_names([]) == []
    assert broken_names([("a", torch.ones(2)), ("b", bad), ("n", torch.ones(2, dtype=torch.int64))]) == ["b"]
    assert broken_names([("huge", torch.full((4,), 3e38)), ("nan", bad * float("nan"))]) == ["nan"]


def test_a_part_that_cannot_be_watched_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Examiner) -> Vitals:
        raise ValueError("no logits")

    monkeypatch.setattr(Examiner, "look", fails)
    with caplog.at_level(logging.WARNING):
        run, said = train(tmp_path, POINTS)
    assert run.metrics()[-1]["step"] == 200
    assert not said
    assert caplog.text.count("cannot be watched") == 1


@pytest.mark.parametrize("kind", advice.KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"data": "ring"},
        {"loss": "wgan-gp"},
        {"loss": "wgan-clip", "gen": "cgan"},
        {"data.size": 32, "disc.norm": "batch"},
        {"trainer": "unrolled", "data": "swissroll", "run.name": "x", "run.out": Path("my runs")},
    ],
    ids=str,
)
def test_every_advice_is_a_command_that_the_rules_allow(kind: str, settings: dict[str, Any]) -> None:
    config = configure(settings)
    command = advice.to_try(kind, config)
    assert cli.main([*shlex.split(command)[1:], "--dry-run"]) == 0
    assert "--name" not in command
    assert "--out" not in command


def test_advice_keeps_what_the_user_set_and_takes_the_recipe_of_what_is_new() -> None:
    config = configure({"data": "ring", "gen.width": 32, "run.steps": 77, "optim.lr": 0.1})
    assert advice.changed(config, {"loss": "wgan-gp"}) is not None
    command = str(advice.changed(configure({"gen.width": 32, "run.steps": 77}), {"loss": "wgan-gp"}))
    assert command == "ganzoo run --loss wgan-gp --gen.width 32 --steps 77 -p unhealthy_parts"
    assert advice.changed(configure({"disc.norm": "batch", "data.size": 32}), {"loss": "wgan-gp"}) is None
    assert advice.changed(configure({"loss": "wgan-gp"}), {"loss": "wgan-gp"}) is None


def test_the_health_page_tells_of_every_warning() -> None:
    page = (Path(__file__).parent.parent / "docs" / "health.md").read_text(encoding="utf-8")
    assert all(f"## `{kind}`" in page for kind in advice.KINDS)
