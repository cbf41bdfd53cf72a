"""Plugins as packages: built, installed beside ganzoo's own wheel into an environment of their own, and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganzoo.cli.skeleton import write_package
from ganzoo.errors import UsageError

ROOT = Path(__file__).parent.parent
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
EXAMPLE = ROOT / "examples" / "ganzoo-example-plugin"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
FEW = ("--steps", "4", "--batch-size", "8", "--samples", "4")

Call = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    """That of this process, without what would bring other code than what is installed."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {
        key: value for key, value in os.environ.items() if key not in hidden and not key.startswith("GANZOO_PLUGINS")
    }


def wheel(project: Path, out: Path) -> Path:
    """The project's wheel, built from a copy so that the working tree stays as it is."""
    copied = out / f"source-{project.name}"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "runs", "tests", "docs", "benchmarks")
    shutil.copytree(project, copied, ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out / project.name)],
        cwd=copied,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (built,) = (out / project.name).glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that holds both wheels; torch and the like are lent by this one.

    The folder of packages is lent by a line in a ``.pth`` file. Such files in that folder itself are not read, so an
    editable ganzoo there is not seen.
    """
    root = tmp_path_factory.mktemp("packages")
    venv.create(root / "env", with_pip=True, symlinks=os.name != "nt")
    python = root / "env" / SCRIPTS / ("python.exe" if os.name == "nt" else "python")
    wheels = [str(wheel(project, root)) for project in (ROOT, EXAMPLE)]
    install(python, *wheels)
    own = run(python, root, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").stdout.strip()
    paths = sysconfig.get_paths()
    lent = dict.fromkeys((paths["purelib"], paths["platlib"]))
    (Path(own) / "lent.pth").write_text("\n".join(lent) + "\n", encoding="utf-8")
    return python


def install(python: Path, *what: str) -> None:
    quiet = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "-q")
    done = run(python, None, "-m", "pip", "install", *quiet, *what)
    assert done.returncode == 0, done.stdout + done.stderr


def run(python: Path, folder: Path | None, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), *args],
        cwd=folder or python.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def ganzoo(python: Path, tmp_path: Path) -> Call:
    """The command line of that environment, in a folder outside the project."""
    script = shutil.which("ganzoo", path=str(python.parent))
    assert script is not None

    def call(*args: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [script, *args], cwd=tmp_path, env=environment() | env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


def test_both_come_from_their_wheels(python: Path, tmp_path: Path) -> None:
    program = "import ganzoo, ganzoo_dcgan as d, ganzoo_example_plugin as e\nfor m in (ganzoo, d, e): print(m.__file__)"
    done = run(python, tmp_path, "-c", program)
    assert done.returncode == 0, done.stderr
    assert all(str(python.parent.parent) in path for path in done.stdout.split())


def test_the_example_is_found_and_shown(ganzoo: Call) -> None:
    plugins = {plugin["name"]: plugin for plugin in json.loads(ganzoo("plugins", "--check", "--json").stdout)}
    assert {plugin["status"] for plugin in plugins.values()} == {"active"}
    assert plugins["example"]["distribution"] == "ganzoo-example-plugin"
    assert plugins["example"]["version"] == "1.0.0"
    assert "generator/cppn" in plugins["example"]["components"]
    listed = {item["id"] for item in json.loads(ganzoo("list", "--json").stdout) if "id" in item}
    ours = {"cppn", "smooth-hinge", "drift", "shapes"}
    assert {f"example-plugin/{name}" for name in ours} | {"ganzoo/dcgan", "ganzoo/wgan-gp"} <= listed
    assert "paints a picture pixel by pixel" in ganzoo("show", "gen/cppn").stdout


@pytest.mark.parametrize(
    "parts",
    [
        "--gen cppn --data shapes --loss smooth-hinge --reg drift",
        "--gen dcgan --gen.width 8 --disc mlp --data shapes --data.size 8 --loss wgan-gp --trainer unrolled",
    ],
)
def test_its_parts_are_mixed_with_built_ins_and_its_observer_observes(ganzoo: Call, tmp_path: Path, parts: str) -> None:
    ganzoo("run", *parts.split(), *FEW, "--name", "mixed")
    diary = (tmp_path / "runs" / "mixed" / "diary.txt").read_text(encoding="utf-8").splitlines()
    assert "begins to learn" in diary[0]
    assert [line for line in diary if "step 4: 4 samples" in line]
    assert diary[-1].endswith("the end")
    saved: dict[str, Any] = json.loads((tmp_path / "runs" / "mixed" / "config.json").read_text(encoding="utf-8"))
    assert any(str(part.get("name", "")).startswith("example-plugin/") for part in saved["config"].values())


def test_a_trained_example_is_exported_and_its_observer_left_out_by_name(ganzoo: Call, tmp_path: Path) -> None:
    parts = "--gen cppn --disc mlp --data shapes --name it"
    ganzoo("run", *parts.split(), *FEW, GANZOO_DISABLE_PLUGINS="example-diary")
    assert not (tmp_path / "runs" / "it" / "diary.txt").exists()
    ganzoo("export", "runs/it", "--out", "export")
    ganzoo("sample", "export", "--out", "it.png")
    assert (tmp_path / "it.png").stat().st_size
    gone = ganzoo("sample", "export", "--out", "gone.png", code=4, GANZOO_DISABLE_PLUGINS="example")
    assert "example-plugin/cppn" in gone.stderr


def test_what_the_example_refuses_is_a_sentence(ganzoo: Call) -> None:
    refused = ganzoo("run", "--gen", "cppn", "--data", "ring", code=2)
    assert refused.stderr.startswith("Error: The generator cppn cannot be used with the data set ring: it paints")


def test_the_example_passes_its_own_tests(python: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    shutil.copy(EXAMPLE / "pyproject.toml", tmp_path)
    done = run(python, tmp_path, *PYTEST, f"--basetemp={tmp_path / 'temp'}")
    assert done.returncode == 0, done.stdout


def test_a_new_package_installs_passes_its_tests_and_trains(ganzoo: Call, python: Path, tmp_path: Path) -> None:
    folder = tmp_path / ganzoo("plugins", "new", "own-first").stdout.strip()
    assert folder == tmp_path / "ganzoo-own-first"
    install(python, str(folder))
    try:
        done = run(python, folder, *PYTEST, f"--basetemp={tmp_path / 'temp'}")
        assert done.returncode == 0, done.stdout
        ganzoo("plugins", "--check")
        ganzoo("run", "--gen", "own-first", "--loss", "own-first", "--disc", "mlp", *FEW, "--name", "first")
        saved = json.loads((tmp_path / "runs" / "first" / "config.json").read_text(encoding="utf-8"))["config"]
        assert (saved["gen"]["name"], saved["loss"]["name"]) == ("own-first/own-first", "own-first/own-first")
    finally:
        run(python, None, "-m", "pip", "uninstall", "-q", "-y", "ganzoo-own-first")


def test_the_tutorials_package_does_what_the_tutorial_says(ganzoo: Call, python: Path, tmp_path: Path) -> None:
    """Every line of the page's block in ``sh``, in order; pip only without network, and not editable."""
    page = (ROOT / "docs" / "tutorial" / "6-plugin.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert "ganzoo plugins new acme" in page
    ganzoo("plugins", "new", "acme")
    folder = tmp_path
    try:
        for program, *words in (line.split() for line in block.splitlines()):
            if program == "cd":
                folder /= words[0]
            elif program == "pip":
                assert words == ["install", "-e", ".", "pytest"]  # pytest is lent
                install(python, str(folder))
            elif program == "pytest":
                done = run(python, folder, *PYTEST, f"--basetemp={tmp_path / 'temp'}", *words)
                assert done.returncode == 0, done.stdout
            else:
                assert program == "ganzoo"
                ganzoo(*words, *(FEW if words[0] == "run" else ()))
    finally:
        run(python, None, "-m", "pip", "uninstall", "-q", "-y", "ganzoo-acme")


def test_a_new_package_uses_every_word_of_its_name(tmp_path: Path) -> None:
    folder = write_package("a-b2-c", tmp_path / "some" / "where")
    assert folder == tmp_path / "some" / "where" / "ganzoo-a-b2-c"
    written = sorted(str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file())
    assert written == [
        ".gitignore",
        "README.md",
        "ganzoo_a_b2_c/__init__.py",
        "ganzoo_a_b2_c/model.py",
        "ganzoo_a_b2_c/py.typed",
        "pyproject.toml",
        "tests/test_a_b2_c.py",
    ]
    text = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.is_file())
    assert "@" not in text.replace("@dataclass", "").replace("@hookimpl", "").replace("@pytest", "")
    assert "class AB2CGenerator(Generator)" in text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("dcgan", "There is a package ganzoo_dcgan here already"),
        ("ganzoo-dcgan", "There is a package ganzoo_dcgan here already"),
        ("hinge", "always means ganzoo's own loss"),
        ("vanilla", "always means ganzoo's own loss"),
        ("ganzoo", "first half of the ids of ganzoo's own components"),
        ("ganzoo-ganzoo", "first half of the ids of ganzoo's own components"),
        ("Mine", "no name for a plugin"),
        ("3d", "no name for a plugin"),
        ("../mine", "no name for a plugin"),
        ("a--b", "no name for a plugin"),
        ("", "no name for a plugin"),
        ("taken", "nothing is overwritten"),
    ],
)
def test_a_name_that_will_not_do_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "ganzoo-taken").mkdir()
    with pytest.raises(UsageError, match=sentence):
        write_package(name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ganzoo-taken"]


def test_listing_goes_on_without_the_command_new(ganzoo: Call) -> None:
    assert "generator/cppn" in ganzoo("plugins").stdout
    assert "There is no command 'nev' of 'ganzoo plugins'. Did you mean new?" in ganzoo("plugins", "nev", code=2).stderr
    assert "--json do not go with" in ganzoo("plugins", "--json", "new", "mine", code=2).stderr
