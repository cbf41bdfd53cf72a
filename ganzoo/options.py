"""Typed options: a frozen dataclass describes itself, and any text, TOML or JSON value is checked against it.

Supported types, by design nothing else: ``bool int float str Path Seconds``, ``Literal``, ``Enum``, homogeneous tuples
``tuple[T, ...]`` and ``T | None``.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import numbers
import re
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ganzoo.errors import GanzooError, UsageError, did_you_mean


class Seconds(float):
    """A length of time; users may write ``90``, ``5m``, ``1h30m`` or ``2d``."""

    @classmethod
    def of(cls, text: str) -> Seconds:
        """The time that ``text`` means.

        Raises:
            ValueError: it means none.
        """
        found = _TIME.fullmatch(text.strip().lower())
        if found is None or not any(found.groups()):
            return cls(text)
        return cls(sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS, strict=True) if part))


_KEY: Final = "ganzoo"
_TIME: Final = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in "dhms"))
_UNITS: Final = (86400, 3600, 60, 1)
_NAMES: Final[dict[Any, str]] = {str: "text", Path: "path", bool: "true|false", Seconds: "time"}
_SHOWN: Final = 200
_LARGEST: Final = 2**63
_TRUE: Final = {"true", "yes", "on", "1"}
_FALSE: Final = {"false", "no", "off", "0"}


@dataclass(frozen=True)
class NoOptions:
    """The configuration of a component that has nothing to set."""


def option(
    default: Any,
    *,
    help: str,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    live: bool = False,
) -> Any:
    """A field of a configuration dataclass.

    Args:
        default: its value when nobody sets it.
        help: one sentence, shown by ``--help`` and ``ganzoo show``.
        min, max: inclusive bounds of a number (of each number, for a tuple).
        above: exclusive lower bound.
        live: whether it may change when a run is resumed, because no result depends on it so far.
    """
    return dataclasses.field(
        default=default, metadata={_KEY: {"help": help, "min": min, "max": max, "above": above, "live": live}}
    )


@dataclass(frozen=True)
class Option:
    """One option of a configuration class, as listings, help pages and the parser need it."""

    name: str
    type: Any
    default: Any
    help: str = ""
    min: float | None = None
    max: float | None = None
    above: float | None = None
    live: bool = False

    @property
    def type_name(self) -> str:
        """The type in words: ``int >= 1``, ``batch|layer|none``, ``float,...``."""
        words = _type_words(self.type)
        if self.above is not None:
            words += f" > {show(self.above)}"
        if self.min is not None and self.max is not None:
            words += f" from {show(self.min)} to {show(self.max)}"
        elif self.min is not None:
            words += f" >= {show(self.min)}"
        elif self.max is not None:
            words += f" <= {show(self.max)}"
        return words

    def parse(self, raw: Any, *, textual: bool) -> Any:
        """``raw`` as a value of this option.

        Args:
            raw: what the user gave; a string when ``textual`` (command line), else a TOML or JSON value.
            textual: whether ``"64"`` may stand for the number 64.

        Raises:
            UsageError: with half a sentence ("must be ..., not ...") for the caller to put a place before.
        """
        try:
            value = _convert(raw, self.type, textual=textual)
        except UsageError:
            raise UsageError(f"must be {self.type_name}{self._such_as}, not {given(raw)}") from None
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                self._check_bounds(number, raw)
        return value

    @property
    def _such_as(self) -> str:
        kinds = typing.get_args(self.type) or (self.type,)
        return " (such as 90, 15m or 1h30m)" if Seconds in kinds else ""

    def _check_bounds(self, number: Any, raw: Any) -> None:
        wrong = (
            (isinstance(number, float) and not math.isfinite(number))
            or (isinstance(number, int) and abs(number) >= _LARGEST)
            or (self.min is not None and number < self.min)
            or (self.max is not None and number > self.max)
            or (self.above is not None and number <= self.above)
        )
        if wrong:
            raise UsageError(f"must be {self.type_name}, not {given(raw, quoted=False)}")


def options_of(config: type[Any]) -> tuple[Option, ...]:
    """The options of a configuration class, in the order they were written.

    Raises:
        GanzooError: a field has no default, or a type outside the supported ones.
    """
    return _options_of(typing.cast("Hashable", config))


@cache
def _options_of(config: Hashable) -> tuple[Option, ...]:
    assert isinstance(config, type)
    if not dataclasses.is_dataclass(config):
        raise GanzooError(f"{config.__qualname__} must be a frozen dataclass of options.")
    hints = typing.get_type_hints(config)
    found = []
    for fld in dataclasses.fields(config):
        if fld.default is dataclasses.MISSING:
            raise GanzooError(f"The option {fld.name!r} of {config.__qualname__} needs a default.")
        _type_words(hints[fld.name])
        found.append(Option(fld.name, hints[fld.name], fld.default, **fld.metadata.get(_KEY, {})))
    return tuple(found)


def build(config: type[Any], values: Mapping[str, Any], *, where: str, textual: bool = False) -> Any:
    """``config`` with ``values`` checked and filled in.

    Raises:
        UsageError: an unknown name (with close matches) or a value that does not fit.
    """
    known = {opt.name: opt for opt in options_of(config)}
    parsed = {}
    for name, raw in values.items():
        if name not in known:
            raise UsageError(f"{where} has no option {name!r}.{did_you_mean(name, known)}")
        try:
            parsed[name] = known[name].parse(raw, textual=textual)
        except UsageError as err:
            raise UsageError(f"Option {name!r} of {where} {err}.") from None
    return config(**parsed)


def show(value: Any) -> str:
    """A value as a user would write it on the command line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return ",".join(map(show, value))
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, enum.Enum):
        return str(value.value)
    return str(value)


