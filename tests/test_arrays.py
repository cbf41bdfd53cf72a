"""Files of arrays: what is written comes back, and what is damaged is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganzoo.data.arrays import read_arrays, write_arrays
from ganzoo.errors import GanzooError

ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda name: name != "__metadata__" and name.isprintable()),
    st.tuples(
        st.sampled_from([np.uint8, np.int8, np.int32, np.int64]), st.lists(st.integers(0, 4), min_size=1, max_size=3)
    ),
    max_size=4,
)


@settings(max_examples=40)
@given(ARRAYS, st.integers(0, 2**31), st.data())
def test_files_of_arrays_come_back_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, Any], seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.integers(0, 100, shape).astype(kind) for name, (kind, shape) in shapes.items()}
    path = tmp_path_factory.getbasetemp() / "arrays.safetensors"
    write_arrays(path, arrays, {"a": "b"})
    back, metadata = read_arrays(path)
    assert metadata == {"a": "b"}
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[name], array) and back[name].dtype == array.dtype for name, array in arrays.items())
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    raw[data.draw(st.integers(0, 8 + length - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    with suppress(GanzooError):  # nothing but a sentence, whatever the header says
        read_arrays(path)
    path.write_bytes(raw[: data.draw(st.integers(0, 7 + length))])
    with pytest.raises(GanzooError, match="is damaged"):
        read_arrays(path)
