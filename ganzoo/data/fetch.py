"""Downloading one file: announced with its size and source, continued where it broke off, checked by its hash."""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

import ganzoo

_LOG: Final = logging.getLogger("ganzoo")
_TIMEOUT: Final = 60.0
_ATTEMPTS: Final = 4
_CHUNK: Final = 2**18
_SAY_EVERY: Final = 15.0
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class DownloadError(OSError):
    """No source gave the file; the message has the reason of each."""


def download(urls: Sequence[str], target: Path, digest: str, *, pause: float = 1.0) -> None:
    """Put the file that each of ``urls`` holds at ``target``; missing folders are made.

    What arrives is collected in ``target`` with ``.part`` after its name. Where that is there already, or a connection
    breaks off, the download goes on from its end. Only a file with the right hash gets its name.

    Args:
        urls: sources of the same file, the best first; http or https.
        target: where it belongs.
        digest: ``md5:`` or ``sha256:`` and the hash in hexadecimal, or as many of its first digits as are known.
        pause: seconds before a source is tried again; twice as long each time.

    Raises:
        DownloadError: no source has it, or what they have is another file.
        OSError: it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    reasons = []
    for url in urls:
        try:
            _from(url, part, target, digest, pause)
        except DownloadError as err:
            reasons.append(f"{url}: {err}")
            continue
        part.replace(target)
        return
    raise DownloadError("; ".join(reasons) or "there is no source for it")


def has_digest(path: Path, digest: str) -> bool:
    """Whether the file is there and has the hash ``digest``, written as for :func:`download`."""
    name, _, expected = digest.partition(":")
    try:
        with path.open("rb") as file:
            made = hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False))
    except OSError:
        return False
    return bool(expected) and made.hexdigest().startswith(expected.lower())


def _from(url: str, part: Path, target: Path, digest: str, pause: float) -> None:
    """Complete ``part`` from one source, with the right hash."""
    for attempt in range(_ATTEMPTS):
        before = _size(part)
        try:
            _continue(url, part, target)
        except urllib.error.HTTPError as err:
            with err:
                if not (err.code == 416 and before):  # nothing comes after what is there
                    if err.code < 500 or attempt == _ATTEMPTS - 1:
                        raise DownloadError(f"HTTP {err.code} {err.reason}") from None
                    time.sleep(pause * 2**attempt)
                    continue
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as err:
            arrived = _size(part) > before
            if attempt == _ATTEMPTS - 1 or not (arrived or isinstance(err, (ConnectionError, TimeoutError))):
                raise DownloadError(" ".join(str(getattr(err, "reason", err)).split()) or type(err).__name__) from None
            time.sleep(pause * 2**attempt)
            continue
        if has_digest(part, digest):
            return
        part.unlink()
        if not before:  # all of it came from this source, just now
            raise DownloadError(f"it has another hash than {digest}")
    raise DownloadError("it breaks off again and again")


def _continue(url: str, part: Path, target: Path) -> None:
    """Append what is still missing; all of it if the source cannot begin in the middle."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("only http and https are used")
    start = _size(part)
    headers = {"User-Agent": f"ganzoo/{ganzoo.__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as answer:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", "")) if answer.status == 206 else None
        if found is None or int(found[1]) != start:
            start = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        size = "of unknown size" if total is None else _words(total)
        begun = f", {_words(start)} of it here already" if start else ""
        _LOG.warning("Downloading %s (%s%s) from %s to %s.", target.name, size, begun, url, target.parent)
        with part.open("ab" if start else "wb") as file:
            _copy(answer, file, start, total, target.name)


def _copy(answer: Any, file: IO[bytes], done: int, total: int | None, name: str) -> None:
    said = time.monotonic()
    while chunk := answer.read(_CHUNK):
        file.write(chunk)
        done += len(chunk)
        if time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            _LOG.warning("%s: %s%s.", name, _words(done), "" if total is None else f" of {_words(total)}")
    if total is not None and done < total:
        raise ConnectionError(f"it broke off after {done} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _words(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"