def given(raw: Any, *, quoted: bool = True) -> str:
    """A value that was refused, for a sentence: text in quotes, lists and tables as JSON, all of it short."""
    try:
        if isinstance(raw, str):
            text = repr(raw) if quoted else raw
        elif isinstance(raw, (list, tuple, dict)):
            text = json.dumps(raw, default=str, skipkeys=True)
        elif raw is None or isinstance(raw, (numbers.Real, enum.Enum, Path)):
            text = show(raw)
        else:  # an array of one number looks like a number, and is none
            text = f"{' '.join(str(raw).split())} ({type(raw).__name__})"
    except (ValueError, RecursionError):  # nested absurdly deep, or a number of thousands of digits
        text = f"such a {type(raw).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def jsonable(value: Any) -> Any:
    """An option's value as JSON and TOML write it."""
    if isinstance(value, tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return float(value) if isinstance(value, Seconds) else value


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _type_words(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if _is_union(hint):
        rest = [arg for arg in args if arg is not type(None)]
        if len(rest) == 1 and len(args) == 2:
            return f"{_type_words(rest[0])}|none"
    elif origin is typing.Literal:
        return "|".join(map(str, args))
    elif origin is tuple:
        if len(set(args) - {Ellipsis}) == 1:
            return ",".join(_type_words(arg) if arg is not Ellipsis else "..." for arg in args)
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "|".join(str(member.value) for member in hint)
    elif hint in (bool, int, float, str, Path, Seconds):
        return _NAMES.get(hint) or str(hint.__name__)
    raise GanzooError(
        f"{hint!r} is no option type; use bool, int, float, str, Path, Seconds, Literal, Enum, tuple or T | None."
    )


def _convert(raw: Any, hint: Any, *, textual: bool) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    problem = UsageError("does not fit")  # Option.parse says it in words
    if _is_union(hint):
        if raw is None or (isinstance(raw, str) and raw.lower() == "none"):
            return None
        (rest,) = (arg for arg in args if arg is not type(None))
        try:
            return _convert(raw, rest, textual=textual)
        except UsageError:
            raise problem from None
    if origin is typing.Literal:
        for choice in args:
            alike = type(raw) is type(choice) or (_is_number(raw) and _is_number(choice))
            if (alike and raw == choice) or (textual and raw == str(choice)):
                return choice
        raise problem
    if origin is tuple:
        return _convert_tuple(raw, args, problem, textual=textual)
    if issubclass(hint, enum.Enum):
        for member in hint:
            if raw in (member, member.value) or (textual and raw == str(member.value)):
                return member
        raise problem
    if hint is Seconds and isinstance(raw, str):
        return _from_text(raw, Seconds.of, problem)
    if hint is Seconds:
        return Seconds(_convert(raw, float, textual=textual))
    if isinstance(raw, str) and textual and hint is not str:
        return _from_text(raw, hint, problem)
    if hint in (int, float):
        return _from_number(raw, hint, problem)
    if hint is Path and isinstance(raw, str):
        return _path(raw, problem)
    if isinstance(raw, hint):
        return raw
    raise problem


def _convert_tuple(raw: Any, args: tuple[Any, ...], problem: UsageError, *, textual: bool) -> tuple[Any, ...]:
    if isinstance(raw, str) and textual:
        raw = [part.strip() for part in raw.strip("()[]").split(",") if part.strip()]
    if not isinstance(raw, (list, tuple)) or (Ellipsis not in args and len(raw) != len(args)):
        raise problem
    try:
        return tuple(_convert(item, args[0], textual=textual) for item in raw)
    except UsageError:
        raise problem from None


def _from_number(raw: Any, hint: type[int | float], problem: UsageError) -> int | float:
    """A number of Python's own: NumPy's are no JSON. A whole one is an int, too, however it is written: TOML's 1e4."""
    if _is_number(raw):
        try:
            number = hint(raw)
        except (OverflowError, ValueError):  # larger than any float, infinite, or none at all
            raise problem from None
        if hint is float or number == raw:
            return number
    raise problem


def _is_number(raw: Any) -> bool:
    return isinstance(raw, numbers.Real) and not isinstance(raw, bool)


def _path(raw: str, problem: UsageError) -> Path:
    if "\0" in raw:
        raise problem
    try:
        return Path(raw).expanduser()
    except RuntimeError:  # ~name of a user who is not here
        raise problem from None


def _from_text(raw: str, hint: Any, problem: UsageError) -> Any:
    if hint is bool:
        if raw.lower() in _TRUE | _FALSE:
            return raw.lower() in _TRUE
        raise problem
    if hint is Path:
        return _path(raw, problem)
    try:
        return hint(raw)
    except ValueError:
        raise problem from None
