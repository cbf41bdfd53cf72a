"""One situation, one exit code, whatever meets it: 4 for what is not there, 1 for what is damaged, 2 for a request that
cannot be meant."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import POINTS

import ganzoo
from ganzoo.cli import main
from ganzoo.errors import GanzooError
from ganzoo.plugins import loaded

MISSING, DAMAGED, USAGE = 4, 1, 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, an export and what can be wrong with them."""
    root = tmp_path_factory.mktemp("codes")
    ganzoo.train({**POINTS, "out": str(root / "runs"), "name": "run", "steps": 1, "device": "cpu"})
    shutil.copytree(root / "runs" / "run", root / "run")
    (root / "empty").mkdir()
    (root / "words").write_text("words", encoding="utf-8")
    (root / "words.pt").write_text("words", encoding="utf-8")
    for name in ("torn", "alien", "list", "wrong", "strange", "absent", "pruned", "altered"):
        shutil.copytree(root / "run", root / name)
    config = root / "run" / "config.json"
    (root / "torn" / "config.json").write_text(config.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    for name, content in {"alien": {"format": "x"}, "list": [], "wrong": _with(config, "width", -1)}.items():
        (root / name / "config.json").write_text(json.dumps(content), encoding="utf-8")
    (root / "strange" / "config.json").write_text(json.dumps(_with(config, "name", "acme/x")), encoding="utf-8")
    (root / "absent" / "config.json").write_text(json.dumps(_with(config, "name", "ganzoo/x")), encoding="utf-8")
    shutil.rmtree(root / "pruned" / "checkpoints")
    for weights in (root / "altered" / "checkpoints").glob("*/model.safetensors"):
        weights.write_bytes(b"words")
    assert main(["export", str(root / "run"), "--out", str(root / "export")]) == 0
    shutil.copytree(root / "export", root / "bare")
    (root / "bare" / "model.safetensors").unlink()
    shutil.copytree(root / "export", root / "bad")
    (root / "bad" / "model.safetensors").write_bytes(b"words")
    return root


def _with(config: Path, key: str, value: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    record["config"]["gen"][key] = value
    return record


LINES = [
    # No such run or export, or nothing in it yet.
    *(
        (f"{command} {name}", MISSING)
        for command in ("sample", "export", "run --resume")
        for name in ("nosuch", "empty")
    ),
    *((f"{command} pruned", MISSING) for command in ("sample", "export")),  # run --resume starts it anew
    *((f"{command} altered", MISSING) for command in ("sample", "export", "run --resume")),  # no whole checkpoint
    *(
        (f"{command} {name}", MISSING)
        for command in ("sample", "export", "run --resume")
        for name in ("strange", "absent")
    ),
    ("sample bare", MISSING),
    ("export nosuch.safetensors --gen mlp --shape 2 --out new", MISSING),
    # Damaged.
    *(
        (f"{command} {name}", DAMAGED)
        for command in ("sample", "export", "run --resume")
        for name in ("torn", "alien", "list", "wrong")
    ),
    ("sample bad", DAMAGED),
    ("export words --gen mlp --shape 2 --out new", DAMAGED),
    # Not meant.
    ("sample words", USAGE),
    ("run --resume words", USAGE),
    ("sample export --out words", USAGE),
    ("sample export --out words/", USAGE),
    ("sample export --out words/grid.png", USAGE),
    ("sample export --out q.txt", USAGE),
    ("sample export --out v1.5", USAGE),
    ("export run --out words", USAGE),
    ("export run --out words/deep", USAGE),
    ("export words.pt --gen mlp --shape 2 --out new", USAGE),
    ("run --data ring --steps 0 --out words", USAGE),
    ("run --data ring --steps 0 --out words/deep", USAGE),
    ("run --config nosuch.toml", USAGE),
    ("run -p nosuch.py", USAGE),
]


@pytest.mark.parametrize(("line", "code"), LINES, ids=[line for line, _ in LINES])
def test_the_command_line(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, code: int
) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    before = sorted(made.rglob("*"))
    assert main(line.split()) == code
    err = capsys.readouterr().err
    said = [text for text in err.splitlines() if not text.startswith(("Try 'ganzoo", "Device: ", "Checkpoint "))]
    assert len(said) == 1
    assert said[0].startswith("Error: ")
    assert "should not have happened" not in said[0]
    assert "GanzooError" not in said[0]
    assert sorted(made.rglob("*")) == before
    loaded.cache_clear()  # -p was one of the lines


CALLS: dict[str, Callable[[Any], object]] = {
    "load": lambda path: ganzoo.load(path, "cpu"),
    "load_discriminator": lambda path: ganzoo.load_discriminator(path, "cpu"),
    "Run.open": ganzoo.Run.open,
    "train(resume=)": lambda path: ganzoo.train({"device": "cpu"}, resume=path),
}
PATHS = [
    ("nosuch", MISSING),
    ("empty", MISSING),
    ("strange", MISSING),
    ("absent", MISSING),
    ("torn", DAMAGED),
    ("alien", DAMAGED),
    ("list", DAMAGED),
    ("wrong", DAMAGED),
    ("words", USAGE),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("path", "code"), PATHS, ids=[path for path, _ in PATHS])
def test_python(made: Path, monkeypatch: pytest.MonkeyPatch, call: str, path: str, code: int) -> None:
    monkeypatch.chdir(made)
    for given in (path, Path(path)):
        with pytest.raises(GanzooError) as caught:
            CALLS[call](given)
        assert caught.value.exit_code == code


@pytest.mark.parametrize("call", ["load", "load_discriminator", "Run.open"])
@pytest.mark.parametrize("path", [5, None, b"run", ["run"]])
def test_what_is_no_path_is_a_sentence(call: str, path: Any) -> None:
    with pytest.raises(GanzooError, match="is a path, not") as caught:
        CALLS[call](path)
    assert caught.value.exit_code == USAGE


def test_a_folder_may_have_a_dot_in_its_name(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(made / "export"), "-n", "4", "--out", "v1.5/"]) == 0
    assert (tmp_path / "v1.5" / "points.csv").is_file()
    assert main(["sample", str(made / "export"), "-n", "4", "--out", "v1.5"]) == 0  # it is there now
