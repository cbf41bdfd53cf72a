"""What is asked of scores, and what becomes of results: refused before the work, told truly, and never lost."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import ganzoo
from ganzoo.cli import main
from ganzoo.errors import MissingError, UsageError
from ganzoo.evaluation import evaluate as evaluating
from ganzoo.evaluation.compare import compare
from ganzoo.evaluation.evaluate import evaluate
from ganzoo.evaluation.metrics import Evidence
from ganzoo.evaluation.request import check_classes
from ganzoo.evaluation.result import FILE, Result, Score, append_result, read_results
from ganzoo.evaluation.table import METRICS
from ganzoo.outputs.card import card
from ganzoo.outputs.export import export_run
from ganzoo.outputs.sampling import sample_to
from ganzoo.outputs.scores import keep_result
from ganzoo.training.run import Run

TINY: dict[str, Any] = {
    "data.size": 8,
    "gen.width": 4,
    "disc.width": 4,
    "disc.norm": "none",
    "batch_size": 8,
    "samples": 4,
    "steps": 2,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("requests")


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    return ganzoo.train({**TINY, "gen": "dcgan", "out": home, "name": "plain"}).path


@pytest.fixture(scope="module")
def ring(home: Path) -> Path:
    settings = {**TINY, "data": "ring", "gen": "mlp", "disc": "mlp", "out": home, "name": "ring"}
    return ganzoo.train({name: value for name, value in settings.items() if name != "data.size"}).path


def result(name: str = "fid", value: float = 1.0, **about: Any) -> Result:
    subject = {"path": "~/x", "kind": "run", "step": 2, "weights": "ema", **about}
    return Result(subject, (Score(name, name.upper(), value, "lower"),), {"samples": 10})


def test_a_run_that_is_scored_otherwise_looks_for_its_best_anew(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ganzoo")
    settings = {**TINY, "gen": "dcgan", "out": home, "eval_every": 2, "eval_samples": 60}
    path = ganzoo.train({**settings, "name": "scored"}).path
    ganzoo.train({"device": "cpu"}, resume=path, steps=4)
    assert "another way" not in caplog.text
    ganzoo.train({"device": "cpu"}, resume=path, steps=6, eval_metric="kid")
    assert (
        "Scores are computed in another way now than before, so the best generator is looked for anew." in caplog.text
    )
    assert json.loads((path / "checkpoints" / "best.json").read_text())["step"] == 6
    assert len(Run.open(path).scores()) == 3


def test_statistics_are_named_and_need_no_data(home: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = home / "known.npz"
    full = evaluate(run, samples=60, metrics=["fid"], save_stats=stats, device="cpu")
    with pytest.raises(UsageError, match="no single features, which kid would compare"):
        evaluate(run, samples=60, metrics=["fid", "kid"], ref_stats=stats, device="cpu")

    def missing(*_: object) -> None:
        raise MissingError("The data are elsewhere.")

    monkeypatch.setattr(evaluating, "open_reference", missing)
    found = evaluate(run, samples=60, metrics=["fid"], features="digit-cnn", ref_stats=stats, device="cpu")
    assert found["fid"] == pytest.approx(full["fid"], rel=1e-3)
    assert found.protocol["reference"] == "statistics known.npz"
    with pytest.raises(MissingError, match="elsewhere"):
        evaluate(run, samples=60, metrics=["fid"], device="cpu")


def test_classes_are_told_by_a_network_of_the_same_classes() -> None:
    def ask(metric: str, known: int, *, of_subject: int | None, of_data: int | None) -> None:
        extractor = SimpleNamespace(num_classes=known, stacked=None)
        subject, reference = (SimpleNamespace(spec=SimpleNamespace(num_classes=n)) for n in (of_subject, of_data))
        check_classes([METRICS[metric]], *cast("Any", (extractor, "inception", subject, reference)))

    for metric in ("accuracy", "classes"):
        with pytest.raises(UsageError, match="10 classes of these data, and inception tells 1,008 others"):
            ask(metric, 1008, of_subject=10, of_data=10)
        ask(metric, 10, of_subject=10, of_data=10)
    ask("classes", 1008, of_subject=None, of_data=None)


def test_what_cannot_be_is_refused_before_the_work(run: Path, ring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "Judge", None)
    with pytest.raises(UsageError, match="--picture is for points"):
        evaluate(run, picture="x.png", device="cpu")
    for path, metrics in ((ring, None), (run, ["kid"])):
        with pytest.raises(UsageError, match="--fid-infinity goes with the metric fid"):
            evaluate(path, metrics=metrics, fid_infinity=True, device="cpu")


def test_uneven_classes_are_told_of() -> None:
    def note(shares: list[float], *, conditional: bool = True) -> str:
        extra = {"shares": torch.tensor(shares, dtype=torch.float64), "conditional": conditional}
        return Evidence(None, None, "x", ganzoo.Spec((1, 8, 8), len(shares)), extra=extra).uneven()

    assert note([0.9, 0.1]) == "classes were asked for equally often, and the data have 10% to 90% of each"
    assert note([0.9, 0.1], conditional=False) == ""
    assert note([0.55, 0.45]) == ""


def test_comparing_knows_which_weights_and_steps_were_scored(home: Path) -> None:
    for seed, about in ((0, {}), (1, {"weights": "raw"}), (2, {"step": 1})):
        path = ganzoo.train({**TINY, "gen": "dcgan", "out": home, "name": f"cmp-{seed}", "seed": seed}).path
        append_result(path, result(value=seed, **about))
        append_result(path, result("kid", 2 - seed, **about))
    found = compare([home / f"cmp-{seed}" for seed in range(3)], metrics=["fid"], sort="kid")
    assert [group.protocol["weights"] for group in found.groups] == ["ema", "raw"]
    assert found.groups[0].apart == {"weights": "ema"}
    assert "The scores of cmp-2 are of step 1; it has taken 2." in found.notes
    assert all(set(row.scores) == {"fid"} for row in found.rows)


def test_samples_of_two_calls_do_not_mix(run: Path, tmp_path: Path) -> None:
    sample_to(run, tmp_path / "all", n=5, device="cpu")
    sample_to(run, tmp_path / "all", n=5, seed=1, device="cpu")
    sample_to(run, tmp_path / "all", n=7, device="cpu")
    with pytest.raises(UsageError, match=r"samples already that these would not replace \(00003\.png, 4 in all\)"):
        sample_to(run, tmp_path / "all", n=3, device="cpu")
    assert len(list((tmp_path / "all").iterdir())) == 7


def test_results_survive_a_torn_line_odd_names_and_strangers(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_bytes(b'{"format": "ganzoo-eval/1", "sub')
    append_result(tmp_path, result(path="d\udce9j"))
    append_result(tmp_path, result(value=2.0))
    hostile = json.loads(file.read_text().splitlines()[-1])
    hostile["scores"][0]["value"] = 10**400
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(hostile) + "\n")
    assert [found["fid"] for found in read_results(tmp_path)] == [1.0, 2.0]
    worst = Result({}, (Score("isc", "IS", float("nan"), "higher", float("nan")),), {})
    assert Result.from_dict(worst.to_dict())["isc"] == float("-inf")
    assert json.dumps(worst.to_dict(), allow_nan=False)


RECORD: dict[str, Any] = {
    "spec": {"shape": [1, 8, 8], "num_classes": None},
    "generator": {"id": "my_gan/net", "options": {}},
}


def test_a_card_of_a_plugin_that_is_no_package_names_none() -> None:
    local = {"distribution": "my_gan", "version": ""}
    text = card({**RECORD, "generator": {**RECORD["generator"], "plugin": local}}, conditional=False)
    assert "pip install ganzoo\n" in text
    assert "unpackaged plugin `my_gan`" in text
    packed = {"distribution": "ganzoo-acme", "version": "1.0"}
    text = card({**RECORD, "generator": {**RECORD["generator"], "plugin": packed}}, conditional=False)
    assert "pip install ganzoo ganzoo-acme\n" in text
    assert "unpackaged" not in text
    evil = {"distribution": "x\n```\n<b>", "version": "1"}
    origin = {"file": "a", "sha256": "`<b>\n# x"}
    text = card(
        {**RECORD, "generator": {**RECORD["generator"], "plugin": evil}, "imported_from": origin}, conditional=False
    )
    assert "pip install ganzoo\n" in text
    assert "\n# x" not in text
    assert "Nothing is known of it." in card(RECORD, conditional=False)


def test_a_result_that_no_card_can_tell_is_not_kept_twice(run: Path, tmp_path: Path) -> None:
    out = export_run(run, tmp_path / "export")
    record = json.loads((out / "config.json").read_text())
    for name in ("latent", "versions", "run"):
        record.pop(name, None)
    record["generator"].pop("plugin")
    (out / "config.json").write_text(json.dumps(record), encoding="utf-8")
    (out / "README.md").unlink()  # so that it is written anew
    keep_result(out, result())
    assert len(read_results(out)) == 1
    assert "Latents have some numbers" in (out / "README.md").read_text(encoding="utf-8")


def test_an_export_that_was_scored_is_exported_again_and_tells_no_homes(
    ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_result(ring, result("modes", 3.0, path=str(Path.home() / "secret" / "run")))
    out = export_run(ring, tmp_path / "export")
    assert main(["eval", str(out), "--update", "--samples", "64", "--device", "cpu"]) == 0
    assert (out / "evaluation.png").exists()
    export_run(ring, out)
    assert str(Path.home() / "secret") not in (out / FILE).read_text() + (out / "README.md").read_text()
    assert "~/secret/run" in (out / FILE).read_text()
