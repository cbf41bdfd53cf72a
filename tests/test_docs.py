"""What the pages show works. A page is run from top to bottom in a folder of its own, with few steps.

Before a block, ``<!-- run -->`` has it run (``<!-- run: 2 -->`` expects that exit code), ``<!-- file: NAME -->`` has it
written to a file, and ``<!-- needs: NAME -->`` has the test provide one. Of other blocks, and within the text,
``ganzoo run`` and ``ganzoo sweep`` are tried with ``--dry-run``, and Python is compiled. What installs or tests is
proven word by word.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from torch.distributed.run import get_args_parser

import ganzoo
from ganzoo import cli, errors, hookspecs
from ganzoo.plugins import loaded

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts
)
COMPONENTS = [page for page in PAGES if page.startswith("docs/components/")]
WRITTEN = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *(page for page in PAGES if page not in COMPONENTS)]
BLOCK = re.compile(r"((?:^<!--[^\n]*-->\n)*)^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ("--batch-size", "8", "--samples", "4")
SHELL = {"console", "sh"}
OTHER_LANGUAGES = {"python", "toml", "text", "json"}
TUTORIAL = "docs/tutorial/6-plugin.md"
"""Its block in ``sh`` is run line by line by ``test_plugin_packages.py``, in an environment of its own."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    marks: dict[str, str]

    @property
    def commands(self) -> list[str]:
        return [line.removeprefix("$ ") for line in self.text.splitlines() if line.startswith("$ ")]

    @property
    def runs(self) -> bool:
        return "run" in self.marks

    @property
    def code(self) -> int:
        return int(self.marks["run"] or 0)


def blocks(page: str) -> Iterator[Block]:
    for marks, language, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        found = re.findall(r"<!-- (\w+)(?:: (.*?))? -->", marks)
        yield Block(language, text, dict(found))


def within_text(page: str) -> list[str]:
    """Commands in the middle of a sentence, but for those with a placeholder (NAME, ...)."""
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    found = [" ".join(command.split()) for command in re.findall(r"`(ganzoo run [^`]+)`", text)]
    return [command for command in found if not re.search(r"[A-Z]{4}|\.\.\.|--help", command)]


def has_blocks(page: str) -> bool:
    return any(block.language in ("console", "python", "toml") for block in blocks(page))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with some photos, pets and arrays; plugins that a page loads are forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 36, 40, 3), dtype=np.uint8)
    for name in ("photos", "pets/cats", "pets/dogs"):
        (tmp_path / name).mkdir(parents=True)
        for index, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / name / f"{index}.png")
    np.savez(tmp_path / "my.npz", images=pixels[:, :32, :32])
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    loaded.cache_clear()


