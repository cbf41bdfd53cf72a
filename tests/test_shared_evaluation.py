"""Evaluations that several processes share: real ones, with gloo on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import judging
import pytest
import torch
from group import environment, read, run_three

import ganzoo
from ganzoo.evaluation.evaluate import evaluate
from ganzoo.evaluation.shards import CHUNK, Shards
from ganzoo.outputs.sampling import sample_to

SMALL: dict[str, Any] = {
    "gen.width": 8,
    "disc.width": 8,
    "steps": 1,
    "batch_size": 16,
    "sample_every": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and a folder of images, one with a damaged file in its second chunk, and what several found."""
    out = tmp_path_factory.mktemp("judging")
    ganzoo.train(data="digits", gen="cgan", disc="cgan", out=out, name="classes", **SMALL)
    ganzoo.train(data="ring", gen="mlp", disc="mlp", loss="minimax", out=out, name="points", **SMALL)
    sample_to(out / "classes", f"{out / 'folder'}/", n=530, device="cpu")
    sample_to(out / "classes", f"{out / 'damaged'}/", n=530, device="cpu")
    sorted((out / "damaged").iterdir())[CHUNK + 40].write_bytes(b"not a picture")
    run_three("judging.py", out, (0, 0, 0), GANZOO_CACHE=str(out / "cache"))
    return out


def found(out: Path) -> list[dict[str, Any]]:
    return [*read(out, 3), *read(out, 2)]


def test_every_score_is_that_of_one_process_to_the_bit(out: Path) -> None:
    alone = judging.scored(out)
    assert {score["name"] for score in alone["classes"]["scores"]} >= {
        "fid",
        "kid",
        "isc",
        "precision",
        "classes",
        "accuracy",
    }
    assert {score["name"] for score in alone["points"]["scores"]} >= {"modes", "high_quality"}
    for several in found(out):
        for name, result in alone.items():
            assert several[name] == result


def test_what_one_process_meets_all_say(out: Path) -> None:
    first, *others = found(out)
    assert first["damaged"][0].count(".png") >= 1
    assert first["few"][1] == first["late"][1] == 2
    assert "at least 10 samples" in first["late"][0]
    for name in ("damaged", "few", "late"):
        assert len(first[name]) == 2
        assert all(other[name] == first[name] for other in others)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_signal_to_one_process_stops_all(out: Path) -> None:
    for several in found(out):
        sentence, code = several["stopped"]
        assert sentence.startswith("SIGTERM: stopped; features")
        assert code == 128 + signal.SIGTERM


def test_the_command_starts_processes_and_one_speaks(out: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ganzoo",
        "eval",
        str(out / "points"),
        "--samples",
        "1100",
        "--devices",
        "2",
        "--json",
    ]
    done = subprocess.run(
        [*command, "--device", "cpu"],
        env=environment(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["scores"] == judging.told(evaluate(out / "points", samples=1100, device="cpu"))["scores"]


class Half:
    """One process of two, which hears of nobody."""

    world = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


@pytest.mark.parametrize("n", [1, CHUNK, CHUNK + 1, 5 * CHUNK - 1])
def test_each_sample_is_looked_at_once(n: int) -> None:
    parts = [Shards(Half(rank)).mine(n) for rank in range(2)]  # type: ignore[arg-type]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(n))
    assert torch.equal(Shards().mine(n), torch.arange(n))
    assert all(torch.equal(part, part.sort().values) for part in parts)
