"""Sweeps: the grammar of lists, the cells they make, claims, and the work on a folder, alone and together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Done, Ganzoo
from hypothesis import given
from hypothesis import strategies as st

from ganzoo.cli.axes import split
from ganzoo.errors import UsageError
from ganzoo.sweep import claims
from ganzoo.sweep.claims import Claims
from ganzoo.sweep.grid import Cell, shard

INLINE = str(Path(__file__).parent / "inline_launcher.py")
TINY = "--data ring --gen mlp --disc mlp --gen.width 4 --disc.width 4 --batch-size 8 --samples 4 --log-every 1"
HERE = f"-p {INLINE} --launcher inline"


Sweep = Callable[[str], Done]


@pytest.fixture
def sweep(ganzoo: Ganzoo) -> Iterator[Sweep]:
    """``ganzoo sweep`` with a line of arguments, in this process and an empty folder."""
    yield lambda line: ganzoo("sweep", *line.split())
    sys.modules.pop("inline_launcher", None)


def cells(sweep: Sweep, line: str) -> list[dict[str, Any]]:
    done = sweep(f"{line} --dry-run --json")
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = done.json["cells"]
    return found


def values(found: list[dict[str, Any]], *paths: str) -> list[tuple[str, ...]]:
    return [tuple(cell["settings"].get(path, "") for path in paths) for cell in found]


WORDS = st.text(st.characters(codec="utf-8", exclude_characters=",", exclude_categories=("Z", "C")), min_size=1)


@given(st.lists(WORDS, min_size=1))
def test_a_list_comes_back_from_its_text(words: list[str]) -> None:
    assert split(",".join(words)) == words
    assert split(" , ".join(words)) == words
    assert split(",".join(words), whole=True) == [",".join(words)]


@given(
    st.lists(st.sampled_from(["", " ", "a", "b"]), min_size=2).filter(lambda words: not all(w.strip() for w in words))
)
def test_a_list_has_no_empty_value(words: list[str]) -> None:
    with pytest.raises(UsageError, match="empty value"):
        split(",".join(words))


def test_every_combination_is_a_cell(sweep: Sweep) -> None:
    found = cells(sweep, f"{TINY} --loss ns,lsgan --seed 0,1 --seed 2")
    assert values(found, "loss", "run.seed") == [(loss, seed) for loss in ("ns", "lsgan") for seed in "012"]
    assert len({cell["name"] for cell in found}) == 6


def test_an_option_counts_where_the_component_has_it(sweep: Sweep) -> None:
    found = cells(sweep, f"{TINY} --loss ns,wgan-gp --loss.gp-weight 1,10")
    assert values(found, "loss", "loss.gp_weight") == [("ns", ""), ("wgan-gp", "1"), ("wgan-gp", "10")]


def test_regularizers_of_one_run_are_joined_by_a_plus(sweep: Sweep) -> None:
    found = cells(sweep, f"{TINY} --reg none,r1,r1+r2 --reg r2 --reg.r1.gamma 1,2")
    wanted = [("", ""), ("r1", "1"), ("r1", "2"), ("r1,r2", "1"), ("r1,r2", "2"), ("r2", "")]
    assert values(found, "reg", "reg.r1.gamma") == wanted


def test_a_value_that_holds_commas_is_one_value(sweep: Sweep) -> None:
    found = cells(sweep, f"{TINY} --optim.betas 0,0.9 --optim.betas 0.5,0.999 --disc-optim.betas 0,0.9")
    assert values(found, "optim.betas") == [("0,0.9",), ("0.5,0.999",)]
    assert len({cell["name"] for cell in found}) == 2


def test_a_switch_and_its_opposite_are_two_values(sweep: Sweep) -> None:
    assert values(cells(sweep, "--data folder --data.path x --flip --no-flip"), "data.flip") == [("true",), ("false",)]
    assert values(cells(sweep, f"{TINY} --no-deterministic"), "run.deterministic") == [("false",)]


def test_presets_and_files_are_axes(sweep: Sweep, tmp_path: Path) -> None:
    for name, rate in (("slow", 1e-5), ("fast", 1e-3)):
        (tmp_path / f"{name}.toml").write_text(f"[optim]\nlr = {rate}\n", encoding="utf-8")
    found = cells(sweep, f"{TINY} --config slow.toml,fast.toml --loss ns,hinge")
    assert len({cell["name"] for cell in found}) == 4


def test_settings_that_come_out_equal_are_one_cell(sweep: Sweep) -> None:
    assert len(cells(sweep, f"{TINY} --optim.lr 0.001,1e-3 --loss ns")) == 1


def test_a_cell_has_one_name_in_whatever_sweep_it_stands(sweep: Sweep) -> None:
    def names(line: str) -> set[str]:
        return {cell["name"] for cell in cells(sweep, f"{TINY} {line}")}

    small, large = names("--seed 1"), names("--loss hinge,ns --seed 0,1,2 --disc.depth 2,3")
    assert small <= names("--loss hinge,ns --seed 0,1")
    assert small == names("--seed 1 --steps 77 --sample-every 5 --device cpu")
    assert not names("--seed 1 --ema-half-life 3") & small
    assert len(large) == 12
    assert len(names("--seed 1 --steps 10,20")) == 2, "a live setting with several values tells cells apart"


def test_what_is_refused_says_why(sweep: Sweep) -> None:
    found = cells(sweep, "--data ring --gen mlp,dcgan --disc mlp --disc.norm none,batch --loss ns,wgan-gp")
    refused = {cell["name"]: " ".join(cell["sentences"]) for cell in found if cell["status"] == "refused"}
    assert len(found) == 8
    assert len(refused) == 5
    assert sum("with batch norm cannot have a gradient penalty" in text for text in refused.values()) == 2
    assert "refused: The generator dcgan" in sweep("--data ring --gen mlp,dcgan --disc mlp --dry-run").out


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--loss ns,nope", "There is no loss 'nope'."),
        ("--loss ns,,hinge", "--loss has an empty value in 'ns,,hinge'."),
        ("--seed 0,x", "must be int"),
        ("--seed 0, ", "has an empty value"),
        ("--loss ns,hinge --loss.gp-weight 1", "has no option --loss.gp-weight; wgan-gp has it."),
        ("--seed 0 --name x", "No such option '--name'"),
        ("--seed 0,1", "Say in which folder"),
        ("--seed 0,1 --out s --shard 3/2", "--shard is I/N"),
        ("--out nowhere", "There is no sweep in nowhere"),
        ("--data ring --gen dcgan --disc dcgan --out s --seed 0,1", "Each of the 2 runs is refused."),
        ("--seed 0 --out s --launcher nope", "There is no launcher 'nope'."),
        ("--seed 0 --out s --jobs 0", "must be int >= 1"),
    ],
)
def test_bad_requests_are_one_sentence(sweep: Sweep, line: str, sentence: str) -> None:
    done = sweep(line)
    assert done.code == 2
    assert sentence in done.err
    assert "Traceback" not in done.err


@given(st.integers(0, 30), st.integers(1, 12))
def test_shards_are_a_partition(count: int, parts: int) -> None:
    every = [Cell(str(number), None) for number in range(count)]
    found = [cell for part in range(1, parts + 1) for cell in shard(every, part, parts)]
    assert sorted(found, key=every.index) == every
    sizes = [len(shard(every, part, parts)) for part in range(1, parts + 1)]
    assert max(sizes) - min(sizes) <= 1


def started(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "started.txt").read_text(encoding="utf-8").splitlines()]


def steps_of(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_sweep_is_done_once_and_goes_on_with_more(sweep: Sweep, tmp_path: Path) -> None:
    base = f"{HERE} {TINY} --out s --loss ns,hinge --disc dcgan"
    line = f"{base} --steps 2"
    done = sweep(line)
    assert done.code == 0, done.err
    assert "2 done, 2 refused." in done.err
    assert "needs images" in done.err or "convolutions need images" in done.err
    assert "hinge" in done.out
    names = started(tmp_path)
    assert len(set(names)) == len(names) == 2
    assert sweep(f"{HERE} --out s").code == 0, "the folder knows what was asked for"
    assert started(tmp_path) == names, "what is done is not run again"
    assert sweep(f"{line} --seed 0,1").code == 0
    assert len(started(tmp_path)) == 4, "an axis that grows adds its cells alone"
    report = sweep(f"{base} --steps 4 --json")
    assert report.code == 0
    assert started(tmp_path)[4:] == names, "more steps train the same cells on"
    assert sorted(report.json["done"]) == sorted(names)
    for name in names:
        assert steps_of(tmp_path / "s" / name) == [1, 2, 3, 4]
    assert not list((tmp_path / "s" / ".cells").glob("*.claim.*"))


def test_a_failure_is_recorded_and_the_rest_goes_on(sweep: Sweep, tmp_path: Path) -> None:
    line = f"{HERE} {TINY} --out s --loss lsgan --optim.name sgd --optim.lr 1e30,1e-3 --steps 30"
    done = sweep(line)
    assert done.code == 1
    assert "1 done, 1 failed." in done.err
    assert "1 run failed" in done.err.splitlines()[-1]
    (file,) = (tmp_path / "s").glob("*/failed.json")
    failure = json.loads(file.read_text(encoding="utf-8"))
    assert failure["exit_code"] == 3
    assert failure["sentence"]
    assert failure["sentence"] in done.err
    assert len(started(tmp_path)) == 2
    assert sweep(line).code == 1
    assert len(started(tmp_path)) == 2, "what failed is left alone"
    assert sweep(f"{line} --retry").code == 1
    assert len(started(tmp_path)) == 3


def test_shards_share_a_folder(sweep: Sweep, tmp_path: Path) -> None:
    line = f"{HERE} {TINY} --out s --loss ns --seed 0,1,2 --steps 1"
    assert sweep(f"{line} --shard 1/2").code == 0
    assert len(started(tmp_path)) == 2
    assert sweep(f"{line} --shard 2/2").code == 0
    assert len(set(started(tmp_path))) == len(started(tmp_path)) == 3


def test_what_another_process_works_on_is_left_to_it(sweep: Sweep, tmp_path: Path) -> None:
    line = f"{HERE} {TINY} --out s --loss ns --seed 0,1 --steps 1"
    taken = cells(sweep, f"{TINY} --loss ns --seed 1")[0]["name"]
    with Claims(tmp_path / "s" / ".cells") as other:
        assert other.take(taken)
        done = sweep(line)
    assert done.code == 0
    assert "1 done, 1 left." in done.err
    assert taken not in started(tmp_path)


def test_finished_runs_are_evaluated_once(sweep: Sweep, tmp_path: Path) -> None:
    line = f"{HERE} {TINY} --out s --loss ns --steps 1"
    assert sweep(line).code == 0
    assert sweep(f"{line} --eval --eval.samples 100").code == 0
    (file,) = (tmp_path / "s").glob("*/evaluations.jsonl")
    before = file.read_bytes()
    assert sweep(f"{line} --eval --eval.samples 100").code == 0
    assert file.read_bytes() == before


def test_one_of_many_gets_a_claim(tmp_path: Path) -> None:
    every = [Claims(tmp_path) for _ in range(8)]
    for round_ in range(20):
        gate = threading.Barrier(len(every))
        got: list[Claims] = []

        def race(
            mine: Claims, name: str = f"cell-{round_}", gate: threading.Barrier = gate, got: list[Claims] = got
        ) -> None:
            gate.wait()
            if mine.take(name):
                got.append(mine)

        threads = [threading.Thread(target=race, args=(mine,)) for mine in every]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1


def dead() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("note", "age", "free"),
    [
        ({"pid": os.getpid(), "host": "here", "token": "other"}, 10_000, False),
        ({"pid": os.getpid(), "host": "here", "token": "other", "started": "before the last boot"}, 0, True),
        ({"pid": "dead", "host": "here", "token": "other"}, 0, True),
        ({"pid": "dead", "host": "elsewhere", "token": "other"}, 0, False),
        ({"pid": "dead", "host": "elsewhere", "token": "other"}, claims.SILENCE + 5, True),
        (None, 0, False),
        (None, claims.SILENCE + 5, True),
    ],
)
def test_the_claim_of_a_dead_process_is_taken_over(
    tmp_path: Path, note: dict[str, Any] | None, age: float, *, free: bool
) -> None:
    file = tmp_path / "cell.claim.1"
    if note is not None:
        note["pid"] = dead() if note["pid"] == "dead" else note["pid"]
        note["host"] = os.uname().nodename if note["host"] == "here" else note["host"]
    file.write_text("" if note is None else json.dumps(note), encoding="utf-8")
    then = time.time() - age
    os.utime(file, (then, then))
    mine = Claims(tmp_path)
    assert mine.is_taken("cell") == (not free)
    assert mine.take("cell") == free
    assert not Claims(tmp_path).take("cell")
    mine.release("cell")
    assert file.exists() == (not free), "the claims of the dead go with ours"


def test_a_claim_waits_for_a_run_that_outlived_its_sweep(tmp_path: Path) -> None:
    note = {"pid": dead(), "host": os.uname().nodename, "token": "other"}
    (tmp_path / "cell.claim.1").write_text(json.dumps(note), encoding="utf-8")
    assert not Claims(tmp_path, busy=lambda name: name == "cell").take("cell")
    assert Claims(tmp_path).take("cell")


def command(line: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ganzoo", "sweep", *line.split()],
        cwd=folder,
        env={**os.environ, "GANZOO_PLUGINS": "", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_share_a_sweep_and_train_each_cell_once(sweep: Sweep, tmp_path: Path) -> None:
    line = f"{HERE} {TINY} --out s --loss ns,hinge --seed 0,1,2 --steps 1"
    both = [command(line, tmp_path) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    names = started(tmp_path)
    assert len(names) == len(set(names)) == 6
    assert "6 done before" in sweep(line).err
    assert not list((tmp_path / "s" / ".cells").glob("*.claim.*"))


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_sweep_that_is_stopped_goes_on_where_it_was(sweep: Sweep, tmp_path: Path) -> None:
    line = f"{TINY} --out s --loss ns --seed 0,1"
    process = command(f"{line} --steps 1000000", tmp_path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((tmp_path / "s").glob("*/metrics.jsonl")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "interrupted" in err
    assert "Stopped with 2 runs left" in err
    (saved,) = (tmp_path / "s").glob("*/checkpoints/step-*")
    step = int(saved.name.removeprefix("step-"))
    assert step > 0
    assert not list((tmp_path / "s" / ".cells").glob("*.claim.*"))
    assert not list((tmp_path / "s" / ".cells").glob("*.process"))
    done = sweep(f"{HERE} {line} --steps {step + 1}")
    assert done.code == 0, done.err
    first = saved.parent.parent
    assert (first / "checkpoints" / f"step-{step + 1:08d}").is_dir()
    assert steps_of(first) == list(range(1, step + 2)), "the first cell went on from its checkpoint"
