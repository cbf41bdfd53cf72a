"""Real processes on machines as users have them: read-only homes, old locales, narrow terminals, spawn."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_data import write_mnist

from ganzoo.api import Spec
from ganzoo.config import COMMAND_LINE, Layer, RunConfig, resolve
from ganzoo.data import ArrayDataset, Augment, DataStream
from ganzoo.data.prepare import from_dataset, prepare
from ganzoo.registry import build, list_components

RUN = ["run", "--steps", "1", "--samples", "2", "--gen.width", "4", "--disc.width", "4", "--device", "cpu", "--out"]
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def ganzoo(*args: str, cwd: Path, drop: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own, without a terminal."""
    known = {name: value for name, value in os.environ.items() if name not in drop}
    return subprocess.run(
        [sys.executable, "-m", "ganzoo", *args],
        cwd=cwd,
        env={**known, "OMP_NUM_THREADS": "1", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def photos(root: Path) -> Path:
    for i in range(4):
        path = root / f"class {i % 2}" / f"bild-ü{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i * 40).save(path)
    return root


@pytest.mark.parametrize("home", ["/dev/null/nobody", "read-only", None])
def test_without_a_home_that_can_be_written(tmp_path: Path, home: str | None) -> None:
    env: dict[str, Any] = {}
    if home is not None:
        folder = Path(home)
        if home == "read-only":
            folder = tmp_path / "home"
            folder.mkdir(mode=0o500)
        env = {"HOME": str(folder), "USERPROFILE": str(folder)}
    drop = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "GANZOO_CACHE", "GANZOO_DATA", "TORCH_HOME")
    done = ganzoo(*RUN, str(tmp_path / "runs"), cwd=tmp_path, drop=drop, **env)
    assert done.returncode == 0, done.stderr
    if home == "/dev/null/nobody":
        done = ganzoo("doctor", "--no-parity", "--json", cwd=tmp_path, drop=drop, **env)
        assert done.returncode == 0, done.stderr
        folders = {f["name"]: f for f in json.loads(done.stdout)["findings"] if f["topic"] == "Folders"}
        assert folders["data"]["status"] == "note"
        assert "set GANZOO_DATA or --data-root" in folders["data"]["text"]


OLD: dict[str, Any] = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_under_the_locale_c(tmp_path: Path) -> None:
    data = photos(tmp_path / "fotos für ganzoo")
    done = ganzoo(*RUN, str(tmp_path / "läufe"), "--data", str(data), cwd=tmp_path, **OLD)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).isascii()
    (run,) = (tmp_path / "läufe").iterdir()
    saved = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert saved["config"]["data"]["path"] == str(data)
    for line in (["list"], ["show", "mnist"], ["run", "--help"], ["doctor", "--no-parity"]):
        done = ganzoo(*line, cwd=tmp_path, **OLD, PYTHONIOENCODING="")
        assert done.returncode == 0, done.stderr
        assert (done.stdout + done.stderr).isascii()
    assert b"signs that it does not have are shown as ?" in done.stdout


