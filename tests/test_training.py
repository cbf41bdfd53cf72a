"""The run: resuming to the byte, checkpoints that are believed only when whole, signals, divergence, observers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import DIGITS, flags, wait_for
from torch import nn

import ganzoo
from ganzoo.api import Spec, hookimpl
from ganzoo.config import Layer, resolve
from ganzoo.errors import DivergedError, GanzooError, MissingError, UsageError
from ganzoo.nn import EMA, Noise
from ganzoo.registry import build
from ganzoo.testing import take_steps
from ganzoo.training import checkpoint
from ganzoo.training.build import check_what_was_built
from ganzoo.training.device import resolve_device
from ganzoo.training.run import Run

TINY: dict[str, Any] = {
    **DIGITS,
    "run.log_every": 3,
    "run.sample_every": 4,
    "run.checkpoint_every": 2,
    "run.keep_last": 10,
}


def train(out: Path, steps: int, settings: dict[str, Any] | None = None, **kwargs: Any) -> Run:
    merged = {**TINY, **(settings or {}), "run.out": out}
    if merged["data"] != "digits":
        del merged["data.size"]
    return ganzoo.train(merged, steps=steps, **kwargs)


def files_of(run: Run, step: int) -> dict[str, bytes]:
    folder = run.checkpoints / f"step-{step:08d}"
    picture = run.samples / f"step-{step:08d}.png"
    return {
        path.name: path.read_bytes()
        for path in (folder / "model.safetensors", folder / "optimizer.safetensors", picture)
    }


RESUMED: list[dict[str, Any]] = [
    {"loss": "ns"},
    {"loss": "ns", "run.precision": "bf16", "gen.norm": "none"},
    {"loss": "ns", "run.precision": "fp16", "run.layout": "channels-last", "data.size": 16},
    {"loss": "wgan-gp", "trainer.critic_steps": 2},
    {"loss": "wgan-clip", "trainer.critic_steps": 2, "loss.warmup": True, "data.size": 16},
    {"loss": "hinge", "gen": "cgan", "reg": ("r1", "r2")},
    {"loss": "rpgan", "disc.norm": "spectral", "disc.dropout": 0.3, "data.size": 16},
    {"trainer": "unrolled", "trainer.steps": 2},
    {"trainer": "unrolled", "trainer.steps": 1, "loss": "wgan-gp", "trainer.critic_steps": 2},
    {"trainer": "unrolled", "trainer.steps": 2, "data": "ring"},
    {"data": "swissroll", "loss": "lsgan", "reg": ("dragan", "gp"), "run.ema_half_life": 0},
]


@pytest.mark.parametrize("settings", RESUMED, ids=lambda settings: "-".join(map(str, settings.values())))
def test_a_resumed_run_equals_a_straight_one_byte_for_byte(tmp_path: Path, settings: dict[str, Any]) -> None:
    straight = train(tmp_path / "straight", 7, settings)
    halted = train(tmp_path / "halted", 3, settings)
    torch.manual_seed(99)
    resumed = ganzoo.train({}, resume=halted.path, steps=7)
    assert resumed.path == halted.path
    assert files_of(resumed, 7) == files_of(straight, 7)
    ours, theirs = ([line["step"] for line in run.metrics()] for run in (resumed, straight))
    assert sorted({*ours, *theirs}) == ours  # the straight run's lines, and one where it halted
    for mine, its in ((m, i) for m in resumed.metrics() for i in straight.metrics() if m["step"] == i["step"] == 6):
        assert mine["step"] == its["step"]


def started(out: Path, steps: int, stderr: int, **settings: Any) -> subprocess.Popen[bytes]:
    """A run in a process of its own, in the folder ``r``."""
    words = flags({**TINY, "run.out": out, "run.name": "r", **settings, "run.steps": steps})
    return subprocess.Popen([sys.executable, "-m", "ganzoo", "run", *words], stderr=stderr)


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    settings = {"run.checkpoint_every": 20, "run.keep_last": 2}
    straight = train(tmp_path / "straight", 400, settings)
    process = started(tmp_path, 400, subprocess.DEVNULL, **settings)
    run = tmp_path / "r"
    wait_for((run / "checkpoints" / "step-00000040").exists, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Run.open(run).checkpoints.is_dir()
    resumed = ganzoo.train({}, resume=run)
    assert files_of(resumed, 400) == files_of(straight, 400)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_saves_and_leaves(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    process = started(tmp_path, 10**6, subprocess.PIPE, **{"run.checkpoint_every": 0, "run.log_every": 1})
    wait_for((tmp_path / "r" / "metrics.jsonl").exists, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "--resume" in err.decode()
    assert "Traceback" not in err.decode()
    saved = checkpoint.newest_good(tmp_path / "r")
    step = json.loads((saved / "state.json").read_text())["step"]
    assert Run.open(tmp_path / "r").metrics()[-1]["step"] == step


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("trained"), 4)


@pytest.fixture
def copied(trained: Run, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(trained.path, tmp_path / "run"))


FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 1.0])
def test_a_flipped_byte_is_noticed_and_the_one_before_is_used(copied: Run, file: str, where: float) -> None:
    target = copied.checkpoints / "step-00000004" / file
    data = bytearray(target.read_bytes())
    data[int(where * (len(data) - 1))] ^= 0xFF
    target.write_bytes(bytes(data))
    heard: list[str] = []
    assert checkpoint.newest_good(copied.path, heard.append).name == "step-00000002"
    assert "step-00000004 is passed over" in heard[0]


@pytest.mark.parametrize("file", FILES)
def test_a_missing_or_short_file_is_noticed(copied: Run, file: str) -> None:
    newest = copied.checkpoints / "step-00000004"
    whole = (newest / file).read_bytes()
    (newest / file).write_bytes(whole[: len(whole) // 2])
    assert checkpoint.problem(newest)
    (newest / file).unlink()
    assert checkpoint.problem(newest) == f"{file} is missing"
    resumed = ganzoo.train({}, resume=copied.path, steps=5)
    assert resumed.metrics()[-1]["step"] == 5


def test_no_good_checkpoint_is_said(copied: Run) -> None:
    for manifest in copied.checkpoints.glob("*/manifest.json"):
        manifest.unlink()
    with pytest.raises(MissingError, match="none of its checkpoints is whole"):
        ganzoo.train({}, resume=copied.path, steps=9)


def test_drafts_of_a_killed_process_are_swept(copied: Run) -> None:
    draft = copied.checkpoints / ".step-00000006.0badc0de.tmp"
    draft.mkdir()
    ganzoo.train({}, resume=copied.path, steps=5)
    assert not draft.exists()


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run = train(tmp_path, 9, {"run.keep_last": 2})
    assert [path.name for path in checkpoint.list_all(run.checkpoints)] == ["step-00000009", "step-00000008"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"loss": "hinge"}, "loss"), ({"gen.width": 8}, "gen.width"), ({"seed": 3}, "seed"), ({"reg": ("r1",)}, "reg")],
)
def test_changed_settings_are_refused_by_name(copied: Run, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=rf"cannot be continued.*{words}"):
        ganzoo.train(changes, resume=copied.path)


def test_resume_auto_finds_the_run_or_starts_one(tmp_path: Path) -> None:
    first = train(tmp_path, 2)
    again = train(tmp_path, 4, resume="auto")
    other = train(tmp_path, 2, {"run.seed": 1}, resume="auto")
    assert again.path == first.path
    assert again.metrics()[-1]["step"] == 4
    assert other.path != first.path


def test_the_configuration_in_the_directory_repeats_the_run(trained: Run, tmp_path: Path) -> None:
    again = ganzoo.train(trained.path / "config.json", out=tmp_path)
    assert files_of(again, 4) == files_of(trained, 4)


def test_one_seed_drives_everything(tmp_path: Path, trained: Run) -> None:
    other = train(tmp_path, 4, {"run.seed": 1})
    assert all(files_of(other, 4)[name] != data for name, data in files_of(trained, 4).items())


def test_divergence_stops_with_its_own_error_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    settings = {"data": "ring", "run.log_every": 1, "run.checkpoint_every": 1, "run.name": "boom", "loss": "lsgan"}
    train(tmp_path, 2, settings)
    layers = {"gen_optim.name": "sgd", "disc_optim.name": "sgd", "optim.lr": 1e30}
    with pytest.raises(DivergedError, match="NaN or infinite"):
        train(tmp_path / "b", 50, {**settings, **layers})
    assert DivergedError.exit_code == 3
    for path in checkpoint.list_all(tmp_path / "b" / "boom" / "checkpoints"):
        assert all(torch.isfinite(tensor).all() for tensor in checkpoint.load(path).model.values())


def test_ema_after_n_updates_is_1_minus_beta_to_the_n() -> None:
    config = resolve([Layer("test", TINY)])
    gen = build(config.gen, Spec((1, 8, 8)))
    for parameter in gen.parameters():
        nn.init.zeros_(parameter)
    ema = EMA(gen, half_life=100, ramp=0)
    for parameter in gen.parameters():
        nn.init.ones_(parameter)
    for buffer in gen.buffers():
        buffer.fill_(7)
    for step in range(5):
        ema.update(gen, images=10 * (step + 1), batch_size=10)
    beta = 0.5**0.1
    for parameter in ema.module.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1 - beta**5))
    assert all(bool((buffer == 7).all()) for buffer in ema.module.buffers())
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())


def test_ema_follows_new_buffers_and_another_generator() -> None:
    gen, other = (torch.nn.BatchNorm1d(2) for _ in range(2))
    ema = EMA(gen, half_life=10, ramp=0)  # type: ignore[arg-type]
    gen.running_mean = torch.ones(2)
    ema.update(gen, images=10, batch_size=10)  # type: ignore[arg-type]
    assert torch.equal(ema.module.get_buffer("running_mean"), torch.ones(2))
    torch.nn.init.constant_(other.weight, 3.0)
    ema.update(other, images=20, batch_size=10)  # type: ignore[arg-type]
    assert torch.equal(ema.module.get_buffer("running_mean"), torch.zeros(2))
    assert torch.equal(ema.module.get_parameter("weight"), torch.full((2,), 2.0))


def test_ema_forgets_the_start_by_its_ramp() -> None:
    gen = build(resolve([Layer("test", TINY)]).gen, Spec((1, 8, 8)))
    ema = EMA(gen, half_life=1000, ramp=0.05)
    assert ema.beta(images=1000, batch_size=10) == pytest.approx(0.5 ** (10 / 50))
    assert ema.beta(images=10**6, batch_size=10) == pytest.approx(0.5 ** (10 / 1000))


def test_noise_follows_from_seed_step_and_rank() -> None:
    def draw(seed: int, step: int, rank: int) -> tuple[float, float]:
        noise = Noise(seed, torch.device("cpu"), rank)
        noise.begin(step)
        return torch.rand((), generator=noise.rng).item(), torch.rand(()).item()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(*which) for which in ((1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 0))}) == 4


@pytest.mark.parametrize("asked", ["cuda", "mps", "xpu", "cuda:9"])
def test_a_missing_device_is_said(asked: str) -> None:
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    with pytest.raises(MissingError, match=r"asked for, but only cpu"):
        resolve_device(asked)


@pytest.mark.parametrize("asked", ["gpu", "cuda:x", "", "meta"])
def test_a_wrong_device_is_said(asked: str) -> None:
    with pytest.raises(UsageError, match="There is no device"):
        resolve_device(asked)


class Watcher:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @hookimpl
    def ganzoo_run_start(self, run: Run) -> None:
        self.seen.append(f"start {run.first_step}")

    @hookimpl
    def ganzoo_step_end(self, step: int, metrics: dict[str, torch.Tensor]) -> None:
        self.seen.append(f"step {step} {sorted(metrics)[0]}")

    @hookimpl
    def ganzoo_samples(self, step: int, images: torch.Tensor) -> None:
        self.seen.append(f"samples {step} {tuple(images.shape)}")

    @hookimpl
    def ganzoo_checkpoint_saved(self, path: Path) -> None:
        self.seen.append(f"saved {path.name}")

    @hookimpl
    def ganzoo_run_end(self, error: BaseException | None) -> None:
        self.seen.append(f"end {error}")


class Failing:
    calls = 0

    @hookimpl
    def ganzoo_step_end(self, step: int) -> None:
        Failing.calls += 1
        raise ValueError("oops")


def test_observers_see_a_run_and_one_that_fails_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher()
    train(tmp_path, 2, observers=[Failing(), watcher])
    assert watcher.seen == [
        "start 0", "samples 0 (4, 1, 8, 8)", "step 1 d_fake", "step 2 d_fake", "samples 2 (4, 1, 8, 8)",
        "saved step-00000002", "end None",
    ]  # fmt: skip
    assert Failing.calls == 1
    assert "left out" in caplog.text


def test_strict_plugins_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_STRICT_PLUGINS", "1")
    with pytest.raises(ValueError, match="oops"):
        train(tmp_path, 2, observers=[Failing()])


def test_a_batch_norm_that_a_critic_does_not_declare_is_seen() -> None:
    config = resolve([Layer("test", {**TINY, "loss": "wgan-gp"})])
    bundle, _ = take_steps(config, 1)
    bundle.disc.add_module("hidden", nn.BatchNorm2d(4))
    with pytest.raises(UsageError, match="batch"):
        check_what_was_built(config.plan(), bundle)


def test_wgan_clip_keeps_every_critic_weight_within_c(tmp_path: Path) -> None:
    run = train(tmp_path, 3, {"loss": "wgan-clip", "data.size": 16})
    saved = checkpoint.load(checkpoint.newest_good(run.path)).model
    weights = {name: value for name, value in saved.items() if name.startswith("disc.") and "running" not in name}
    inside = [name for name, value in weights.items() if "num_batches" not in name and value.abs().max() > 0.01]
    assert not inside


def test_where_a_run_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GanzooError, match=r"is a file, .* choose another"):
        train(tmp_path / "file", 1)
    train(tmp_path, 1, {"run.name": "twice"})
    with pytest.raises(UsageError, match="--resume"):
        train(tmp_path, 1, {"run.name": "twice"})
    with pytest.raises(UsageError, match="without slashes"):
        train(tmp_path, 1, {"run.name": "../twice"})


def test_nothing_in_a_run_is_a_pickle(trained: Run) -> None:
    endings = {path.suffix for path in trained.path.rglob("*") if path.is_file()}
    assert endings == {".json", ".jsonl", ".png", ".safetensors"}


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        run = train(tmp_path, 1)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in run.path.rglob("*") if path.is_file()}
    assert modes == {0o644}


def test_points_of_any_dimension_are_drawn(tmp_path: Path) -> None:
    for dimension in (1, 3, 5):
        file = tmp_path / f"{dimension}.npz"
        np.savez(file, x=np.random.default_rng(0).normal(size=(40, dimension)).astype(np.float32))
        run = ganzoo.train({"data": "npz", "data.path": file, "gen": "mlp", "disc": "mlp"}, out=tmp_path, steps=1)
        assert run.last_grid() is not None


def test_a_damaged_line_of_metrics_costs_that_line_alone(copied: Run) -> None:
    lines = copied.metrics_file.read_bytes().splitlines(keepends=True)
    copied.metrics_file.write_bytes(b"5\n" + b'{"step": 1, \xff\n' + b"".join(lines))
    resumed = ganzoo.train({}, resume=copied.path, steps=6)
    assert [line["step"] for line in resumed.metrics()] == [3, 4, 6]


def test_a_run_that_is_done_is_left_as_it_is(copied: Run) -> None:
    before = (copied.path / "config.json").read_bytes()
    ganzoo.train({}, resume=copied.path, steps=2)
    assert (copied.path / "config.json").read_bytes() == before


def test_determinism_ends_with_the_run(tmp_path: Path) -> None:
    train(tmp_path, 1, {"run.deterministic": True})
    assert not torch.are_deterministic_algorithms_enabled()
