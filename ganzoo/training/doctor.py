"""What ``ganzoo doctor`` looks at: one finding at a time, so that it can be shown when it is made.

Imports torch when it runs, and survives that it does not import.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from ganzoo import backends
from ganzoo.data import cache_home, download_root, search_roots
from ganzoo.errors import GanzooError
from ganzoo.plugins import loaded
from ganzoo.versions import versions

_LITTLE: Final = 2 * 10**9
"""Bytes of free space below which a disk is called nearly full."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: heading that it belongs under.
        name: what was looked at.
        status: ``ok``, ``note`` (works, but worth knowing) or ``bad``.
        text: what was found, in words.
        data: the numbers behind it.
    """

    topic: str
    name: str
    status: Literal["ok", "note", "bad"]
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


def examine(device: str = "auto", *, parity: bool = True, say: Callable[[str], None]) -> Iterator[Finding]:
    """Look at everything; ``say`` hears what is being looked at where that takes a while.

    Args:
        device: whose arithmetic is checked; as ``--device`` of a run.
        parity: whether to check it.
        say: hears half a sentence before each check that takes a while.

    Raises:
        UsageError: ``device`` names no device.
        MissingError: it is not there.
    """
    say("torch")
    problem = _import_problem()
    choice = None
    if not problem:
        from ganzoo.training.device import resolve_device

        choice = resolve_device(device)  # before anything is shown: a wrong --device is a wrong command line
    yield from _versions(problem)
    if choice is not None:
        say("torchvision")
        yield _torchvision()
        status: Literal["ok", "note"] = "note" if choice.warning else "ok"
        text = f"chosen: {choice.reason}" + (f". {choice.warning}" if choice.warning else "")
        yield Finding("Devices", str(choice.device), status, text)
        yield from _devices(choice.device.type)
        yield from _choices(choice.device, choice.reason)
    yield from _folders()
    yield from _plugins()
    if choice is not None and parity:
        yield from _parity(choice.device, say)


def verdict(findings: Iterable[Finding]) -> tuple[bool, str]:
    """Whether nothing is bad, and a sentence."""
    found = list(findings)
    bad = [finding.name for finding in found if finding.status == "bad"]
    if bad:
        return False, f"{len(bad)} of {len(found)} checks failed: {', '.join(bad)}."
    notes = sum(finding.status == "note" for finding in found)
    device = next((finding.name for finding in found if finding.topic == "Devices"), "cpu")
    worth = f"; {notes} {'note is' if notes == 1 else 'notes are'} worth reading" if notes else ""
    checked = any(finding.topic == "Parity" for finding in found)
    arithmetic = "its arithmetic agrees with the CPU's in float64" if checked else "its arithmetic was not checked"
    return True, f"Sound: runs will use {device}, and {arithmetic}{worth}."


def _import_problem() -> str:
    try:
        import torch
    except Exception as err:  # a broken installation raises anything
        return f"does not import ({type(err).__name__}: {' '.join(str(err).split())}): reinstall torch"
    return "" if torch.ones(1).item() == 1 else "does not compute"


def _versions(torch_problem: str) -> Iterator[Finding]:
    found = dict(versions())
    yield Finding("Versions", "python", "ok", f"{found.pop('python')} on {platform.platform()}")
    encoding = sys.stdout.encoding or "ascii"
    if not encoding.lower().startswith("utf"):
        yield Finding("Versions", "output", "note", f"{encoding}: signs that it does not have are shown as ?")
    for package, version in found.items():
        if package == "torch":
            yield Finding("Versions", package, "bad" if torch_problem else "ok", f"{version} {torch_problem}".strip())
        elif package != "torchvision":
            yield Finding("Versions", package, "ok", version)


def _torchvision() -> Finding:
    try:
        backends.torchvision()
    except GanzooError as err:
        return Finding("Versions", "torchvision", "bad", str(err))
    state = backends.torchvision_state()
    return Finding("Versions", "torchvision", "note" if "repaired" in state else "ok", state)


def _devices(chosen: str) -> Iterator[Finding]:
    import torch

    if chosen != "cpu":
        yield Finding("Devices", "cpu", "ok", f"{os.cpu_count()} cores")
    else:
        yield Finding("Devices", "threads", "ok", f"{torch.get_num_threads()} of {os.cpu_count()} cores are used")
    yield _several()
    present = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if present is None:
        return
    for index in range(torch.accelerator.device_count()):
        text = present.type.upper()
        if present.type == "cuda":
            about = torch.cuda.get_device_properties(index)
            text = f"{about.name}, {about.total_memory / 1e9:.0f} GB, compute capability {about.major}.{about.minor}"
        yield Finding("Devices", f"{present.type}:{index}", "ok", text)


def _choices(device: Any, reason: str) -> Iterator[Finding]:
    """What a run with settings of its own data set and networks would get here."""
    from ganzoo.config import resolve
    from ganzoo.decisions import expected
    from ganzoo.training.fast import machine_of

    for each in expected(resolve(), machine_of(device, reason)):
        if each.name not in ("device", "threads"):
            yield Finding("Choices", each.name, "ok", f"{each.value}: {each.reason}", {"value": each.value})


def _several() -> Finding:
    """Whether runs of several processes can be."""
    from torch import distributed

    if not distributed.is_available():
        return Finding("Devices", "several", "note", "this build of torch has no torch.distributed, so no --devices")
    found = [name for name in ("gloo", "nccl") if distributed.is_backend_available(name)]
    return Finding("Devices", "several", "ok", f"--devices N trains with N processes ({', '.join(found)})")


def _folders() -> Iterator[Finding]:
    target = download_root()
    for root in search_roots():
        yield _folder("data", root, needed=root == target)
    *others, downloads = _weights()
    for place in others:
        yield _folder("weights", place, needed=False)
    yield _folder("weights", downloads, needed=True)
    yield _folder("here", Path.cwd(), needed=True)


def _weights() -> list[Path]:
    """Where published weights are looked for, in this order; the last place is the one that they are downloaded to.

    As :mod:`ganzoo.data.pretrained` has it, and torch's hub, neither of which imports where torch does not.
    """
    given, home = os.environ.get("GANZOO_WEIGHTS", ""), os.environ.get("TORCH_HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = _at_home(Path(home or Path(cache, "torch"))) / "hub" / "checkpoints"
    return [*([_at_home(Path(given)).absolute()] if given else []), hub, cache_home() / "weights"]


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # a user without a home, as in containers; torch leaves the path as it is, too
        return path


def _folder(name: str, path: Path, *, needed: bool) -> Finding:
    above = path
    while not above.exists() and above != above.parent:
        above = above.parent
    data: dict[str, Any] = {"path": str(path), "exists": path.exists()}
    if name == "weights" and path.is_file():  # GANZOO_WEIGHTS may name the file itself
        return Finding("Folders", name, "ok", f"{path} (a file)", data)
    try:
        data["free"] = shutil.disk_usage(above).free
    except OSError as err:
        return Finding("Folders", name, "note", f"{path} cannot be looked at ({err.strerror or err})", data)
    data["writable"] = above.is_dir() and os.access(above, os.W_OK)
    words = [f"{data['free'] / 1e9:.1f} GB free"]
    if not path.exists():
        words.append("not there yet")
    if not data["writable"]:
        words.append(f"cannot be written{_way_out(name) if needed else ''}")
    low = data["free"] < _LITTLE
    status: Literal["ok", "note"] = "note" if (low or not data["writable"]) and needed else "ok"
    return Finding("Folders", name, status, f"{path} ({'; '.join(words)})", data)


def _way_out(name: str) -> str:
    if name == "data":
        return ", so downloads need another: set GANZOO_DATA or --data-root"
    if name == "weights":
        return ", so downloads need another: set GANZOO_CACHE"
    return ", so runs need another: set --out"


def _plugins() -> Iterator[Finding]:
    found = loaded()
    active = [plugin.name for plugin in found if plugin.status == "active"]
    yield Finding("Plugins", "active", "ok", ", ".join(active) or "none")
    for plugin in found:
        if plugin.status == "broken":
            who = f"of {plugin.dist} {plugin.version}".rstrip()
            text = f"{who}, does not load ({plugin.reason}): mend it, uninstall it, or set GANZOO_DISABLE_PLUGINS"
            yield Finding("Plugins", plugin.name, "bad", f"{text}={plugin.name}")
        elif plugin.reason:
            yield Finding("Plugins", plugin.name, "note", plugin.reason)


def _parity(device: Any, say: Callable[[str], None]) -> Iterator[Finding]:
    from ganzoo.training.parity import check, entries

    todo = entries()
    for number, entry in enumerate(todo, 1):
        say(f"{entry.component.kind}/{entry.component.name} ({number} of {len(todo)})")
        found = check(entry, device)
        status: Literal["ok", "note", "bad"] = "ok" if found.verdict in ("agrees", "left out") else "bad"
        data = {"verdict": found.verdict, "errors": found.errors}
        yield Finding("Parity", f"{found.kind}/{found.name}", status, found.sentence, data)
