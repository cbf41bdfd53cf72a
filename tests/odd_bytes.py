"""Bytes and values that nobody expects, for the tests of what reads files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from ganzoo.errors import GanzooError

SOME = settings(max_examples=40)
ODD = st.none() | st.booleans() | st.integers(-2, 9) | st.integers() | st.floats() | st.text(max_size=4)
TREE = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner), max_leaves=6
)
SIDES = st.lists(st.integers(0, 3) | st.sampled_from((-1, 2**31, 2**63, 10**30)), max_size=4)


@contextmanager
def a_value_or_a_sentence() -> Iterator[None]:
    """Passes over a GanzooError that says something, and over nothing else; warnings are errors here, as everywhere."""
    try:
        yield
    except GanzooError as err:
        if not str(err).strip():
            pytest.fail("The error says nothing.")


@st.composite
def damaged(draw: st.DrawFn, blob: bytes) -> bytes:
    """``blob`` with a few bytes replaced, cut out or put in, or without its end."""
    raw = bytearray(blob)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(raw[: draw(st.none() | st.integers(0, len(raw)))])
