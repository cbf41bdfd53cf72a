"""Files in the current folder that are named as modules of Python: no process of ours takes them for those."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import POINTS, flags

TESTS = Path(__file__).parent
LIKE_PYTHON = ("bisect", "pickle", "random", "selectors", "socket", "timeit")
LINE = ["--steps", "1", "--device", "cpu", "--out", "out"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with such files, a plugin, and another module that it needs."""
    here = tmp_path / "here"
    here.mkdir()
    for name in LIKE_PYTHON:
        program = f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r})\nraise SystemExit(7)\n"
        (here / f"{name}.py").write_text(program, encoding="utf-8")
    shutil.copy(TESTS / "own_parts.py", here / "its_parts.py")
    text = "import its_parts\nfrom its_parts import Failing, Remembering, ganzoo_components\n"
    (here / "folder_parts.py").write_text(text, encoding="utf-8")
    return here


def run(here: Path, *line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command in that folder, started as an installed one is: from a script elsewhere."""
    script = here.parent / "ganzoo_script.py"
    script.write_text("import sys\nfrom ganzoo.cli import main\nsys.exit(main())\n", encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, str(script), *line],
        cwd=here,
        env={**kept, "PYTHONWARNINGS": "ignore", **env},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert not (here.parent / "executed").exists(), (done.stderr, (here.parent / "executed").read_text("utf-8"))
    assert done.returncode == 0, done.stderr
    return done


def test_several_processes(here: Path) -> None:
    run(here, "run", *flags(POINTS), *LINE, "--devices", "2", "-p", "folder_parts", "--trainer", "remembering")


def test_the_cells_of_a_sweep_and_their_evaluation(here: Path) -> None:
    more = ["--trainer", "remembering", "--seed", "0", "--eval.samples", "50"]
    done = run(here, "sweep", *flags(POINTS), *LINE, "-p", "folder_parts", *more)
    assert "1 done" in done.stderr


def test_what_compiles_says_when_there_is_no_compiler(here: Path) -> None:
    """The plugin, too, is found by the process that tries it."""
    (here / "bin").mkdir()
    tools = {"PATH": str(here / "bin"), "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(here / "inductor")}
    done = run(
        here, "run", *flags(POINTS), *LINE, "--compile", "-p", "folder_parts", "--trainer", "remembering", **tools
    )
    (said,) = (line for line in done.stderr.splitlines() if "--compile" in line)
    why = "there is no C++ compiler here; install one, such as g++"
    assert said == f"Warning: The run goes on without --compile: {why}."


DECODING = """
from pathlib import Path
from ganzoo.data import list_images
from ganzoo.data.workers import Decoders
decoders = Decoders(list_images(Path("photos")), (3, 16, 16), "crop", 2)
list(decoders.begin(range(4)).result())
decoders._awake.result()
list(decoders.begin(range(4)).result())
assert decoders.workers == 2, "they were given up"
decoders.close()
"""


def test_processes_that_decode(here: Path) -> None:
    (here / "photos").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(here / "photos" / f"{number}.png")
    script = here.parent / "decoding.py"
    script.write_text(DECODING, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (here.parent / "executed").exists()


@pytest.mark.parametrize(
    ("start", "flags"), [(["-c", "{}"], []), (["-P", "-c", "{}"], ["-P"]), (["../it.py"], ["-P"]), (["it.py"], [])]
)
def test_children_look_in_the_current_folder_first_where_their_parent_does(
    tmp_path: Path, start: list[str], flags: list[str]
) -> None:
    program = "import json; from ganzoo import processes; print(json.dumps(processes.python()))"
    here = tmp_path / "here"
    here.mkdir()
    for folder in (here, tmp_path):
        (folder / "it.py").write_text(program, encoding="utf-8")
    line = [sys.executable, *(word.format(program) for word in start)]
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    done = subprocess.run(line, cwd=here, env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [sys.executable, *flags]
