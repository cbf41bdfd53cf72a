"""Comparing runs: rows over seeds, groups by protocol, what differs, and the picture."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import Ganzoo
from PIL import Image
from running import POINTS
from safetensors.torch import load_file

import ganzoo as zoo
from ganzoo import cli
from ganzoo.evaluation.compare import Comparison, Row, compare
from ganzoo.evaluation.facts import count_parameters, facts_of
from ganzoo.evaluation.result import Result, Score, append_result

TINY = {**POINTS, "run.log_every": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: the loss ns with two seeds, and wgan-gp, which brings a recipe."""
    out = tmp_path_factory.mktemp("trained")
    for name, more in (("a", {"seed": 0}), ("b", {"seed": 1}), ("w", {"loss": "wgan-gp", "run.seed": 0})):
        zoo.train({**TINY, **more, "run.out": out, "run.name": name}, steps=3)
    return out


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def scored(
    run: Path, step: int = 3, better: Any = "lower", *, n: int = 100, best: bool = False, **scores: float
) -> None:
    found = tuple(Score(name, name.upper(), value, better) for name, value in scores.items())
    subject = {"path": str(run), "step": step, "weights": "ema"} | ({"best": True} if best else {})
    append_result(run, Result(subject, found, {"samples": n, "data": "ring"}))


def of(runs: Path, *names: str, **asked: Any) -> Comparison:
    return compare([runs / name for name in names or ("a", "b", "w")], **asked)


