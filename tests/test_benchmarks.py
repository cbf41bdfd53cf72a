"""The benchmarks work: each part measures, the tutorials learn, formulas are what torch counts, reports are fresh."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bench
import cluster
import figures
import numpy as np
import picture
import pytest
import quality
import report
import torch
import tutorial
from measure import growth, processes
from measure.apart import apart
from measure.contenders import OurLoop
from measure.context import Context
from measure.flops import dcgan_forward, dcgan_parameters, dcgan_step
from measure.machine import lacking
from measure.names import PART_NAMES
from measure.parts import PARTS
from measure.startup import LEAVE
from measure.timing import Turn, against, process, take_turns
from measure.workloads import RING
from PIL import Image
from tutorials import data
from tutorials.contenders import SCRIPTS, samples, train
from tutorials.data import Batches, PlainTransform, Source, transform
from tutorials.names import SCRIPT_NAMES

from ganzoo.api import Spec
from ganzoo.plugins import loaded
from ganzoo.registry import create

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
QUICK = ("pipeline", "peak", "precision", "critic", "convolutions", "zoo", "unrolled", "sizes", "images")


@pytest.fixture(autouse=True)
def small_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No data of this machine; the plugin of the scripts' networks is forgotten afterwards."""
    monkeypatch.setenv("GANZOO_DATA", "")
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    for source in (data.mnist, data.colour):
        source.cache_clear()
    monkeypatch.setattr(data, "_RANDOM", 40)
    yield
    for source in (data.mnist, data.colour):
        source.cache_clear()
    monkeypatch.undo()
    loaded.cache_clear()


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    made = Context(0.0, CPU, tmp_path, small=True)
    yield made
    made.close()


