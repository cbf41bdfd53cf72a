"""Generators that others trained: a plain state dict in safetensors, fitted strictly to one of our networks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from torch import Tensor

from ganzoo.errors import GanzooError
from ganzoo.nn.weights import Layout, layout_of, layouts, load_tensors, mismatch

WRAPPERS: Final = ("module.", "_orig_mod.", "state_dict.", "model.")
"""Prefixes that wrapping a network adds to all of its names."""
GENERATORS: Final = ("g_ema.", "netG_ema.", "ema.", "netG.", "generator.", "gen.", "G.")
"""Prefixes of a generator that may lie beside other networks; the averaged ones come first."""
COUNTER: Final = "num_batches_tracked"
_FLOATS: Final = frozenset({"F16", "BF16", "F32", "F64"})


def read_foreign(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under the names of our network.

    Prefixes are stripped. If the names differ, the tensors in natural order of their names must have, one by one, the
    last part of the name and the shape of ours. Half and double precision become ours. Counters of batches, which do
    not matter in evaluation, may be missing and are then left out.

    Args:
        path: a ``.safetensors`` file.
        expected: our network's state dict, on the ``meta`` device.

    Raises:
        UsageError: the file is a pickle.
        GanzooError: it is damaged, or does not fit.
    """
    theirs = layouts(path)
    names = strip(theirs)
    found = {ours: theirs[name] for ours, name in names.items()}
    wanted = {name: layout_of(tensor) for name, tensor in expected.items()}
    wrong = _mismatch(found, wanted)
    if wrong:
        paired = pair(found, wanted)
        if paired is None:
            raise GanzooError(f"{path} does not fit the generator: {wrong}; check its options and the image's shape.")
        names = {ours: names[other] for ours, other in paired.items()}
    tensors = load_tensors(path)
    return {ours: tensors[name].to(expected[ours].dtype) for ours, name in names.items()}


def strip(names: Iterable[str]) -> dict[str, str]:
    """Names without wrappers' and a generator's prefixes -> names as they are; of several networks the generator's."""
    chosen = {name: name for name in names}
    while True:
        prefix = next((p for p in WRAPPERS if chosen and all(name.startswith(p) for name in chosen)), None)
        prefix = prefix or next((p for p in GENERATORS if any(name.startswith(p) for name in chosen)), None)
        if prefix is None:
            return chosen
        chosen = {short[len(prefix) :]: name for short, name in chosen.items() if short.startswith(prefix)}


def pair(found: Mapping[str, Layout], wanted: Mapping[str, Layout]) -> dict[str, str] | None:
    """Our names -> theirs, by order; None unless kinds and shapes agree one by one."""
    ours, theirs = (sorted((n for n in side if not n.endswith(COUNTER)), key=_natural) for side in (wanted, found))
    if [_kind(name, wanted) for name in ours] != [_kind(name, found) for name in theirs]:
        return None
    return dict(zip(ours, theirs, strict=True))


def _mismatch(found: Mapping[str, Layout], wanted: Mapping[str, Layout]) -> str | None:
    """As :func:`mismatch`, but any float is as good as another, and counters may be missing."""
    alike = {
        name: wanted[name] if name in wanted and _kind(name, found) == _kind(name, wanted) else layout
        for name, layout in found.items()
    }
    return mismatch(alike, {name: lay for name, lay in wanted.items() if name in found or not name.endswith(COUNTER)})


def _kind(name: str, layouts: Mapping[str, Layout]) -> tuple[str, bool | str, tuple[int, ...]]:
    layout = layouts[name]
    return name.rpartition(".")[2], layout.dtype in _FLOATS or layout.dtype, layout.shape


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorting key by which ``layer10`` comes after ``layer2``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]
