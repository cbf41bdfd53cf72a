"""What becomes of an evaluation that cannot be kept, or is stopped; and what is refused before it begins."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from commands import Ganzoo
from judging import asked_to_stop
from PIL import Image
from running import DIGITS, TINY

import ganzoo as zoo
from ganzoo.cli import main
from ganzoo.errors import Interrupted, UsageError
from ganzoo.evaluation.evaluate import UnkeptError
from ganzoo.evaluation.features import extract
from ganzoo.evaluation.result import FILE, read_results
from ganzoo.training import signals

QUICK = ("--samples", "64", "--device", "cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on points, and one on digits of 8 pixels with an export."""
    home = tmp_path_factory.mktemp("kept")
    zoo.train({**TINY, "run.out": home, "run.name": "points", "run.steps": 2})
    settings = {**DIGITS, "run.out": home, "run.name": "digits", "run.steps": 2, "disc.norm": "none"}
    zoo.train({**settings, "gen": "dcgan"})
    assert main(["export", str(home / "digits"), "--out", str(home / "export")]) == 0
    return home


@pytest.fixture
def unkept(home: Path, tmp_path: Path) -> Path:
    """A run that cannot keep a result: a folder stands where the file should."""
    run = zoo.train({**TINY, "run.out": tmp_path, "run.name": "unkept", "run.steps": 2}).path
    (run / FILE).mkdir()
    return run


def test_scores_that_cannot_be_kept_are_told_all_the_same(unkept: Path, ganzoo: Ganzoo) -> None:
    done = ganzoo("eval", str(unkept), "--update", "--json", *QUICK)
    assert done.code == 1
    assert {score["name"] for score in done.json["scores"]} >= {"modes"}
    assert done.err.startswith("Error: The scores are computed, but not everything could be written: ")
    assert f"{FILE} cannot be written: " in done.err
    done = ganzoo("eval", str(unkept), "--update", *QUICK)
    assert done.code == 1
    assert "Protocol  samples 64" in done.out
    with pytest.raises(UnkeptError) as caught:
        zoo.evaluate(unkept, samples=64, update=True, device="cpu")
    assert caught.value.result["modes"] >= 0


def test_metrics_may_have_commas_between_them(home: Path, ganzoo: Ganzoo) -> None:
    done = ganzoo("eval", str(home / "digits"), "--metric", "fid, kid", "--metric", "isc", "--json", *QUICK)
    assert [score["name"] for score in done.json["scores"]] == ["fid", "kid", "isc"]


@pytest.mark.parametrize(("name", "metric", "other"), [("digits", "modes", "classes"), ("points", "classes", "modes")])
def test_the_metric_of_the_other_kind_is_named(home: Path, name: str, metric: str, other: str) -> None:
    with pytest.raises(UsageError, match=rf"The metric {metric} is not for .*, {other} tells that\.$"):
        zoo.evaluate(home / name, metrics=[metric], device="cpu")


def test_only_the_best_checkpoint_is_called_so(home: Path) -> None:
    settings = {**TINY, "run.out": home, "run.name": "watched", "run.steps": 8, "run.eval_every": 4}
    run = zoo.train({**settings, "run.eval_samples": 50}).path
    for best in (True, False):
        zoo.evaluate(run, best=best, samples=64, update=True, device="cpu")
    assert [result.subject.get("best") for result in read_results(run)] == [True, None]


@pytest.mark.parametrize("kind", ["run", "export", "sweep"])
def test_what_ganzoo_made_is_no_real_data(home: Path, kind: str, ganzoo: Ganzoo) -> None:
    sweep = home / "sweep"
    sweep.mkdir(exist_ok=True)
    (sweep / "sweep.json").write_text('{"format": "ganzoo-sweep/1"}', encoding="utf-8")
    Image.new("L", (8, 8)).save(sweep / "preview.png")
    path = {"run": home / "digits", "export": home / "export", "sweep": sweep}[kind]
    done = ganzoo("eval", str(home / "digits"), "--against", str(path), *QUICK)
    assert done.code == 2
    assert "whose pictures are previews and no real data: name a data set" in done.err
    if kind == "sweep":
        done = ganzoo("eval", str(path), "--against", "digits", *QUICK)
        assert (done.code, done.err) == (
            2,
            f"Error: {path} is a sweep, which has many runs: name one of them, a folder in it.\n",
        )


def test_real_images_of_another_size_can_be_prepared(home: Path, ganzoo: Ganzoo) -> None:
    (home / "big ones").mkdir()
    for number in range(12):
        Image.new("L", (20, 20), 20 * number).save(home / "big ones" / f"{number}.png")
    against = str(home / "big ones")
    done = ganzoo("eval", str(home / "digits"), "--against", against, *QUICK)
    assert done.code == 2
    assert f"'ganzoo data prepare '{against}' 'big ones-8' --size 8'" in done.err
    assert ganzoo("data", "prepare", against, "big ones-8", "--size", "8").code == 0
    asked = ("--against", "big ones-8", "--metric", "fid", "--features", "digit-cnn")
    assert ganzoo("eval", str(home / "digits"), *asked, *QUICK).code == 0


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there are no such signals")
@pytest.mark.parametrize("when", ["at once", "while features are written"])
def test_a_signal_is_answered_with_a_sentence(
    home: Path, ganzoo: Ganzoo, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def told(*args: object, **asked: object) -> object:
        if when == "at once":
            os.kill(os.getpid(), signal.SIGTERM)
        else:  # whoever catches errors of a disk does not lose the signal
            with pytest.raises(Interrupted):
                os.kill(os.getpid(), signal.SIGTERM)
        return extract(*args, **asked)  # type: ignore[arg-type]

    monkeypatch.setattr("ganzoo.evaluation.judge.extract", told)
    done = ganzoo("eval", str(home / "digits"), "--metric", "isc", *QUICK)
    assert done.code == 128 + signal.SIGTERM
    assert done.out == ""
    assert done.err == "Error: SIGTERM: stopped; features that were computed are kept for the next time.\n"


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there are no such signals")
def test_a_program_that_hears_signals_itself_is_stopped_at_the_next_chunk(home: Path) -> None:
    with signals.StopSignals() as stop:
        stop.defer()
        with pytest.raises(Interrupted, match="SIGTERM: stopped; features"):
            zoo.evaluate(home / "digits", metrics=["isc"], samples=600, device="cpu", progress=asked_to_stop)
