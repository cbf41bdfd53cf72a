"""A run of a sweep that ended because its time was over is gone on with, as a run by itself is."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from commands import Ganzoo

TINY = shlex.split("--gen mlp --disc mlp --batch-size 4 --samples 4 --log-every 1 --out s --seed 0")


def steps(folder: Path) -> int:
    (file,) = folder.glob("s/*/metrics.jsonl")
    return int(json.loads(file.read_text(encoding="utf-8").splitlines()[-1])["step"])


def test_a_run_whose_time_was_over_is_gone_on_with(ganzoo: Ganzoo, tmp_path: Path) -> None:
    asked = ["sweep", *TINY, "--steps", "1000000", "--max-time", "1s"]
    first = ganzoo(*asked)
    assert first.code == 0
    assert "before its last; the same command goes on with it" in first.err
    assert "1 left" in first.err
    taken = steps(tmp_path)
    second = ganzoo(*asked)
    assert "0 done before" in second.err
    assert steps(tmp_path) > taken
    third = ganzoo("sweep", *TINY, "--steps", str(steps(tmp_path) + 1), "--max-time", "none")
    assert third.code == 0
    assert "1 done" in third.err, third.err


def test_a_run_that_lost_patience_in_its_time_is_done(ganzoo: Ganzoo, tmp_path: Path) -> None:
    scored = shlex.split(
        "--eval-every 1 --eval-patience 1 --eval-metric fid --eval-features digit-cnn --eval-samples 16"
    )
    asked = ["sweep", *TINY, *scored, "--steps", "1000000", "--max-time", "10m"]
    assert "before its last; the same command goes on with it" in ganzoo(*asked).err  # nobody knows yet
    taken = steps(tmp_path)
    assert "1 done" in ganzoo(*asked).err
    assert steps(tmp_path) == taken
