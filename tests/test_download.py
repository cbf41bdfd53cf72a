"""Downloads from a server of this test: announced, continued, checked, and never left half."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from published_data import idx

from ganzoo.api import MissingError, Spec
from ganzoo.data import download
from ganzoo.data.fetch import DownloadError
from ganzoo_datasets import StoredConfig, fetching
from ganzoo_datasets.mnist import Mnist

CONTENT = np.random.default_rng(0).bytes(300_000)
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cut`` holds how many bytes each of the next answers sends before it breaks off."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.cut: list[int] = []
        self.errors: list[int] = []
        self.ranges: list[str | None] = []
        self.knows_ranges = True

    def url(self, path: str = "/file") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers["Range"]
        server.ranges.append(asked)
        if server.errors:
            self.send_error(server.errors.pop(0))
            return
        data = server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.knows_ranges else 0
        if asked and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        end = start + server.cut.pop(0) if server.cut else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, target: Path, *urls: str, digest: str = DIGEST) -> None:
    download(urls or [server.url()], target, digest, pause=0.001)


def test_a_download_is_announced_with_size_and_source(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "new folder" / "file"
    get(server, target)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert f"Downloading file (0.3 MB) from {server.url()} to {target.parent}." in caplog.text


def test_a_broken_connection_is_continued(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.cut = [100_000, 50_000]
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert "0.1 MB of it here already" in caplog.text


def test_what_an_earlier_process_left_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1234])
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1234-"]


def test_a_whole_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 5)])
@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_wrong_part_is_thrown_away(server: Server, tmp_path: Path, left: bytes, *, knows_ranges: bool) -> None:
    server.knows_ranges = knows_ranges
    (tmp_path / "file.part").write_bytes(left)
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.knows_ranges, server.cut = False, [100_000]
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_file_is_refused_and_the_next_source_is_asked(server: Server, tmp_path: Path) -> None:
    server.files["/other"] = b"quota exceeded"
    get(server, tmp_path / "file", server.url("/other"), server.url("/none"), server.url())
    assert (tmp_path / "file").read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=r"other: it has another hash than sha256:.*none: HTTP 404 Not Found"):
        get(server, tmp_path / "file2", server.url("/other"), server.url("/none"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_server_in_trouble_is_asked_again_but_not_for_ever(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 500]
    get(server, tmp_path / "file")
    server.errors = [503] * 4
    with pytest.raises(DownloadError, match="HTTP 503"):
        get(server, tmp_path / "file2")
    server.cut = [10] * 4
    with pytest.raises(DownloadError, match="it broke off after 40 of 300000 bytes"):
        get(server, tmp_path / "file3")
    assert (tmp_path / "file3.part").stat().st_size == 40


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/file", "refused"),
        ("http://nowhere.invalid/file", "nowhere.invalid"),
        ("file:///etc/hostname", "only http and https are used"),
        ("ftp://127.0.0.1/file", "only http and https are used"),
        ("http://[/file", "file"),
    ],
)
def test_a_source_that_cannot_be_reached_is_named(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(DownloadError, match=words):
        download([url], tmp_path / "file", DIGEST, pause=0.0)


def test_mnist_is_downloaded_from_the_mirrors_that_torchvision_knows(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = {
        "/train-images-idx3-ubyte.gz": gzip.compress(idx(np.zeros((3, 28, 28), np.uint8))),
        "/train-labels-idx1-ubyte.gz": gzip.compress(idx(np.arange(3, dtype=np.uint8))),
    }
    server.files = dict(served)

    class Library:
        class datasets:
            class MNIST:
                mirrors = (server.url("/gone"), server.url(""))
                resources = tuple(
                    (name[1:], hashlib.md5(data, usedforsecurity=False).hexdigest()) for name, data in served.items()
                )

    monkeypatch.delenv("GANZOO_DATA", raising=False)
    monkeypatch.setattr(fetching, "torchvision_module", lambda: Library)
    config = StoredConfig(root=tmp_path)
    spec = Spec((1, 28, 28), 10)
    server.files["/train-labels-idx1-ubyte.gz"] = b"<html>"
    with pytest.raises(MissingError, match=r"its download failed .*another hash.*: place train-images-idx3-ubyte and"):
        Mnist(config, spec)
    server.files = served
    server.ranges.clear()
    dataset = Mnist(config, spec)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 2]
    assert len(server.ranges) == 2  # of the labels: the mirror without them, and the other; the images were there
    server.shutdown()
    assert Mnist(config, spec).length == 3
