"""Reading JSON and TOML that others wrote: of sane size, in UTF-8, without doubled names. Free of torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

MAX_BYTES: Final = 2**20
"""No configuration and no record of ours is longer by far."""
_DEEPEST: Final = 32
_LONE: Final = re.compile("[\ud800-\udfff]")


def read_table(path: Path) -> dict[str, Any]:
    """The table in a file: TOML, or JSON if its name ends in ``.json``, in any case of letters.

    A byte order mark, as some editors write it, is passed over.

    Raises:
        OSError: it cannot be opened or read.
        ValueError: with a sentence's second half ("is not valid JSON: ..."): what is wrong with what it holds.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("is no file")  # a pipe or a device would never end
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"is absurdly long, more than {MAX_BYTES // 2**20} MiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise ValueError(f"cannot be read: {err}") from None
    is_json = path.suffix.lower() == ".json"
    try:
        table = json.loads(text, object_pairs_hook=_once) if is_json else _toml(text)
    except RecursionError:
        raise ValueError("is nested absurdly deep") from None
    except ValueError as err:
        raise ValueError(f"is not valid {'JSON' if is_json else 'TOML'}: {err}") from None
    if not isinstance(table, dict):
        raise ValueError(f"must hold a table of settings, not a {type(table).__name__}")  # noqa: TRY004
    _refuse_odd(table)
    return table


def settings_in(table: dict[str, Any]) -> dict[str, Any]:
    """The settings in a table: its own, or those of the run that it is the record of.

    Raises:
        ValueError: with a sentence's second half: it is a record of ours without any.
    """
    if "format" not in table:
        return table
    for key in ("config", "run"):  # a run's and an export's
        if isinstance(table.get(key), dict):
            return dict(table[key])
    if str(table["format"]).startswith("ganzoo-"):
        raise ValueError(
            f"is a record of the format {table['format']!r:.80} and holds the settings of no run: give a settings "
            "file, or the config.json of a run"
        )
    return table


def is_unicode(value: object) -> bool:
    """Whether text or a path can be written as UTF-8, and read again; names of files may be any bytes.

    Bytes that a locale without UTF-8 could not read are half of a surrogate pair each, and written as what they are.
    """
    try:
        str(value).encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return False
    return True


def _toml(text: str) -> dict[str, Any]:
    import tomllib  # compiles its expressions when it is imported, and few commands read TOML

    return tomllib.loads(text)


def _refuse_odd(table: dict[str, Any]) -> None:
    """Refuse what is no text of Unicode, or nested so deep that who walks through it runs out of stack."""
    level: list[Any] = [table]
    for _ in range(_DEEPEST):
        found = [item for each in level for item in (each.values() if isinstance(each, dict) else each)]
        texts = [key for each in level if isinstance(each, dict) for key in each]
        texts += [item for item in found if isinstance(item, str)]
        if any(_LONE.search(text) for text in texts):
            raise ValueError("holds text that is no Unicode: half of a surrogate pair")
        level = [item for item in found if isinstance(item, (dict, list))]
        if not level:
            return
    raise ValueError("is nested absurdly deep")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of two values for one name readers would disagree about which counts."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it says {next(name for name in names if names.count(name) > 1)!r:.80} twice")
    return table
