"""What was measured on this machine, kept in the user's cache, so that the same command gives the same run again."""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from ganzoo.data.roots import cache_home
from ganzoo.decisions import Machine
from ganzoo.errors import GanzooError
from ganzoo.files import json_digest
from ganzoo.reading import read_table
from ganzoo.versions import code_of, versions

if TYPE_CHECKING:
    from ganzoo.training.loop import Session

FOLDER: Final = "choices"
Choice = dict[str, Any]


def chosen_once(
    session: Session,
    machine: Machine,
    about: Mapping[str, Any],
    valid: Callable[[Choice], bool],
    measure: Callable[[], Choice],
    *,
    what: str,
) -> Choice:
    """What was chosen for these networks on this machine: once measured, then remembered.

    Args:
        session: its components, shape of samples and batch are what it is remembered by.
        machine: and this, with the number of torch's threads.
        about: and these plain values.
        valid: whether what was read is a choice; a damaged file is written again. It may raise what broken data do.
        measure: makes the choice, as JSON values; one that is ``passing`` is not remembered.
        what: is measured, in words for the user, who waits for it once.
    """
    file = _file(session, machine, about)
    found = _remembered(file, valid)
    if found is None:
        session.say(f"Measuring once which {what} here.")
        found = measure()
        if found.get("passing"):
            return found
        _remember(file, found, valid)
        found = _remembered(file, valid) or found  # another process may have been first
    return found


def _file(session: Session, machine: Machine, about: Mapping[str, Any]) -> Path:
    config = session.run.config
    parts = config.to_dict()
    key = {
        "versions": {name: versions().get(name) for name in ("ganzoo", "torch")},
        "code": code_of(config),
        "machine": [platform.node(), machine.name, machine.kind, torch.get_num_threads()],
        "parts": {name: parts[name] for name in ("gen", "disc", "loss", "reg")},
        "spec": str(session.run.spec),
        "batch": session.settings.batch_size // session.together.world,
        **about,
    }
    return cache_home() / FOLDER / f"{json_digest(key)[:32]}.json"


def _remembered(file: Path, valid: Callable[[Choice], bool]) -> Choice | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = read_table(file)
        if valid(found):
            return found
    return None


def _remember(file: Path, found: Choice, valid: Callable[[Choice], bool]) -> None:
    """Keep a choice, unless another process kept one first; where nothing can be written, the run alone keeps it."""
    draft, text = file.with_name(f".{secrets.token_hex(8)}.tmp"), json.dumps(found)
    with suppress(OSError, GanzooError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        try:
            os.link(draft, file)
        except FileExistsError:
            if _remembered(file, valid) is None:  # it is damaged
                draft.replace(file)
        except OSError:  # a file system without links
            draft.replace(file)
    with suppress(OSError):
        draft.unlink(missing_ok=True)
