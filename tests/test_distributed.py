"""Several processes that train as one: real ones, with gloo on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import several
import torch
from group import environment, read, run_three
from running import wait_for

import ganzoo
from ganzoo import processes
from ganzoo.cli import main
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.processes import Place
from ganzoo.training import checkpoint
from ganzoo.training.alike import checksum
from ganzoo.training.alone import place_of
from ganzoo.training.launch import count
from ganzoo.training.run import Run

SMALL = ["--data", "ring", "--gen", "mlp", "--disc", "mlp", "--gen.width", "6", "--disc.width", "6", "--samples", "4"]

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``several.py`` left: three processes, of which two go on, and one of these before the other expects it.

    Beside their runs there is one that was begun in one process.
    """
    out = tmp_path_factory.mktemp("several")
    ganzoo.train(several.whole(out), name="solo", steps=6)
    run_three("several.py", out, (1, 0, 0))
    return out


@pytest.fixture(scope="module")
def pair(out: Path) -> tuple[Path, Found]:
    """What two processes found, and the folder of their runs."""
    return out, read(out, 2)


@pytest.fixture(scope="module")
def three(out: Path) -> Found:
    """The same of three processes, which make no runs."""
    return read(out, 3)


def test_two_processes_give_the_gradients_of_one_on_the_joined_batch(pair: tuple[Path, Found]) -> None:
    apart = pair[1][0]["apart"]
    named = {word for name in apart for word in name.split("/")}
    assert {"alternating", "unrolled", "wgan-gp", "rpgan", "dragan", "lazy-r1"} <= named
    assert max(apart.values()) < 1e-9, {name: value for name, value in apart.items() if value >= 1e-9}


def test_three_processes_too(three: Found) -> None:
    apart = three[2]["apart"]
    assert len(apart) >= 6
    assert max(apart.values()) < 1e-9


def test_unrolled_steps_may_be_computed_again(pair: tuple[Path, Found], three: Found) -> None:
    assert all(found["again"] < 1e-9 for found in (*pair[1], *three))


def test_weights_and_moments_stay_bit_equal_over_200_steps_with_a_lazy_penalty(
    pair: tuple[Path, Found],
) -> None:
    first, second = (found["lazy"] for found in pair[1])
    assert first == second
    assert first["factor"] != 1  # the penalty's own parameter has learned


def test_missing_gradients_count_as_zeros_and_buffers_are_averaged(pair: tuple[Path, Found], three: Found) -> None:
    for world, found in ((2, pair[1]), (3, three)):
        for here in found:
            middle = (world - 1) / 2
            there = 6.0 / world
            assert here["unequal"] == {
                "here": [middle] * 2,
                "there": [there] * 2,
                "nowhere": True,
                "buffer": middle,
                "finite": False,
            }


def test_a_signal_to_one_process_is_agreed_by_all(pair: tuple[Path, Found], three: Found) -> None:
    for found in (*pair[1], *three):
        assert found["votes"] == [0, 0, signal.SIGTERM, signal.SIGTERM]


def test_processes_that_differ_in_one_bit_end_the_run(pair: tuple[Path, Found], three: Found) -> None:
    assert {found["differing"] for found in pair[1]} == {pair[1][0]["differing"]}
    assert pair[1][0]["differing"].startswith("After step 7 the weights of process 1 are not those of process 0")
    assert "process 1, 2 are" in three[0]["differing"]


def test_a_process_that_is_gone_is_told_in_a_sentence(out: Path) -> None:
    assert "Another process of this run is gone" in (out / "lost.txt").read_text(encoding="utf-8")


def test_resuming_on_as_many_processes_is_exact(pair: tuple[Path, Found]) -> None:
    out = pair[0]
    for name in (checkpoint.MODEL, checkpoint.OPTIMIZER):
        straight, halves = (out / run / "checkpoints" / "step-00000012" / name for run in ("straight", "halves"))
        assert straight.read_bytes() == halves.read_bytes()
    grids = [(out / run / "samples" / "step-00000012.png").read_bytes() for run in ("straight", "halves")]
    assert grids[0] == grids[1]