def call(command: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    """The exit code of a command line of ganzoo, as if in a process of its own."""
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    loaded.cache_clear()
    return cli.main([*shlex.split(command)[1:], *more])


def few_steps(command: str) -> tuple[str, ...]:
    """What makes a training short: a step for each 500 that are asked for."""
    if not command.startswith("ganzoo run") or "--dry-run" in command:
        return ()
    asked = re.search(r"--steps (\d+)", command)
    return ("--steps", str(max(2, int(asked[1]) // 500) if asked else 2), *QUICK)


def provide(name: str) -> None:
    """A file that a page supposes."""
    assert name == "netG.safetensors"
    network = ganzoo.create("generator", "dcgan", ganzoo.Spec((3, 64, 64)))
    save_file({f"module.{key}": value.contiguous() for key, value in network.state_dict().items()}, name)


def newest_run() -> str:
    return max(Path("runs").iterdir(), key=lambda path: path.stat().st_mtime).as_posix()


@pytest.mark.parametrize("page", [page for page in WRITTEN if has_blocks(page)])
def test_what_a_page_shows_works(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in blocks(page):
        if "needs" in block.marks:
            provide(block.marks["needs"])
        if "file" in block.marks:
            path = folder / block.marks["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        if block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "python":
            text = re.sub(r'(\bsteps"?(?:=|: ))\d+', r"\g<1>2", block.text)
            code = compile(text, page, "exec")
            if block.runs:
                loaded.cache_clear()
                exec(code, {"__name__": "page"})
        for command in block.commands:
            if block.runs:
                assert call(command, monkeypatch, *few_steps(command)) == block.code, (command, capsys.readouterr().err)
            elif command.startswith(("ganzoo run", "ganzoo sweep")):
                assert call(command, monkeypatch, "--dry-run") == 0, (command, capsys.readouterr().err)
            elif command.startswith("ganzoo sample runs/"):
                line = re.sub(r"runs/\S+", newest_run(), command)  # the page's run takes too long, or other data
                assert call(line, monkeypatch) == 0, (command, capsys.readouterr().err)
            else:
                assert not command.startswith("ganzoo"), f"{command!r} is not tried; mark its block with <!-- run -->"
    for command in within_text(page):
        assert call(command, monkeypatch, "--dry-run") == 0, (command, capsys.readouterr().err)


def proven(command: str) -> bool:
    """Whether a line that installs or tests says what is there: files, pinned packages, sessions of nox.

    Of a line for torchrun its own parser reads its part, and ganzoo the rest.
    """
    program, *words = command.replace(".venv/bin/", "").removeprefix("GANZOO_DATA=data ").split()
    if program == "torchrun":
        asked = get_args_parser().parse_args(words)
        return asked.training_script == "ganzoo" and cli.main([*asked.training_script_args, "--dry-run"]) == 0
    if program == "python":
        file, *rest = words
        text = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).is_file() else ""
        return bool(text) and all(f'"{word}"' in text for word in rest if word.startswith("-"))
    if program == "pip":
        verb, *what = words
        files = [word for before, word in itertools.pairwise(words) if before == "-c"]
        packages = {word for word in what if word not in {"-c", "-e", ".", *files}}
        return verb == "install" and all((ROOT / file).is_file() for file in files) and packages <= PINNED
    if program == "nox":
        return not words or (words[0] == "-s" and words[1] in SESSIONS and words[2:3] in ([], ["--"]))
    return command in {"python3 -m venv .venv", ".venv/bin/ganzoo run"}


PINNED = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}
SESSIONS = {
    node.name
    for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and any("session" in ast.unparse(mark) for mark in node.decorator_list)
}


def test_every_line_of_shell_is_run_or_proven() -> None:
    """A new kind of block or of line fails here, until a test runs it or :func:`proven` knows it."""
    for page in [*WRITTEN, *COMPONENTS]:
        for block in blocks(page):
            assert block.language in SHELL | OTHER_LANGUAGES, (page, block.language)
            if block.language not in SHELL or (page == TUTORIAL and block.language == "sh"):
                continue
            lines = block.commands if block.language == "console" else block.text.splitlines()
            assert lines, (page, block.text)
            for command in itertools.chain.from_iterable(line.split(" && ") for line in lines):
                if block.language == "console" and command.startswith("ganzoo "):
                    continue  # the tests of pages run or try these, and refuse others
                assert proven(command), (page, command)
        text = (ROOT / page).read_text(encoding="utf-8")
        for command in re.findall(r"`(nox -s [^`]+|pip install -[ce][^`]+)`", text):
            assert proven(command), (page, command)


@pytest.mark.parametrize(
    "command", ["pip install nonesuch", "nox -s nonesuch", "pip uninstall torch", "pip install -c no.txt .", "make"]
)
def test_what_is_not_there_is_not_proven(command: str) -> None:
    assert not proven(command)


@pytest.mark.parametrize("page", COMPONENTS)
def test_how_a_component_is_used(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "prepared" in page:
        assert call("ganzoo data prepare photos copy --size 32", monkeypatch) == 0
    for block in blocks(page):
        for command in block.commands:
            path = "my.npz" if "npz" in command else "copy" if "prepared" in command else "photos"
            line = command.replace("PATH", path)
            last = "--help" if line.startswith("ganzoo eval") else "--dry-run"  # choices are checked for both
            assert call(line, monkeypatch, last) == 0, (command, capsys.readouterr().err)


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_stale_pages_are_named(tmp_path: Path) -> None:
    """The check finds what was edited, what is missing and what nothing has any more; torch is not imported."""
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import generate\n"
        "docs = pathlib.Path(sys.argv[2]); generate.DOCS, generate.ROOT = docs, docs.parent\n"
        "generate.parts = dict\n"
        "assert generate.main(['--check']) == 1\n"
        "assert generate.main([]) == 0 == generate.main(['--check'])\n"
        "(docs / 'cli.md').write_text('edited'); (docs / 'components/loss/gone.md').write_text('gone')\n"
        "(docs / 'components/index.md').unlink(); print('now')\n"
        "assert generate.main(['--check']) == 1 and 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "docs"), str(tmp_path / "docs")],
        capture_output=True,
        text=True,
        check=True,
    )
    stale = [line.partition(": ")[2] for line in done.stdout.split("now\n")[1].splitlines()[:-1]]
    assert [Path(line).name for line in stale] == ["cli.md", "index.md", "gone.md"]


@pytest.mark.parametrize("page", [*WRITTEN, "CHANGELOG.md", *COMPONENTS])
def test_links_within_the_project_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, target


def test_the_reference_has_the_signature_of_every_public_name() -> None:
    for module in ("ganzoo", "ganzoo.api", "ganzoo.nn", "ganzoo.data", "ganzoo.testing"):
        page = (ROOT / "docs" / "reference" / f"{module}.md").read_text(encoding="utf-8")
        for name in importlib.import_module(module).__all__:
            assert re.search(rf"^- `(class )?{name}\b", page, re.MULTILINE), (module, name)
    page = (ROOT / "docs" / "reference" / "ganzoo.nn.md").read_text(encoding="utf-8")
    assert "`forward(z: Tensor, y: Tensor | None=None) -> Tensor`: Samples" in page
    assert "`fake_labels: Tensor | None`: `[B]` int64, or None for unlabelled data." in page


def test_every_hook_is_documented() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    for name, hook in vars(hookspecs).items():
        if name.startswith("ganzoo_"):
            assert f"### `{name}(" in page
            assert "Example::" in hook.__doc__


def test_every_environment_variable_is_documented() -> None:
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "ganzoo").rglob("*.py"))
    assert set(re.findall(r"\bGANZOO_[A-Z_]+\b", code)) == set(re.findall(r"^\| `(GANZOO_\w+)`", page, re.MULTILINE))


def test_every_exit_code_is_documented() -> None:
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert codes <= {int(code) for code in re.findall(r"^\| (\d) \|", page, re.MULTILINE)}


def test_the_design_names_every_room_and_plugin() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rooms = {path.stem for path in (ROOT / "ganzoo").iterdir() if path.suffix == ".py" or path.is_dir()}
    plugins = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()}
    assert [name for name in rooms | plugins if not name.startswith("_") and f"`{name}`" not in page] == []
