"""What a sweep refuses before it trains, what it says of a folder that has been used before, and files of strangers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Done, Ganzoo
from PIL import Image

from ganzoo.evaluation.cell import KINDS, OF_LABELS
from ganzoo.evaluation.table import METRICS

INLINE = str(Path(__file__).parent / "inline_launcher.py")
TINY = "--data ring --gen mlp --disc mlp --gen.width 4 --disc.width 4 --batch-size 8 --samples 4 --log-every 1"
BASE = {
    "data": ["ring"],
    "gen": ["mlp"],
    "disc": ["mlp"],
    "gen.width": ["4"],
    "disc.width": ["4"],
    "run.batch_size": ["8"],
    "run.steps": ["1"],
}
"""As ``sweep.json`` has it."""
IMAGES = "--data digits --gen.width 4 --disc.width 4 --batch-size 8 --samples 4"
LINE = f"-p {INLINE} --launcher inline --out s"

Sweep = Callable[[str], Done]


@pytest.fixture
def sweep(ganzoo: Ganzoo) -> Iterator[Sweep]:
    """``ganzoo sweep`` into ``s`` with a line of arguments, in this process and an empty folder."""
    yield lambda line: ganzoo("sweep", *f"{LINE} {line}".split())
    sys.modules.pop("inline_launcher", None)


def lines_of(file: str) -> list[str]:
    (found,) = Path("s").glob(file)
    return found.read_text(encoding="utf-8").splitlines()


def saved(**changes: Any) -> None:
    """A ``sweep.json`` with some things changed."""
    record = {"format": "ganzoo-sweep/1", "axes": {"run.seed": ["0", "1"]}, "base": BASE, "evaluate": None, **changes}
    Path("s").mkdir()
    Path("s/sweep.json").write_text(json.dumps(record), encoding="utf-8")


def test_the_metrics_that_a_sweep_knows_are_those_that_there_are() -> None:
    assert {name: "points" if "points" in metric.needs else "images" for name, metric in METRICS.items()} == KINDS
    assert {name for name, metric in METRICS.items() if "labels" in metric.needs} == OF_LABELS


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (f"{TINY} --metric bogus", "There is no metric 'bogus'. There is accuracy"),
        (f"{TINY} --metric modes,fdi", "There is no metric 'fdi'. Did you mean fid?"),
        (f"{TINY} --eval.features nope", "There is no extractor 'nope'."),
        (f"{TINY} --eval.features inception", "judged as they are: leave --eval.features out."),
        (f"{TINY} --eval.against nope", "There is no dataset 'nope'."),
        (f"{TINY} --eval.against ./nope", "There is no data set, folder or file './nope'."),
        (f"{TINY} --eval.against ring:test", "has no splits; leave ':test' out"),
        (f"{IMAGES} --eval.against mnist:nope", "Option 'split' of dataset 'mnist' must be"),
        (f"{TINY} --eval.samples 1", "Invalid value for '--eval.samples'"),
        (f"{TINY} --metric fid", "The metric fid is for images, and the data set ring has points"),
        (f"{IMAGES} --metric modes", "The metric modes is for points, and the data set digits has images"),
        (f"{IMAGES} --metric accuracy", "for conditional generators, and dcgan is asked for no classes here"),
        (f"{IMAGES} --eval.samples 5", "The metric kid needs at least 10 samples, and there would be 5: take more"),
        (f"{IMAGES} --metric fid,prc --eval.samples 3", "The metric prc needs at least 4 samples"),
        (f"{IMAGES} --eval.against ring", "and those of ring are points in 2 dimensions; compare them with"),
        (f"{TINY} --eval.against digits", "The samples are points in 2 dimensions and those of digits are images"),
        (f"{IMAGES} --eval.features discriminator", "needs a run whose discriminator it is"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_before_anything_is_written(
    sweep: Sweep, line: str, sentence: str
) -> None:
    for more in ("", " --dry-run"):
        done = sweep(f"{line} --steps 1 --eval{more}")
        assert done.code == 2
        assert sentence in done.err
        assert not Path("s").exists()


def test_weights_that_are_not_here_are_missed_before_anything_is_trained(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    done = sweep(f"{IMAGES} --steps 1 --eval.features inception")
    assert done.code == 4
    assert "The weights weights-inception-2015-12-05-6726825d.pth of inception are not on this machine" in done.err
    assert not Path("s").exists()


def test_an_evaluation_that_can_be_is_not_refused(sweep: Sweep) -> None:
    for line in (
        f"{TINY} --eval --metric modes --eval.against ring",
        f"{IMAGES} --cond on --gen cgan --disc cgan --metric accuracy,fid --eval.features digit-cnn",
        f"{IMAGES} --eval.against mnist:test",
    ):
        done = sweep(f"{line} --dry-run")
        assert done.code == 0, done.err


@pytest.mark.parametrize("steps", ["1", "400 --eval-every 1 --eval-samples 16 --eval-patience 1"])
def test_a_run_that_failed_in_its_evaluation_is_evaluated_again_when_that_is_asked_for_otherwise(
    sweep: Sweep, steps: str
) -> None:
    Path("torn").mkdir()
    for number in range(12):
        Image.effect_noise((16, 16), 50).save(f"torn/{number}.png")
    Path("torn/3.png").write_bytes(Path("torn/3.png").read_bytes()[:-100])
    line = f"{IMAGES} --data.size 16 --log-every 1 --loss ns --steps {steps} --eval.features digit-cnn"
    assert sweep(f"{line} --eval.against torn").code == 1
    assert json.loads("".join(lines_of("*/failed.json")))["evaluation"]["against"] == "torn"
    assert sweep(f"{line} --eval.against torn").code == 1
    assert len(Path("started.txt").read_text(encoding="utf-8").splitlines()) == 1, "the same is not tried again"
    trained = lines_of("*/metrics.jsonl")
    done = sweep(f"{line} --eval.samples 100")
    assert done.code == 0, done.err
    assert "1 done." in done.err
    assert 0 < len(trained) < 20
    assert lines_of("*/metrics.jsonl") == trained, "it is not trained again"
    assert len(lines_of("*/evaluations.jsonl")) == 1


def test_a_training_that_failed_is_not_begun_again_for_another_evaluation(sweep: Sweep) -> None:
    line = f"{TINY} --loss lsgan --optim.name sgd --optim.lr 1e30 --steps 30 --eval"
    assert sweep(line).code == 1
    assert "evaluation" not in json.loads("".join(lines_of("*/failed.json")))
    assert sweep(f"{line} --eval.samples 100").code == 1
    assert len(Path("started.txt").read_text(encoding="utf-8").splitlines()) == 1


def test_what_a_folder_forgets_is_said_with_the_command_that_goes_on(sweep: Sweep) -> None:
    saved(
        base={"data": ["ring"], "gen": ["mlp"], "disc": ["mlp"], "run.steps": ["1000"], "run.deterministic": ["false"]},
        plugins=["a b.py"],
        evaluate={"metrics": ["modes"], "samples": 100},
    )
    again = f"{TINY} --no-deterministic --steps 1"
    done = sweep(f"{again} --seed 5")
    assert done.code == 0, done.err
    said = " ".join(done.err.split())
    assert "2 runs that s was asked for before are not finished, and 'ganzoo sweep --out s' will not go on" in said
    assert (
        "ganzoo sweep --out s -p 'a b.py' --seed 0 --seed 1 --data ring --gen mlp --disc mlp --steps 1000 "
        "--no-deterministic --eval --metric modes --eval.samples 100"
    ) in said
    for line in (f"{again} --seed 5", f"{again} --seed 5,6", f"{again} --seed 7", ""):
        assert "will not go on" not in sweep(line).err, "nothing is left of it, or it is asked for still"


def test_fewer_steps_of_a_run_that_is_not_finished_forget_the_others(sweep: Sweep) -> None:
    saved()
    assert "will not go on" not in sweep("--dry-run").err
    assert sweep("").code == 0
    record = json.loads(Path("s/sweep.json").read_text(encoding="utf-8"))
    record["base"]["run.steps"] = ["9"]
    Path("s/sweep.json").write_text(json.dumps(record), encoding="utf-8")
    done = sweep(f"{TINY} --seed 0,1,2 --steps 4")
    assert "2 runs that s was asked for before are not finished" in " ".join(done.err.split())


def test_what_was_asked_for_before_and_cannot_be_read_is_said(sweep: Sweep) -> None:
    saved(axes={"loss": ["acme/none", "ns"]})
    done = sweep(f"{TINY} --steps 1")
    assert done.code == 0, done.err
    assert "What s was asked for before is unknown here, and is not gone on with: There is no loss" in done.err


def test_a_sweep_stays_out_of_runs_and_exports(sweep: Sweep, ganzoo: Ganzoo) -> None:
    assert sweep(f"{TINY} --loss ns --steps 1").code == 0
    (run,) = Path("s").glob("ring-*")
    assert ganzoo("export", str(run), "--out", "x").code == 0
    before = sorted(run.rglob("*"))
    for folder, kind in ((str(run), "a run"), ("x", "an export")):
        for line in ("", TINY):
            done = ganzoo("sweep", "--out", folder, *line.split())
            assert done.code == 2
            assert f"{folder} is {kind}; choose another folder for the sweep with --out." in " ".join(done.err.split())
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"axes": {"run.seed": 5}}, "must have a list of texts for 'run.seed', not 5; begin it anew."),
        ({"axes": {"run.seed": [0, 1]}}, "must have a list of texts for 'run.seed', not [0, 1]; begin it anew."),
        ({"axes": {"loss": [["ns"]]}}, "must have a list of texts for 'loss', not [['ns']]; begin it anew."),
        ({"base": {"data": []}}, "must have a list of texts for 'data', not []; begin it anew."),
        ({"axes": {}, "base": {}}, "sweeps nothing; say what to sweep"),
        ({"axes": {"seed": ["0", "1"]}}, "No run of this sweep has the setting 'seed'"),
        ({"axes": {"loss.gp_weight": ["0", "1"]}}, "No run of this sweep has the setting 'loss.gp_weight'"),
        ({"evaluate": 5}, "must have an object or null for 'evaluate', not 5."),
        ({"evaluate": {"sample": 5}}, "has no argument 'sample'. Did you mean samples?"),
        ({"evaluate": {"metrics": "modes"}}, "The argument 'metrics' of the evaluation must be names, not 'modes'."),
        ({"evaluate": {"samples": True}}, "must be a whole number from 2 on, not True."),
        ({"evaluate": {"metrics": ["nope"]}}, "There is no metric 'nope'."),
    ],
)
def test_a_strangers_sweep_is_refused_in_a_sentence(sweep: Sweep, changes: dict[str, Any], sentence: str) -> None:
    saved(**changes)
    done = sweep("")
    assert done.code == 2
    assert f"{Path('s/sweep.json')}" in done.err
    assert sentence in " ".join(done.err.split())
    assert [path.name for path in Path("s").iterdir()] == ["sweep.json"]


def test_a_strangers_sweep_that_is_right_is_done(sweep: Sweep) -> None:
    saved(evaluate={"metrics": ["modes"], "samples": 100})
    done = sweep("")
    assert done.code == 0, done.err
    assert "2 done." in done.err


def test_a_run_that_has_taken_more_steps_than_asked_for_is_said_to(sweep: Sweep) -> None:
    line = f"{TINY} --loss ns --steps"
    assert "more than" not in sweep(f"{line} 6").err
    done = sweep(f"{line} 3")
    assert done.code == 0
    assert "has 6 steps, more than the 3 asked for, and stays as it is." in " ".join(done.err.split())
