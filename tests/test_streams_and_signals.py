"""What a command does whose streams are closed or full, whom a signal meets in an import, or whose user has no home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Ganzoo
from PIL import Image
from running import POINTS, TINY, flags

import ganzoo as public
from ganzoo import processes

posix = pytest.mark.skipif(sys.platform == "win32", reason="has other streams and signals")
LINE = ["run", *flags({key: value for key, value in TINY.items() if key != "run.keep_last"})]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of points that is not changed."""
    out = tmp_path_factory.mktemp("runs")
    return public.train({**POINTS, "run.out": out, "run.name": "r", "run.steps": 1, "run.device": "cpu"}).path


def shell(text: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a shell makes of ``text``, in which ``"$@"`` is the command line of ganzoo."""
    command = [*processes.python(), "-m", "ganzoo", *args]
    return subprocess.run(
        ["sh", "-c", text, "sh", *command], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


INTERRUPTED = """
import importlib.abc, json, os, signal, sys

class Sends(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Sends())
from ganzoo.cli import main
sys.exit(main(json.loads(sys.argv[1])))
"""
WEIGHTS = "export weights.pt --gen mlp --shape 2 --out new"


@posix
@pytest.mark.parametrize(
    "line",
    [
        "sample RUN -n 2",
        "export RUN --out new",
        WEIGHTS,
        "compare RUN --grid g.png",
        "doctor --no-parity",
        "plugins --check",
    ],
)
def test_an_interrupt_while_torch_imports_numpy_is_heard(tmp_path: Path, run: Path, line: str) -> None:
    (tmp_path / "weights.pt").write_bytes(b"")
    args = [str(run) if word == "RUN" else word for word in line.split()]
    command = [sys.executable, "-c", INTERRUPTED, json.dumps(args)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "Interrupted.")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


@posix
@pytest.mark.parametrize(
    ("text", "more"), [('"$@" 2>&-', []), ('"$@" -q >&-', []), ('"$@" <&-', []), ('"$@" <&- >&- 2>&-', [])]
)
def test_a_run_needs_no_streams(tmp_path: Path, text: str, more: list[str]) -> None:
    done = shell(text, *LINE, "--steps", "4", "--out", "runs", *more, cwd=tmp_path)
    assert (done.returncode, "Error" in done.stderr) == (0, False)
    # Now there is an unfinished run of the same settings, which one would be asked about.
    done = shell(text, *LINE, "--steps", "5", "--out", "runs", *more, cwd=tmp_path)
    assert (done.returncode, "Error" in done.stderr) == (0, False)
    assert len(list((tmp_path / "runs").iterdir())) == 2


@posix
def test_a_score_needs_no_stream_for_what_is_said(tmp_path: Path, run: Path) -> None:
    done = shell('"$@" 2>&-', "eval", str(run), "--samples", "50", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["scores"]


TAKEN = """
import os, sys
from ganzoo.cli import main
assert main(["--version"]) == 0
print(os.path.samefile("/dev/fd/2", os.devnull), os.get_inheritable(2), sys.stderr is not None)
"""


@posix
def test_the_number_of_a_stream_that_is_closed_goes_to_no_other_file(tmp_path: Path) -> None:
    command = ["sh", "-c", '"$@" 2>&-', "sh", sys.executable, "-c", TAKEN]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[1:] == ["True True True"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
@pytest.mark.parametrize("unbuffered", ["PYTHONUNBUFFERED=1", "PYTHONUNBUFFERED="])
@pytest.mark.parametrize("line", ["list", "list --json", "--help", "RUN --json"])
def test_output_that_cannot_be_written_is_a_sentence(tmp_path: Path, line: str, unbuffered: str) -> None:
    args = [*LINE, "--steps", "1", "--json", "-q"] if line.startswith("RUN") else line.split()
    done = shell(f'{unbuffered} "$@" >/dev/full', *args, cwd=tmp_path)
    assert done.returncode == 1
    said = "Error: Standard output cannot be written to (No space left on device); send it somewhere else.\n"
    assert done.stderr == said


@posix
@pytest.mark.parametrize("line", ["run --data evil --dry-run", "eval evil --against evil", "data prepare evil x"])
def test_names_of_strangers_reach_no_terminal_from_any_command(tmp_path: Path, line: str) -> None:
    for part in ("train", "test"):
        folder = tmp_path / "evil" / "\x1b[31mred" / part
        folder.mkdir(parents=True)
        for number in range(8):
            Image.new("L", (16, 16), 9 * number).save(folder / f"{number}.png")
    Image.new("L", (16, 16)).save(tmp_path / "evil" / "\x1b[31mred" / "x.svg", "PNG")
    done = shell('"$@"', *line.split(), cwd=tmp_path)
    assert "\x1b" not in done.stdout + done.stderr
    warnings = [text for text in done.stderr.splitlines() if "red" in text and "Error" not in text]
    assert warnings
    assert len(set(warnings)) == len(warnings)
    assert all(text.startswith("Warning: ") for text in warnings)


def test_a_run_says_each_warning_once(tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder = tmp_path / "photos" / part
        folder.mkdir(parents=True)
        for number in range(8):
            Image.new("L", (8, 8), 9 * number).save(folder / f"{number}.png")
    line = ["run", "--data", "photos", "--steps=1", "--batch-size=4", "--samples=4", "--gen.width=4", "--disc.width=4"]
    command = [*processes.python(), "-m", "ganzoo", *line]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.count("look like parts of a data set") == 1
    assert done.stderr.count("Warning: ") == 1


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor the system knows where this user is at home."""
    pwd = pytest.importorskip("pwd", reason="homes are the environment's alone here")

    def unknown(_: int) -> Any:
        raise KeyError

    for name in ("HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
def test_a_user_may_have_no_home(ganzoo: Ganzoo, tmp_path: Path, run: Path) -> None:
    done = ganzoo("export", str(run), "--out", str(tmp_path / "export"))
    assert (done.code, done.err) == (0, "")
    done = ganzoo("doctor", "--no-parity")
    assert "should not have happened" not in done.err
    assert "Sound" in done.out or "checks failed" in done.out


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="nobody tells here which cores may be used")
def test_cores_are_those_that_this_process_may_use(ganzoo: Ganzoo, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganzoo.registry import build, registry

    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    decisions = {each["name"]: each for each in ganzoo("run", "--device=cpu", "--dry-run", "--json").json["decisions"]}
    assert decisions["threads"]["value"] == "6"
    assert build(registry().choose("launcher", "local", {"jobs": 2}), None).threads == 3