def configured(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = run / "config.json"
    saved = json.loads(file.read_text(encoding="utf-8"))
    change(saved["config"])
    file.write_text(json.dumps(saved), encoding="utf-8")


def test_runs_that_differ_in_the_seed_are_one_row(runs: Path) -> None:
    scored(runs / "a", fid=10)
    scored(runs / "b", fid=13)
    scored(runs / "w", fid=11)
    (group,) = of(runs).groups
    assert [row.seeds for row in group.rows] == [(0,), (0, 1)]
    w, ns = group.rows
    assert list(ns.scores["fid"].values) == [10, 13]
    assert ns.scores["fid"].mean == 11.5
    spread = [row.scores["fid"].std for row in group.rows]
    assert spread[0] is None
    assert f"{spread[1]:.12f}" == f"{math.sqrt(4.5):.12f}"
    assert (ns.steps, ns.unfinished, ns.parts["loss"], w.parts["loss"]) == (3, False, "ns", "wgan-gp")
    assert ns.images_per_second is not None
    assert ns.images_per_second > 0


def test_live_settings_and_names_make_no_difference(runs: Path) -> None:
    configured(runs / "b", lambda config: config["run"].update(log_every=7, device="cpu", keep_last=9))
    assert len(of(runs, "a", "b").rows) == 1
    configured(runs / "b", lambda config: config["run"].update(ema_half_life=5))
    assert len(of(runs, "a", "b").rows) == 2


def test_runs_of_other_lengths_are_no_seeds_of_the_same(runs: Path) -> None:
    configured(runs / "b", lambda config: config["run"].update(steps=9))
    found = of(runs, "a", "b")
    assert [row.unfinished for row in found.rows] == [False, True]
    assert "b has taken 3 of 9 steps." in found.notes


def test_the_newest_of_several_evaluations_counts(runs: Path) -> None:
    scored(runs / "a", fid=10, kid=1)
    scored(runs / "a", fid=5)
    (group,) = of(runs, "a").groups
    assert {name: score.mean for name, score in group.rows[0].scores.items()} == {"fid": 5, "kid": 1}
    scored(runs / "a", step=6, fid=4)
    (group,) = of(runs, "a").groups
    assert {name: score.mean for name, score in group.rows[0].scores.items()} == {"fid": 4}, "of other weights"


def test_scores_of_other_steps_are_told_under_each_protocol(runs: Path) -> None:
    scored(runs / "a", step=2, fid=10)
    scored(runs / "a", n=200, fid=9)
    assert of(runs, "a").notes == ("Some scores of a are of step 2; it has taken 3.",)
    scored(runs / "a", step=1, n=300, kid=1)
    assert of(runs, "a", metrics=["kid"]).notes == ("The scores of a are of step 1; it has taken 3.",)
    scored(runs / "a", fid=8)
    assert of(runs, "a", metrics=["fid"]).notes == ()


def test_how_a_path_was_typed_makes_no_difference(runs: Path) -> None:
    for name, reference, digest in (("a", "img", "0a"), ("b", "./img", "0a"), ("w", "other", "0b")):
        protocol = {"samples": 5, "reference": reference, "real_digest": digest}
        append_result(runs / name, Result({"step": 3}, (Score("fid", "FID", 1.0, "lower"),), protocol))
    same, other = of(runs).groups
    assert [row.seeds for row in same.rows] == [(0, 1)]
    assert same.protocol["reference"] == "img"
    assert dict(other.apart) == {"reference": "other", "real_digest": "0b"}
    scored(runs / "a", fid=1)
    scored(runs / "b", fid=1, n=5)
    assert len(of(runs).groups) == 4, "where the data are not known, their names count"


def test_many_rows_are_compared_in_little_time(runs: Path) -> None:
    run = facts_of(runs / "a")
    looked: list[str] = []

    class Settings(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            looked.append(name)
            return super().__getitem__(name)

    many = [replace(run, settings=Settings({**run.settings, "gen.width": n}), unusual={"gen.width": n}) for n in "abc"]
    rows = tuple(Row((each,)) for each in many * 20)
    found = Comparison((), rows, ())
    assert "gen.width" not in found.common()
    assert [found.differing(row)["gen.width"] for row in rows] == list("abc" * 20)
    assert len(looked) <= 4 * len(rows), "each row is looked at a few times, however many there are"


def test_unlike_protocols_stand_apart_and_say_in_what_they_differ(runs: Path) -> None:
    scored(runs / "a", fid=10)
    scored(runs / "b", fid=13, n=200)
    found = of(runs, "a", "b")
    assert [(dict(group.apart), group.rows[0].seeds) for group in found.groups] == [
        ({"samples": 100}, (0,)),
        ({"samples": 200}, (1,)),
    ]


def _faster(side: str, config: dict[str, Any]) -> None:
    config[side]["lr"] = 0.5


def test_settings_that_follow_from_the_components_are_not_told(runs: Path) -> None:
    found = of(runs, "a", "w")
    assert found.common()["gen.width"] == "4"
    assert found.common()["batch_size"] == "8"
    assert [found.differing(row) for row in found.rows] == [{}, {}], "the recipe of wgan-gp is part of wgan-gp"
    for side in ("gen_optim", "disc_optim"):
        configured(runs / "a", partial(_faster, side))
    found = of(runs, "a", "b", "w")
    told = {row.runs[0].path.name: found.differing(row) for row in found.rows}
    assert told["a"] == {"optim.lr": "0.5"}
    assert all(any(path.endswith("optim.lr") for path in told[name]) for name in "bw"), "both where they differ"


def test_the_same_settings_and_seed_count_once(runs: Path) -> None:
    shutil.copytree(runs / "a", runs / "again")
    os.utime(runs / "a" / "config.json", (1, 1))
    found = of(runs, "a", "again")
    assert [run.path.name for row in found.rows for run in row.runs] == ["again"]
    assert "the newer one counts" in found.notes[0]


def test_parameters_are_those_of_the_checkpoint(runs: Path) -> None:
    (file,) = (runs / "a").glob("checkpoints/*/model.safetensors")
    tensors = load_file(file)
    counts = count_parameters(runs / "a")
    gen = zoo.load(runs / "a")
    assert counts["gen"] == sum(parameter.numel() for parameter in gen.parameters())
    assert counts["disc"] == sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("disc."))
    file.write_bytes(b"\xff" * 20)
    assert count_parameters(runs / "a") == {}


def test_order(runs: Path) -> None:
    for name, fid, modes in (("a", 3, 3), ("b", 3, 5), ("w", 1, 1)):
        scored(runs / name, fid=fid)
        scored(runs / name, better="higher", modes=modes)
    assert [row.parts["loss"] for row in of(runs).groups[0].rows] == ["wgan-gp", "ns"]
    assert [row.parts["loss"] for row in of(runs, sort="modes").groups[0].rows] == ["ns", "wgan-gp"]
    assert [row.name for row in of(runs, sort="run").groups[0].rows] == ["*", "w"]


def test_a_sweep_stands_for_its_runs_and_tells_of_failures(runs: Path) -> None:
    (runs / "sweep.json").write_text("{}", encoding="utf-8")
    (runs / "lost").mkdir()
    (runs / "lost" / "failed.json").write_text('{"sentence": "No luck."}', encoding="utf-8")
    found = compare([runs, runs / "sweep.json", runs / "a"])
    assert sorted(run.path.name for row in found.rows for run in row.runs) == ["a", "b", "w"]
    assert found.notes == ("lost failed: No luck.",)


def test_the_command(runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    scored(runs / "a", fid=10)
    scored(runs / "b", fid=13)
    assert cli.main(["compare", "a", "b", "w"]) == 0
    out, err = capsys.readouterr()
    assert "All runs: data ring, gen mlp, disc mlp" in out
    assert "11.5 ± 2.1" in out
    assert "ganzoo eval w --update" in err
    assert cli.main(["compare", "a", "b", "w", "--markdown", "--metric", "fid"]) == 0
    assert "| 11.5 ± 2.1 |" in capsys.readouterr().out
    assert cli.main(["compare", "a", "b", "w", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format"] == "ganzoo-compare/1"
    assert document["groups"][0]["rows"][0]["scores"]["fid"]["values"] == [10, 13]
    for line, code, sentence in (
        ("a --metric nope", 2, "None of these runs has the score 'nope'."),
        ("a --sort nope", 2, "--sort takes a score or a column, not 'nope'."),
        ("nowhere", 4, "There is no run in nowhere"),
        (".", 4, "There is no run in ."),
        ("a --grid x.txt", 2, "is no picture that ganzoo writes"),
    ):
        assert cli.main(["compare", *line.split()]) == code
        assert sentence in capsys.readouterr().err


def test_scores_of_the_best_checkpoint_stand_apart(runs: Path, ganzoo: Ganzoo) -> None:
    scored(runs / "a", fid=10)
    scored(runs / "b", fid=5, best=True)
    found = of(runs, "a", "b")
    assert [(dict(group.apart), group.rows[0].seeds) for group in found.groups] == [
        ({"best": False}, (0,)),
        ({"best": True}, (1,)),
    ]
    only = ("compare", str(runs / "b"))
    for more in ((), ("--markdown",)):
        header, *_, row = (line for line in ganzoo(*only, *more).out.splitlines() if "FID" in line or " 5 " in line)
        assert "checkpoint" in header
        assert "best" in row
    assert ganzoo(*only, "--json").json["groups"][0]["protocol"]["best"] is True
    assert "checkpoint" not in ganzoo("compare", str(runs / "a")).out


@pytest.mark.parametrize("metric", [(), ("--metric", "fid")])
def test_a_mean_says_how_many_runs_lack_the_score(runs: Path, ganzoo: Ganzoo, metric: tuple[str, ...]) -> None:
    shutil.copytree(runs / "a", runs / "c")
    configured(runs / "c", lambda config: config["run"].update(seed=2))
    scored(runs / "a", fid=10)
    scored(runs / "b", fid=13)
    names = [str(runs / name) for name in "abc"]
    assert "11.5 ± 2.1 (2 of 3)" in ganzoo("compare", *names, *metric).out
    (row,) = ganzoo("compare", *names, *metric, "--json").json["groups"][0]["rows"]
    assert (row["of"], row["scores"]["fid"]["n"]) == (3, 2)
    scored(runs / "c", kid=1)
    assert "11.5 ± 2.1 (2 of 3)" in ganzoo("compare", *names, *metric).out
    scored(runs / "c", fid=12)
    assert " of 3)" not in ganzoo("compare", *names, "--metric", "fid").out


def test_parameters_of_a_row_are_of_the_first_run_that_knows(runs: Path) -> None:
    known = of(runs, "a").rows[0].parameters
    shutil.rmtree(runs / "a" / "checkpoints")
    (row,) = of(runs, "a", "b").rows
    assert row.parameters == known


@pytest.mark.parametrize("value", ["null", '"soon"', "NaN", "1e999", "[]", "9" * 400])
def test_metrics_that_are_no_numbers_are_none(runs: Path, value: str) -> None:
    with (runs / "a" / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(f'{{"step": 3, "seconds": {value}, "images": {value}}}\n')
    (row,) = of(runs, "a").rows
    assert (row.steps, row.seconds, row.images_per_second) == (3, 0, None)


def test_what_cannot_be_evaluated_is_not_advised(runs: Path, ganzoo: Ganzoo) -> None:
    shutil.rmtree(runs / "a" / "checkpoints")
    (runs / "b" / "failed.json").write_text('{"sentence": "No luck."}', encoding="utf-8")
    said = ganzoo("compare", *(str(runs / name) for name in "abw")).err
    assert [line for line in said.splitlines() if "has no scores" in line] == [
        f"w has no scores; compute some: ganzoo eval {runs / 'w'} --update"
    ]


def test_a_run_that_ended_by_its_own_rule_was_not_interrupted(tmp_path: Path, ganzoo: Ganzoo) -> None:
    patient = {"run.steps": 40, "run.eval_every": 2, "run.eval_patience": 1, "run.eval_samples": 50}
    run = zoo.train({**TINY, **patient, "run.out": tmp_path, "run.name": "patient"})
    steps = run.metrics()[-1]["step"]
    assert steps < 40
    found = compare([run.path])
    assert not found.rows[0].unfinished
    assert found.notes == (
        f"patient ended after {steps} of 40 steps, since its score got no better (--eval-patience).",
    )
    assert f"{steps}!" not in ganzoo("compare", str(run.path)).out
    (state,) = run.path.glob(f"checkpoints/step-*{steps}/state.json")
    state.write_text("{", encoding="utf-8")
    assert compare([run.path]).rows[0].unfinished


def test_a_folder_of_runs_says_how_they_are_named(runs: Path, ganzoo: Ganzoo) -> None:
    done = ganzoo("compare", str(runs))
    assert done.code == 4
    assert done.err.endswith(f"There are runs in it: name them as {runs / '*'}.\n")


def test_the_picture_shows_every_row(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert cli.main(["compare", *(str(runs / name) for name in "abw"), "--grid", str(out)]) == 0
    with Image.open(out) as sheet:
        assert sheet.width > 640
        colours = {colour for _, colour in sheet.convert("RGB").getcolors(1 << 20) or ()}
    assert {(0x1F, 0x5F, 0xBF), (0xF2, 0xA5, 0x41)} <= colours, "samples over the data"
    before = out.read_bytes()
    assert cli.main(["compare", *(str(runs / name) for name in "abw"), "--grid", str(out)]) == 0
    assert out.read_bytes() == before
