"""Tensors in files: safetensors without surprises. Names, types and shapes are checked before data is read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.files import write_bytes

PICKLES: Final = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar"})
"""Endings of files that Python's pickle reads, which runs whatever code they carry."""
_MAX_HEADER: Final = 4 * 2**20
_MAX_TENSORS: Final = 10_000
_MAX_DIMENSIONS: Final = 16
_LENGTH: Final = 8
_NAMED: Final = 3
_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}


class Layout(NamedTuple):
    """Type (``"F32"``) and shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def layout_of(tensor: Tensor) -> Layout:
    """The layout of a tensor, which may be on any device, ``meta`` too."""
    return Layout(_NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))


def layouts_of(tensors: Mapping[str, Any]) -> dict[str, Layout]:
    """:func:`layout_of` of everything in a state dict that is a tensor."""
    return {name: layout_of(value) for name, value in tensors.items() if isinstance(value, Tensor)}


def can_be_saved(tensor: Tensor) -> bool:
    """Whether files have a type for a tensor."""
    return tensor.dtype in _NAMES and tensor.layout == torch.strided


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors of any device and memory order; tied ones are written once for each name.

    Equal tensors and metadata give equal bytes.

    Raises:
        GanzooError: a tensor has a type that the format does not know, or the file cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise GanzooError(f"The tensor {name!r} cannot be saved: safetensors has no type for {tensor.dtype}.")
    ready: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().to("cpu").contiguous()
        storage = plain.untyped_storage().data_ptr()
        ready[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    blob = memoryview(safetensors.torch.save(ready))
    # The library writes metadata in the order of a hash map, which differs from process to process.
    end = _LENGTH + int.from_bytes(blob[:_LENGTH], "little")
    header = json.loads(bytes(blob[_LENGTH:end]))
    head = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    text = json.dumps(head | header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    write_bytes(path, len(text).to_bytes(_LENGTH, "little"), text, blob[end:])


def layouts(path: Path) -> dict[str, Layout]:
    """Layout of every tensor of a file, from its header alone.

    Raises:
        MissingError: there is no such file.
        UsageError: it is a pickle.
        GanzooError: it is no safetensors file, or a damaged one.
    """
    _refuse_unsafe(path)
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
        found = {name: Layout(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    deep = [name for name, layout in found.items() if len(layout.shape) > _MAX_DIMENSIONS]
    if deep:
        raise GanzooError(f"{path} is damaged or hostile: {_few(deep)} has more than {_MAX_DIMENSIONS} dimensions.")
    return found


def metadata_of(path: Path) -> dict[str, str]:
    """What a file says about itself, from its header alone.

    Raises:
        GanzooError: it is no safetensors file, or a damaged one.
    """
    _refuse_unsafe(path)
    with _opened(path) as file:
        return dict(file.metadata() or {})


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hexadecimal, of names, types, shapes and every bit of the numbers."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {layout_of(tensor)}\n".encode())
        found.update(bytes_of(tensor))
    return found.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """The numbers of a tensor as they lie in memory, without a copy if it is whole and on the CPU."""
    return tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().data


def load_tensors(
    path: Path,
    expected: Mapping[str, Tensor] | None = None,
    where: str = "",
    *,
    prefix: str = "",
) -> dict[str, Tensor]:
    """Tensors of a file, on the CPU, each with memory of its own.

    Args:
        path: a ``.safetensors`` file.
        expected: what must be there, by name, type and shape (a state dict, on any device, ``meta`` too); None takes
            what the file has.
        where: what the sentences call the file; its path when empty.
        prefix: take only the names that start with it, and leave it off.

    Raises:
        MissingError: there is no such file.
        UsageError: it is a pickle.
        GanzooError: it is damaged, does not hold what is expected, or holds numbers that are not finite.
    """
    where = where or str(path)
    found = {name[len(prefix) :]: layout for name, layout in layouts(path).items() if name.startswith(prefix)}
    if expected is not None:
        wrong = mismatch(found, {name: layout_of(tensor) for name, tensor in expected.items()})
        if wrong:
            raise GanzooError(f"{where} does not fit: {wrong}.")
    with _opened(path) as file:
        tensors = {name: file.get_tensor(prefix + name).clone() for name in found}
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise GanzooError(
            f"{where} cannot be used: {_few(broken)} {'holds' if len(broken) == 1 else 'hold'} numbers that are not "
            "finite (NaN or infinity), as after a run that diverged; use an earlier checkpoint."
        )
    return tensors


def load_into(module: nn.Module, path: Path, prefix: str = "", where: str = "") -> None:
    """Fill a module from the tensors of a file whose names start with ``prefix``, every one of them.

    Raises:
        GanzooError: as :func:`load_tensors`; the module is as it was.
    """
    module.load_state_dict(load_tensors(path, module.state_dict(), where, prefix=prefix))


def mismatch(found: Mapping[str, Layout], expected: Mapping[str, Layout]) -> str | None:
    """How what was found differs from what is expected, in half a sentence that names the first few; None if not."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    differing = [
        f"{name} ({found[name]} there, {layout} here)"
        for name, layout in expected.items()
        if name in found and found[name] != layout
    ]
    said = [
        f"{words} {_few(names)}"
        for words, names in (
            ("it lacks", missing),
            ("it has the unknown", unexpected),
            ("types or shapes differ in", differing),
        )
        if names
    ]
    return "; ".join(said) or None


def _few(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _refuse_unsafe(path: Path) -> None:
    if path.suffix.lower() in PICKLES:
        raise UsageError(
            f"{path} is a pickle, which runs whatever code it carries when it is read, so ganzoo never reads one; in "
            "an environment that you trust it with, convert it: safetensors.torch.save_file(torch.load(path, "
            'weights_only=True), "weights.safetensors").'
        )
    if path.exists() and not path.is_file():
        raise GanzooError(f"{path} is no file.")  # a pipe or a device would never end
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH), "little")
    except FileNotFoundError:
        raise MissingError(f"There is no file {path}.") from None
    except OSError as err:
        raise GanzooError(f"Cannot read {path}: {err.strerror or err}.") from None
    if length > _MAX_HEADER:
        raise GanzooError(f"{path} is no safetensors file, or one with an absurdly long header ({length:,} bytes).")
    try:
        with path.open("rb") as file:
            file.seek(_LENGTH)
            names = _names(json.loads(file.read(length), object_pairs_hook=_Pairs))
    except (OSError, ValueError, RecursionError) as err:
        raise GanzooError(f"{path} is damaged or no safetensors file (its header cannot be read: {err}).") from None
    if len(names) > _MAX_TENSORS:
        raise GanzooError(f"{path} has absurdly many tensors ({len(names):,}).")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise GanzooError(f"{path} has two tensors of one name: {_few(twice)}; readers would disagree about them.")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, doubled names too."""


def _names(header: object) -> list[str]:
    if not isinstance(header, _Pairs):
        raise ValueError("it is no JSON object")  # noqa: TRY004
    return [name for name, _ in header]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """``safe_open`` whose complaints are sentences."""
    opener: Any = safe_open
    try:
        with opener(path, framework="pt", device="cpu") as file:
            yield file
    except MemoryError:
        raise GanzooError(f"{path} does not fit into memory.") from None
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, OverflowError) as err:
        reason = " ".join(str(err).split())
        raise GanzooError(f"{path} is damaged or no safetensors file ({reason}).") from None
