"""Options read what they show, and refuse everything else in words."""

from __future__ import annotations

import contextlib
import enum
import json
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganzoo.errors import GanzooError, UsageError
from ganzoo.options import Option, build, jsonable, option, options_of, show


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Everything:
    flag: bool = option(False, help="A switch.")
    count: int = option(3, min=1, help="A count.")
    rate: float = option(0.5, above=0, max=1, help="A rate.")
    text: str = option("x", help="Words.")
    path: Path = option(Path("here"), help="A place.")
    norm: Literal["batch", "none", 4] = option("batch", help="A choice.")
    colour: Colour = option(Colour.RED, help="A colour.")
    sizes: tuple[int, ...] = option((1, 2), help="Sizes.")
    betas: tuple[float, float] = option((0.5, 0.9), min=0, max=1, help="Two.")
    seed: int | None = option(None, help="Maybe a number.")


INTEGERS = st.integers(1 - 2**63, 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
STRATEGIES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: INTEGERS,
    float: FLOATS,
    str: WORDS,
    Path: st.from_regex(r"[a-z0-9./]+", fullmatch=True).map(Path),
    Literal["batch", "none", 4]: st.sampled_from(["batch", "none", 4]),
    Colour: st.sampled_from(Colour),
    tuple[int, ...]: st.lists(INTEGERS).map(tuple),
    tuple[float, float]: st.tuples(FLOATS, FLOATS),
    int | None: st.none() | INTEGERS,
    float | None: st.none() | FLOATS,
}


@pytest.mark.parametrize("hint", STRATEGIES, ids=str)
@given(data=st.data())
def test_a_value_survives_text_and_json(hint: Any, data: st.DataObject) -> None:
    value = data.draw(STRATEGIES[hint])
    opt = Option("x", hint, None)
    for again in (
        opt.parse(show(value), textual=True),
        opt.parse(json.loads(json.dumps(jsonable(value))), textual=False),
    ):
        assert again == value
        assert type(again) is type(value)


@pytest.mark.parametrize("hint", STRATEGIES, ids=str)
@given(
    raw=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=4,
    ),
    textual=st.booleans(),
)
def test_whatever_is_given_is_read_or_refused_in_words(hint: Any, raw: Any, textual: bool) -> None:
    with contextlib.suppress(UsageError):
        Option("x", hint, None).parse(raw, textual=textual)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("flag", "yes", True),
        ("flag", "OFF", False),
        ("count", "1_000", 1000),
        ("rate", "1e-4", 1e-4),
        ("norm", "4", 4),
        ("norm", "none", "none"),
        ("colour", "blue", Colour.BLUE),
        ("sizes", "(1, 2, 3)", (1, 2, 3)),
        ("sizes", "", ()),
        ("betas", "0,.99", (0.0, 0.99)),
        ("seed", "None", None),
    ],
)
def test_text_is_read_as_people_write_it(name: str, text: str, value: Any) -> None:
    assert getattr(build(Everything, {name: text}, where="it", textual=True), name) == value


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("count", 1e1, 10),
        ("count", np.int64(4), 4),
        ("count", np.float32(4), 4),
        ("rate", np.float32(0.5), 0.5),
        ("rate", np.float64(0.1), 0.1),
        ("rate", np.int8(1), 1.0),
        ("rate", Fraction(1, 4), 0.25),
        ("norm", np.int64(4), 4),
        ("sizes", [np.uint8(1), 2.0], (1, 2)),
        ("betas", (np.float16(0.5), 1), (0.5, 1.0)),
        ("seed", -2.0, -2),
    ],
)
def test_a_number_is_one_whatever_its_type(name: str, raw: Any, value: Any) -> None:
    found = getattr(build(Everything, {name: raw}, where="it"), name)
    assert found == value
    assert json.loads(json.dumps(jsonable(found))) == jsonable(value)
    for each, wanted in zip(*((part if isinstance(part, tuple) else (part,)) for part in (found, value)), strict=True):
        assert type(each) is type(wanted)


@pytest.mark.parametrize(
    ("raw", "words"),
    [(2.5, "2.5"), (float("inf"), "inf"), (np.array(3), "3 (ndarray)"), (np.bool_(True), "True (bool"), (b"3", "b'3'")],
)
def test_what_is_no_number_says_what_it_is(raw: Any, words: str) -> None:
    with pytest.raises(UsageError, match=rf"Option 'count' of it must be int >= 1, not {re.escape(words)}"):
        build(Everything, {"count": raw}, where="it")


@pytest.mark.parametrize(
    ("name", "raw", "textual"),
    [
        ("flag", "maybe", True),
        ("flag", 1, False),
        ("count", "0", True),
        ("count", "1.5", True),
        ("count", True, False),
        ("count", "9" * 5000, True),
        ("count", "64", False),
        ("rate", 0, False),
        ("rate", 2.0, False),
        ("rate", "nan", True),
        ("rate", "inf", True),
        ("rate", 10**400, False),
        ("norm", "Batch", True),
        ("norm", "4", False),
        ("colour", "green", True),
        ("sizes", "1,x", True),
        ("sizes", 3, False),
        ("betas", "0.5", True),
        ("betas", [0.5, 1.5], False),
        ("betas", [0.5, 0.9, 0.9], False),
        ("seed", "x", True),
        ("seed", {"a": 1}, False),
        ("text", 3, False),
        ("path", 3, False),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, raw: Any, textual: bool) -> None:
    with pytest.raises(UsageError, match=rf"Option '{name}' of it must be .*, not "):
        build(Everything, {name: raw}, where="it", textual=textual)


def test_an_unknown_name_gets_close_matches() -> None:
    with pytest.raises(UsageError, match=r"it has no option 'bettas'. Did you mean betas\?"):
        build(Everything, {"bettas": 1}, where="it")


def test_types_are_told_in_words() -> None:
    words = {opt.name: opt.type_name for opt in options_of(Everything)}
    assert words == {
        "flag": "true|false",
        "count": "int >= 1",
        "rate": "float > 0 <= 1",
        "text": "text",
        "path": "path",
        "norm": "batch|none|4",
        "colour": "red|blue",
        "sizes": "int,...",
        "betas": "float,float from 0 to 1",
        "seed": "int|none",
    }


@dataclass(frozen=True)
class NoDefault:
    width: int


@dataclass(frozen=True)
class WrongType:
    table: dict[str, int] = option(None, help="No.")


@pytest.mark.parametrize("config", [NoDefault, WrongType, int])
def test_a_configuration_class_that_cannot_be_options_is_refused(config: type[Any]) -> None:
    with pytest.raises(GanzooError):
        options_of(config)