def test_a_run_goes_on_with_another_number_of_processes(pair: tuple[Path, Found]) -> None:
    out = pair[0]
    ganzoo.train(several.whole(out), resume=out / "straight", steps=14)
    for name, step, world in (("solo", 12, 2), ("straight", 14, 1)):
        saved = checkpoint.newest_good(out / name)
        state = json.loads((saved / checkpoint.STATE).read_text(encoding="utf-8"))
        assert (state["step"], state["position"]) == (step, 12 * step)
        config = json.loads((out / name / "config.json").read_text(encoding="utf-8"))
        backend = "gloo" if world == 2 else None
        assert config["processes"] == {"world": world, "backend": backend, "batch_per_process": 12 // world}


def test_one_process_alone_writes(pair: tuple[Path, Found]) -> None:
    lines = (pair[0] / "halves" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 6, 8, 12]


def test_all_processes_raise_the_same(pair: tuple[Path, Found]) -> None:
    first, second = pair[1]
    assert first["diverged"].startswith("Step ")
    assert first["diverged"] == second["diverged"]
    assert "A batch of 13 does not divide evenly between 2 processes" in first["uneven"]
    assert first["taken"] == second["taken"]
    assert "There is a run" in second["taken"]


@pytest.mark.usefixtures("hiccups")
def test_bad_numbers_scores_and_time_keep_the_processes_together(pair: tuple[Path, Found]) -> None:
    out, (first, second) = pair
    assert first["limited"] == second["limited"]
    assert "1 updates were skipped, and 0 are allowed" in first["limited"]
    assert first["unscored"] == second["unscored"]
    assert "cannot be told by 'fid'" in first["unscored"]
    for name, trouble, attempts in (("skip", "skipped", 0), ("rollback", "rollback", 2)):
        run = Run.open(out / name)
        assert trouble in {event["event"] for event in run.events()}
        state = checkpoint.load(checkpoint.newest_good(run.path)).state
        assert state["nonfinite"] == {"attempt": attempts, "skipped": 1 if name == "skip" else 0}
        assert state["step"] == run.metrics()[-1]["step"]
        steps = [line["step"] for line in run.scores()]
        assert steps == sorted({*range(4, state["step"], 4), state["step"]})
        assert checkpoint.best(run.checkpoints) == run.checkpoints / checkpoint.name_of(state["best"]["step"])


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """``ganzoo run --devices 2`` after its first checkpoint, in a folder."""
    command = ["-m", "ganzoo", "run", *SMALL, "--devices", "2", "--steps", "1000000", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, *command, "--out", tmp_path, "--name", "it", "--checkpoint-every", "10"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    wait_for(lambda: any((tmp_path / "it" / "checkpoints").glob("step-*")), process, 180)
    yield process, tmp_path / "it"
    if process.poll() is None:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_signal_ends_all_with_everything_saved(run: tuple[subprocess.Popen[str], Path]) -> None:
    process, path = run
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.startswith("Error: SIGTERM: stopped after step ")
    assert said.count("\n") == 1
    step = int(said.split("step ")[1].split()[0])
    assert checkpoint.newest_good(path).name == checkpoint.name_of(step)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the processes are found by /proc")
def test_a_killed_process_ends_the_run_with_a_sentence_and_a_good_checkpoint(
    run: tuple[subprocess.Popen[str], Path],
) -> None:
    os.kill(worker(run[0].pid, 1), signal.SIGKILL)
    check_that_it_goes_on(*run)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the processes are found by /proc")
def test_a_process_that_hangs_does_not_keep_another_one_that_is_to_leave(
    run: tuple[subprocess.Popen[str], Path],
) -> None:
    """It looks like one that was killed in a moment in which gloo does not notice."""
    process, _ = run
    first, hung = (worker(process.pid, rank) for rank in range(2))
    os.kill(hung, signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{first}").exists(), process, 40)
    finally:
        os.kill(hung, signal.SIGKILL)
    check_that_it_goes_on(*run)


def check_that_it_goes_on(process: subprocess.Popen[str], path: Path) -> None:
    """One process has been killed: the other says how to go on, and the whole says which was killed."""
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    lost, killed = sorted(said.splitlines())
    assert lost.endswith(f"go on with: ganzoo run --resume {path}")
    assert killed.startswith("Error: Process 1 of 2 was killed by SIGKILL")
    assert checkpoint.problem(checkpoint.newest_good(path)) is None


def worker(parent: int, rank: int) -> int:
    """The process of that rank which ``parent`` started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            of = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if of == parent and f"RANK={rank}\0".encode() in b"\0" + (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no process of rank {rank}")


def test_settings_for_several_processes(capsys: pytest.CaptureFixture[str]) -> None:
    dry = ["run", *SMALL, "--devices", "3", "--dry-run", "--json"]
    assert main([*dry, "--batch-size-per-device", "5"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["processes"] == {"world": 3, "batch_per_process": 5}
    assert shown["config"]["run"]["batch_size"] == 15
    assert processes.count() == 1
    assert main([*dry, "--batch-size", "64"]) == 2
    assert "A batch of 64 does not divide evenly between 3 processes" in capsys.readouterr().err
    assert main([*dry, "--batch-size", "6", "--batch-size-per-device", "5"]) == 2
    assert "set one of them" in capsys.readouterr().err
    for none in ("none", "None"):
        assert main([*dry, "--batch-size", "6", "--batch-size-per-device", none]) == 0
        assert json.loads(capsys.readouterr().out)["config"]["run"]["batch_size"] == 6
    assert main([*dry, "--batch-size-per-device", "auto"]) == 2
    assert "must be int|none >= 1, not 'auto'" in capsys.readouterr().err
    assert main(["run", *SMALL, "--devices", "none"]) == 2
    assert "--devices takes a number of at least 1, or auto, not 'none'" in capsys.readouterr().err


def test_places() -> None:
    assert processes.place() == Place()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "3")
        patch.setenv("WORLD_SIZE", "4")
        assert processes.place() == Place(3, 4, 3, 4)
        patch.setenv("LOCAL_RANK", "1")
        patch.setenv("LOCAL_WORLD_SIZE", "2")
        assert processes.place() == Place(3, 4, 1, 2)
        for wrong in ("4", "-1", "first"):
            patch.setenv("RANK", wrong)
            with pytest.raises(UsageError, match="names no process"):
                processes.place()


def test_devices_of_several_processes() -> None:
    assert place_of(torch.device("cpu"), Place(1, 2, 1, 2)) == (torch.device("cpu"), "gloo")
    refused: tuple[tuple[str, type[GanzooError]], ...] = (("mps", UsageError), ("cuda:0", UsageError))
    for device, error in refused:
        with pytest.raises(error, match="device"):
            place_of(torch.device(device), Place(0, 2, 0, 2))
    many = torch.cuda.device_count() + 1
    with pytest.raises(MissingError, match="GPUs"):
        place_of(torch.device("cuda"), Place(0, many, 0, many))
    assert count("3", "auto") == 3
    assert count("auto", "cpu") == 1


def test_the_checksum_sees_every_bit_and_every_place() -> None:
    tensors = [torch.arange(6.0).reshape(2, 3), torch.zeros(2, dtype=torch.int64), torch.ones(3, dtype=torch.bfloat16)]
    whole = checksum(tensors)
    assert whole == checksum([tensor.clone() for tensor in tensors])
    swapped = tensors[0].flip(0)
    flipped = torch.tensor([0.0, -0.0, 0.0])
    assert checksum([swapped, *tensors[1:]]) != whole
    assert checksum([flipped]) != checksum([flipped.abs()])