@pytest.mark.parametrize("part", QUICK)
def test_every_part_measures_or_says_why_not(part: str, context: Context) -> None:
    rows = list(PARTS[part](context))
    assert rows
    for row in rows:
        assert row.milliseconds is not None or row.figures or row.note.startswith(("left out: ", "refused: ")), row
        numbers = [row.milliseconds, row.ratio, row.low, row.high, *row.figures.values()]
        assert all(math.isfinite(value) for value in numbers if value is not None), row
    for title in {row.comparison for row in rows if row.ratio is not None}:
        (first, *_) = [row for row in rows if row.comparison == title]
        assert (first.ratio, first.contender) == (1.0, first.base)
    for row in rows:
        if "formula_gflop" in row.figures:
            assert row.figures["gflop"] == pytest.approx(row.figures["formula_gflop"])
        if row.contender.startswith("line of memory"):  # with checkpointing another moment of the step has the peak
            assert row.figures["residual"] < (0.05 if row.contender.endswith(growth.AGAIN) else 1e-3)


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    command = [sys.executable, bench.__file__, "--alone", "ganzoo", RING.name, "--small"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert told["note"] or 0 < told["figures"]["peak_over_imports_mb"] < 4000


def test_start_up_and_the_first_step_are_processes(tmp_path: Path) -> None:
    times = take_turns({"help": Turn(process("-m", "ganzoo", "--help").work, seconds=0.0)}, 0.0, least=1)
    assert 0 < times["help"][0] < 60
    process("-m", "ganzoo", "run", "-p", str(LEAVE), "--out", str(tmp_path), "--data", "ring").work(1)
    (run,) = tmp_path.iterdir()
    assert not list((run / "checkpoints").iterdir()), "it left right after the first step"
    with pytest.raises(RuntimeError, match="failed with 2"):
        process("-m", "ganzoo", "run", "--nonsense").work(1)


def test_a_rate_comes_from_a_real_run(context: Context) -> None:
    assert processes._rate(context, RING, 1, 1, 1.0) > 0


def test_ratios_are_of_the_same_round() -> None:
    ours, base = [2.0, 4.0, 8.0], [1.0, 2.0, 4.0]
    _, row = against("name", {"base": base, "ours": ours})
    assert (row.ratio, row.low, row.high, row.milliseconds, row.rounds) == (2, 2, 2, 4000, 3)


def test_a_turn_is_prepared_before_its_clock_starts() -> None:
    log: list[str] = []
    turn = Turn(lambda n: log.append(f"work {n}"), before=lambda n: log.append(f"before {n}"), seconds=0.0)
    take_turns({"one": turn}, 0.0, least=2)
    assert log == ["before 1", "work 1"] * (len(log) // 2)


@pytest.mark.parametrize(("side", "width", "channels"), [(28, 8, 1), (32, 4, 3), (20, 4, 1)])
def test_formulas_are_what_torch_counts(side: int, width: int, channels: int) -> None:
    spec = Spec((channels, side, side))
    gen = create("generator", "dcgan", spec, width=width, norm="none")
    disc = create("discriminator", "dcgan", spec, width=width, norm="none")
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        disc(gen(torch.zeros(2, 100)))
    sizes = (side, width, channels)
    assert counter.get_total_flops() == 2 * (dcgan_forward(*sizes) + dcgan_forward(*sizes, 100))
    weights = [sum(p.numel() for p in net.parameters() if p.ndim > 1) for net in (gen, disc)]
    assert weights == [dcgan_parameters(*sizes, 100), dcgan_parameters(*sizes)]


def test_a_line_is_fitted() -> None:
    assert growth.line([1, 2, 3], [3, 5, 7]) == pytest.approx((1, 2, 0), abs=1e-9)
    assert growth.line([1, 2, 3], [1, 2, 1])[2] > 0.1
    assert dcgan_step(64, 64, 3, 100) < dcgan_step(64, 64, 3, 100, frozen=False)


def test_the_model_averages_what_the_networks_have() -> None:
    model = cluster.MODELS[0]
    spec = Spec((model.channels, model.side, model.side))
    nets = [create("generator", "dcgan", spec), create("discriminator", "dcgan", spec)]
    parameters = sum(p.numel() for net in nets for p in net.parameters())
    buffers = sum(b.numel() for net in nets for b in net.buffers() if b.is_floating_point())
    assert model.numbers == parameters + 2 * buffers
    one, eight, many = (cluster.expected(model, n, cluster.SETS[0]) for n in (1, 8, 1000))
    assert one.efficiency == 1 > eight.efficiency > many.efficiency > 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_learns(name: str) -> None:
    script = SCRIPTS[name]
    trained = train(script, Source(PIXELS, "noise"), 0.0, 0, CPU)
    torch.default_generator.manual_seed(0)
    shape = (1, script.size, script.size)
    assert trained.steps == 1
    assert all(math.isfinite(value) for value in trained.losses.values())
    for before, after in ((script.gen(shape), trained.pair.gen), (script.disc(shape), trained.pair.disc)):
        moved = [(a - b).abs().max() for a, b in zip(before.parameters(), after.parameters(), strict=True)]
        assert all(torch.isfinite(each) for each in moved)
        assert sum(bool(each > 0) for each in moved) > len(moved) / 2
    if name == "mlp-wgan":
        assert all(p.abs().max() <= 0.01 for p in trained.pair.disc.parameters())


def test_samples_have_the_side_that_is_scored() -> None:
    trained = train(SCRIPTS["mlp-gan"], Source(PIXELS, "noise"), 0.0, 0, CPU)
    made = samples(trained.pair, 70, 0, 16)
    assert made.shape == (70, 16, 16)
    assert made.dtype == np.uint8
    assert samples(trained.pair, 70, 0, 28).shape == (70, 28, 28)


def test_a_script_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "samples.npz"
    words = ["mlp-gan", "--data", "digits", "--seconds", "0", "--samples", "10", "--out", str(out)]
    tutorial.main(words)
    assert json.loads(capsys.readouterr().out)["steps"] == 1
    with np.load(out) as arrays:
        assert arrays["images"].shape == (10, 16, 16)
    with pytest.raises(SystemExit):
        tutorial.main(["mlp-gan", "--seconds", "0", "--out", str(out)])
    assert "GANZOO_DATA" in capsys.readouterr().err


def test_own_transforms_are_those_of_torchvision() -> None:
    found, whose = transform(13, 1)
    assert whose == "torchvision's transforms"
    for pixels in (PIXELS[0], np.resize(PIXELS[0], (13, 13))):
        image = Image.fromarray(pixels)
        assert torch.equal(found(image), PlainTransform(13)(image))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_in_portions(workers: int) -> None:
    batches = Batches(Source(PIXELS, "noise"), 8, 4, workers)
    for count in (2, 3):
        batches.begin(count)
        found = list(batches)
        assert [tuple(each.shape) for each in found] == [(4, 1, 8, 8)] * count
        assert all(each.min() >= -1 and each.max() <= 1 for each in found)


def measured(path: Path, parts: str) -> Path:
    """A file of the bench with real numbers, said to be no trial."""
    bench.main(["--parts", parts, "--small", "--seconds", "0", "--json", str(path)])
    saved = json.loads(path.read_text(encoding="utf-8"))
    with pytest.raises(SystemExit, match="measures nothing"):
        report.parse(path)
    path.write_text(json.dumps({**saved, "small": False}), encoding="utf-8")
    return path


def scores(path: Path) -> Path:
    """A file of the quality bench in which everybody was trained."""
    results = [
        {"contender": name, "settings": quality.settings_of(name, "mnist"), "seed": seed, "steps": 100}
        | {"fid": 3.0 + i + seed, "label": "FID[digit-cnn]"}
        for i, name in enumerate(("ganzoo", *SCRIPT_NAMES, "ganzoo-unlabelled"))
        for seed in range(2)
    ]
    older = [{**each, "settings": "of an older preset", "fid": 0.0} for each in results[:2]]
    asked = {"data": "mnist", "seconds": 5.0, "samples": 100, "device": "cpu"}
    machine = {"cpu": "a CPU", "capability": "none", "threads": 1, "torch": "2", "device": "cpu"}
    results[-1] = {**results[-1], "machine": {**machine, "cpu": "another CPU"}}
    saved = {"format": report.QUALITY, "machine": machine, "asked": asked, "results": [*older, *results]}
    path.write_text(json.dumps(saved), encoding="utf-8")
    return path


def test_reports_are_written_and_stay_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    (root / "docs" / "images").mkdir(parents=True)
    for each in (report.PAGE, report.README):
        shutil.copy(ROOT / each, root / each)
    found = [measured(tmp_path / "bench.json", "overhead,tutorial"), scores(tmp_path / "quality.json")]
    assert report.main([str(file) for file in found], root) == 0
    said = capsys.readouterr().out
    assert "| DCGAN 32x32 by a bare loop | at most 1.03x | " in said
    assert ("not measured" in said) is bool(lacking("bf16", torch.device("cpu")))
    assert "ganzoo, by the best script's | at most 0.333 | 0.778 | missed |" in said
    assert "ganzoo-unlabelled, by the best script's | at most 0.333 | 2.111 | missed |" in said
    page = (root / report.PAGE).read_text(encoding="utf-8")
    rows = json.loads(found[0].read_text(encoding="utf-8"))["results"]
    for row in rows:
        assert f"| {row['contender']} | {row['milliseconds']:,.3f} | " in page
    assert "ganzoo run --preset mnist-5min | 3.500 | 0.707 | 0.778 |" in page
    assert re.search(r"Trained on another machine, another CPU.*: ganzoo-unlabelled with seed 1\.\n", page)
    drawn = (root / report.PICTURE).read_text(encoding="utf-8")
    assert drawn.count("<rect") == sum(map(len, picture.bars({"results": rows}).values())) > 0
    assert report.PICTURE.as_posix() in (root / report.README).read_text(encoding="utf-8")
    assert report.main(["--check"], root) == 0
    assert report.main([str(found[0])], root) == 0, "the same file again changes nothing"
    assert len(list((root / report.RESULTS).iterdir())) == 2
    (root / report.PAGE).write_text(page.replace("| ganzoo | ", "| ganzoo | 1"), encoding="utf-8")
    assert report.main(["--check"], root) == 1
    (root / report.PAGE).write_text("no markers", encoding="utf-8")
    with pytest.raises(SystemExit, match="lost its markers"):
        report.main([], root)


def test_parts_measured_before_are_kept(tmp_path: Path) -> None:
    file = measured(tmp_path / "bench.json", "overhead,pipeline")
    saved = json.loads(file.read_text(encoding="utf-8"))
    target = report.add(file, tmp_path / "results")
    only = [row for row in saved["results"] if row["part"] == "pipeline"]
    file.write_text(json.dumps({**saved, "results": only}), encoding="utf-8")
    assert report.add(file, tmp_path / "results") == target
    assert json.loads(target.read_text(encoding="utf-8"))["results"] == saved["results"]


def test_promises_are_judged() -> None:
    row = {"part": "start-up", "comparison": "start-up", "contender": "ganzoo --help", "ratio": 5.0}
    left_out = {**row, "part": "overhead", "comparison": "all", "milliseconds": None, "ratio": None, "figures": {}}
    machine = {"results": [{**row, "milliseconds": 140.0, "figures": {}}, left_out]}
    told = {(words, verdict) for words, _, _, verdict in figures.goals(machine)}
    assert {("`ganzoo --help`", "met"), ("`ganzoo --help` by a bare import of click", "missed")} <= told
    starts = [
        {"part": "images", "comparison": f"{way}, 9 PNGs", "contender": "second start", "ratio": ratio}
        for way, ratio in (("streamed", 0.5), ("in memory", 0.05))
    ]
    of_images = list(figures.goals({"results": [{**each, "figures": {}, "milliseconds": 1.0} for each in starts]}))
    assert ("Second start on many images", "at most 0.1x", "0.05x", "met") in of_images
    of_overhead = sum(goal.part == "overhead" for goal in figures.GOALS)
    assert of_overhead == sum(verdict == "not measured" for _, verdict in told) > 0
    assert len(told) == 2 + of_overhead, "what was not asked for is neither met nor missed"


def test_the_quality_bench_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = scores(tmp_path / "quality.json")
    asked = ["--seconds", "5", "--samples", "100", "--seeds", "2", "--json", str(file)]
    quality.main(asked)  # all is done, so it trains nothing
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["ganzoo", "3.500", "0.707", "0.778"]
    assert len(lines) == 1 + 2 + len(SCRIPT_NAMES)
    with pytest.raises(SystemExit, match="other settings"):
        quality.main([*asked, "--data", "digits"])
    with pytest.raises(SystemExit):
        quality.main(["--only", "nobody"])


def test_names_are_those_of_what_is_there() -> None:
    assert tuple(SCRIPTS) == SCRIPT_NAMES
    assert tuple(PARTS) == PART_NAMES


def test_an_unknown_part_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--parts", "nonsense"])
    assert "there is no part 'nonsense'" in capsys.readouterr().err


def test_the_page_is_fresh() -> None:
    assert report.main(["--check"]) == 0, "write it again: python benchmarks/report.py"


def test_the_report_reads_without_torch() -> None:
    code = "import sys; sys.path.insert(0, 'benchmarks'); import report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def _leave(_: Context) -> Turn:
    os._exit(1)


def test_a_contender_may_have_a_process_of_its_own(context: Context) -> None:
    times = take_turns({"there": apart(context, OurLoop, RING.of_run(context))}, 0.0, least=2)
    assert all(seconds > 0 for seconds in times["there"])
    assert len(multiprocessing.active_children()) == 1
    broken = apart(context, OurLoop, {"data": "nonsense"})
    with pytest.raises(RuntimeError, match="nonsense"):
        broken.work(1)
    gone = apart(context, _leave)
    with pytest.raises(RuntimeError, match="The process of _leave is gone"):
        gone.work(1)
    context.close()
    assert not multiprocessing.active_children()