def test_paths_with_spaces_and_unicode(tmp_path: Path) -> None:
    here = tmp_path / "ein Verzeichnis" / "日本 ü"
    data = photos(here / "my photos")
    done = ganzoo(*RUN, "runs of mine", "--data", "my photos", "--cond", "on", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    for line in (
        ["sample", run, "-n", "2", "--out", "some samples/é.png"],
        ["export", run, "--out", "an export"],
    ):
        done = ganzoo(*line, cwd=here)
        assert done.returncode == 0, done.stderr
    assert (here / "some samples" / "é.png").is_file()
    assert len(list(data.rglob("*.png"))) == 4


def test_without_a_terminal_there_are_no_escapes_and_lines_are_whole(tmp_path: Path) -> None:
    done = ganzoo(*RUN, "x" * 120, cwd=tmp_path)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stderr.replace(b"\r\n", b"\n")
    assert f"ganzoo sample {Path('x' * 120) / 'digits-dcgan-ns-001'}" in done.stdout.decode()
    assert b"step 1/1" in done.stderr


@pytest.mark.parametrize("line", ["list", "show dcgan", "show mnist", "run --help", "plugins", "doctor --help"])
def test_forty_columns_are_enough(tmp_path: Path, line: str) -> None:
    done = ganzoo(*line.split(), cwd=tmp_path, COLUMNS="40")
    assert done.returncode == 0, done.stderr
    rows = done.stdout.decode("utf-8").splitlines()
    blocks = [row for row in rows if row.startswith(("name ", "plugin ", "option "))]
    assert max((len(row) for row in blocks), default=0) <= 40
    assert bool(blocks) == (line in ("list", "plugins") or line.startswith("show"))


def test_no_color_is_kept_to_on_a_terminal(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    leader, follower = pty.openpty()
    env = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "ganzoo", *RUN, str(tmp_path / "runs")]
    with subprocess.Popen(line, stdin=follower, stdout=follower, stderr=follower, env=env) as process:
        os.close(follower)
        text = b""
        while True:
            try:
                data = os.read(leader, 4096)
            except OSError:  # how Linux says that the other side has gone
                break
            if not data:
                break
            text += data
    os.close(leader)
    assert process.returncode == 0, text
    numbers = [int(n) for found in COLOUR.findall(text.decode()) for n in found[2:-1].split(";") if n]
    assert not [n for n in numbers if 30 <= n <= 49 or 90 <= n <= 107], text


# Spawn and forkserver.


def configured(tmp_path: Path, name: str) -> RunConfig:
    values: dict[str, Any] = {"data": name}
    if name == "folder":
        values |= {"data.path": str(photos(tmp_path / "photos")), "data.flip": "true"}
    elif name == "npz":
        np.savez(tmp_path / "a.npz", x=np.arange(640, dtype=np.uint8).reshape(10, 8, 8), y=np.arange(10) % 3)
        values |= {"data.path": str(tmp_path / "a.npz"), "data.crop": "2"}
    elif name == "prepared":
        spec = Spec((1, 8, 8))
        data = ArrayDataset(torch.arange(640).reshape(10, 1, 8, 8).byte(), None, spec)
        prepare(from_dataset(data, {}), tmp_path / "copy", shard_bytes=3 * spec.numel)
        values |= {"data.path": str(tmp_path / "copy"), "data.flip": "true"}
    return resolve([Layer(COMMAND_LINE, values, textual=True)])


def _draw(streams: list[DataStream], answer: Connection) -> None:
    """Runs in another process."""
    answer.send(
        [None if batch.y is None else batch.y.tolist() + batch.x.flatten().tolist() for batch in _next(streams)]
    )
    answer.close()


def _next(streams: list[DataStream]) -> list[Any]:
    return [stream.next() for stream in streams]


NOT_FORKED = sorted({*multiprocessing.get_all_start_methods()} - {"fork"})  # a fork copies anything


@pytest.mark.parametrize("method", NOT_FORKED)
def test_data_sets_and_streams_go_to_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("GANZOO_DATA", str(tmp_path / "data"))
    write_mnist(tmp_path / "data", 5)
    names = [
        name for name in list_components("dataset") if name not in ("celeba", "cifar10", "fashion-mnist", "kmnist")
    ]
    assert {"digits", "mnist", "stacked-mnist", "ring", "grid", "swissroll", "folder", "npz", "prepared"} <= set(names)
    streams = []
    for name in names:
        config = configured(tmp_path, name)
        stream = DataStream(build(config.data, config.spec()), 4, 0)
        stream.next()
        streams.append(stream)
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_draw, args=(streams, theirs))
    process.start()
    theirs.close()
    assert ours.poll(60)
    drawn = ours.recv()
    process.join(30)
    assert process.exitcode == 0
    expected = [None if b.y is None else b.y.tolist() + b.x.flatten().tolist() for b in _next(streams)]
    assert drawn == expected


def test_whatever_a_run_is_fed_with_can_be_pickled(tmp_path: Path) -> None:
    for name in list_components("dataset"):
        config = resolve([Layer(COMMAND_LINE, {"data": name}, textual=True)])
        again = pickle.loads(pickle.dumps(config.data))
        assert (again.id, again.config) == (config.data.id, config.data.config)
    dataset = ArrayDataset(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), None, Spec((1, 8, 8)), Augment(flip=True))
    stream = pickle.loads(pickle.dumps(DataStream(dataset, 2, 0)))
    assert stream.dataset.augment == dataset.augment


# Files.


def test_every_text_file_is_opened_as_utf_8() -> None:
    root = Path(__file__).parent.parent
    opened = re.compile(
        r"\.(?:read_text|write_text)\((?![^()]*encoding)|(?<![\w.])(?<!def )open\((?![^()]*(?:encoding|[\"'][rwax+]*b))"
    )
    wrong = [
        f"{path.name}: {match.group()}"
        for folder in ("ganzoo", "plugins", "docs")
        for path in (root / folder).rglob("*.py")
        for match in opened.finditer(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []
