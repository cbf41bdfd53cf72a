"""Files gone wrong on purpose: mutations of bytes and of what formats mean, the same for the same seed."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from random import Random
from typing import Any, Final

ESCAPES: Final = "\x1b]0;pwned\x07\x1b[31m\u202e<script>alert(1)</script>"
ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)),
    *(0.0, -0.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", " ", "auto", "none", "0", "-1", "1e9", "nan", "true", ESCAPES, "x" * 5000, "\0", "\ud800", "..", "/", "~"),
    *("../../../tmp/evil", "/etc/passwd", "os:system", "builtins:eval", "evil.py", "acme/dcgan", "ganzoo/dcgan"),
    *("dcgan", "mlp", "cgan", "torchvision", "ring", "folder", "npz", "wgan-gp", "unrolled", "r1", "r1,r1"),
    *([], [0], [1, 2], [[]], ["a"], {}, {"a": 1}, {"name": "x"}, {"": {}}, {"r1": {}}, [None], [1e999] * 3),
)
"""Values that somebody may put where another belongs."""
NUMBERS: Final = (0, 1, 2, 127, 128, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
DTYPES: Final = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "C64",
    "I64",
    "I8",
    "U8",
    "BOOL",
    "F8_E4M3",
    "F4",
    "U64",
    "",
    "float32",
    3,
)


def some_bytes(data: bytes, rng: Random) -> bytes:
    """One to eight changes anywhere: flips, odd numbers, cuts, repetitions, insertions."""
    raw = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(raw) + 1)
        size = rng.choice((1, 2, 4, 8, 64))
        change = rng.randrange(6)
        if change == 0 and at < len(raw):
            raw[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            number, order = rng.choice(NUMBERS), rng.choice(("little", "big"))
            raw[at : at + size] = (number % 256**size).to_bytes(size, order)
        elif change == 2:
            del raw[at : at + size]
        elif change == 3:
            raw[at:at] = rng.randbytes(size)
        elif change == 4:
            raw[at:at] = raw[at : at + size] * rng.choice((1, 3, 100))
        elif rng.random() < 0.3:
            del raw[at:]
        if not raw:
            break
    return bytes(raw)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def tree(value: Any, rng: Random) -> Any:
    """JSON values with one to four of them replaced, removed, renamed, doubled, moved or wrapped."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            return copy.deepcopy(rng.choice(ODD))
        (inside, key), (other, another) = rng.choice(places), rng.choice(places)
        change = rng.randrange(8)
        if change <= 3:
            inside[key] = copy.deepcopy(rng.choice(ODD))
        elif change == 4:
            del inside[key]
        elif change == 5 and isinstance(inside, dict):
            inside[rng.choice((f"{key}x", f"{key}.{key}", ESCAPES, "", "name", "reg", "optim"))] = inside[key]
        elif change == 6:
            with contextlib.suppress(RecursionError):  # nested deep by an earlier change
                inside[key] = copy.deepcopy(other[another])
        else:
            for _ in range(rng.choice((1, 3, 300))):
                inside[key] = [inside[key]] if rng.random() < 0.5 else {"name": inside[key]}
    return value


def as_json(value: Any, rng: Random) -> bytes:
    """JSON text, sometimes with a doubled name, a byte order mark or another encoding."""
    try:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.8)
    except (ValueError, RecursionError):
        text = "{"
    if rng.random() < 0.05 and text.startswith("{") and len(text) > 2:
        text = '{"format": 1, "config": 2, ' + text[1:]
    if rng.random() < 0.05:
        return text.encode(rng.choice(("utf-16", "utf-8-sig", "latin-1", "utf-32")), "replace")
    return text.encode("utf-8", "replace")


def as_toml(value: Any) -> bytes:
    """A mapping as TOML with inline tables; what TOML has no word for is left out."""

    def word(item: Any) -> str:
        if isinstance(item, dict):
            return "{" + ", ".join(f"{json.dumps(str(k))} = {word(v)}" for k, v in item.items() if v is not None) + "}"
        if isinstance(item, list):
            return "[" + ", ".join(word(each) for each in item if each is not None) + "]"
        if isinstance(item, float):
            return str(item)  # inf and nan are as Python has them
        return json.dumps(item)

    table = value if isinstance(value, dict) else {"value": value}
    try:
        lines = [f"{json.dumps(str(key))} = {word(item)}" for key, item in table.items() if item is not None]
    except RecursionError:
        lines = ["a = " + "[" * 5000]
    return "\n".join(lines).encode("utf-8", "replace")


def split_weights(blob: bytes) -> tuple[Any, bytes]:
    """Header and data of a safetensors file."""
    end = 8 + int.from_bytes(blob[:8], "little")
    return json.loads(blob[8:end]), blob[end:]


def join_weights(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file of these parts, whatever they hold."""
    return struct.pack("<Q", (len(header) if length is None else length) % 2**64) + header + data


def weights(blob: bytes, rng: Random) -> bytes:
    """A safetensors file with something wrong in its header, its length or its numbers."""
    header, data = split_weights(blob)
    names = [name for name in header if name != "__metadata__"]
    change = rng.randrange(12)
    length = None
    name = rng.choice(names)
    if change == 0:
        return some_bytes(blob, rng)
    if change == 1:
        length = rng.choice((*NUMBERS, len(blob), len(blob) - 8, 16 * 2**20))
    elif change == 2:
        header[name]["dtype"] = rng.choice(DTYPES)
    elif change == 3:
        header[name]["shape"] = rng.choice(([], [0], [2**62, 4], [2**32, 2**32], [-1], [10**30], [1] * 500, "x", [1.5]))
    elif change == 4:
        header[name]["data_offsets"] = [rng.choice((*NUMBERS, -1, len(data))) for _ in range(rng.choice((1, 2, 3)))]
    elif change == 5:
        odd = ("", ESCAPES, "../x", "x" * 10**5, "__class__", "a.b.c", "ema." + name, "__metadata__")
        header[rng.choice(odd)] = header.pop(name) if rng.random() < 0.5 else header[name]
    elif change == 6:
        header["__metadata__"] = rng.choice(({"a": 1}, [], ESCAPES, {"config": ESCAPES * 1000}, {"format": "pt"}))
    elif change == 7:  # many tensors, all without data, or all of the same data
        span = rng.choice(([0, 0], [0, 4]))
        header |= {f"t{i}": {"dtype": "F32", "shape": [span[1] // 4], "data_offsets": span} for i in range(3000)}
    elif change == 8:  # numbers that are not finite, or not numbers
        bits = rng.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\xff\xff\xff\xff"))
        at = rng.randrange(max(1, len(data) // 4)) * 4
        data = bits * (len(data) // 4) if rng.random() < 0.5 else data[:at] + bits + data[at + 4 :]
    elif change == 9:
        data = data[: rng.randrange(len(data) + 1)] if rng.random() < 0.5 else data + bytes(rng.choice((1, 4, 4096)))
    elif change == 10:  # the same name twice
        text = json.dumps(header)
        twice = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
        return join_weights((twice[:-1] + ", " + text[1:]).encode(), data)
    else:
        header = tree(header, rng)
    raw = as_json(header, rng)
    if rng.random() < 0.1:
        raw = some_bytes(raw, rng)
    return join_weights(raw, data, length)


def png(blob: bytes, rng: Random) -> bytes:
    """A PNG whose chunks are changed and have checksums that fit: what lies behind them is reached."""
    chunks = []
    at = 8
    while at + 12 <= len(blob):
        size = int.from_bytes(blob[at : at + 4], "big")
        chunks.append([blob[at + 4 : at + 8], blob[at + 8 : at + 8 + size]])
        at += 12 + size
    for _ in range(rng.choice((1, 2))):
        chunk = rng.choice(chunks)
        change = rng.randrange(5)
        if change == 0 and len(chunks[0][1]) == 13:
            sides = [rng.choice((0, 1, 2**15, 2**20, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
            chunks[0][1] = struct.pack(">II", *sides) + chunks[0][1][8:]
        elif change == 1:
            chunk[1] = some_bytes(chunk[1] or b"\0", rng)
        elif change == 2:
            chunks.insert(rng.randrange(len(chunks) + 1), list(chunk))
        elif change == 3:  # text that unpacks to a lot
            chunks.insert(1, [b"zTXt", b"a\0\0" + zlib.compress(bytes(rng.choice((2**10, 2**24))), 9)])
        else:  # pixels that unpack to a lot
            chunks[-2][1] = zlib.compress(bytes(2**22), 9)
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return blob[:8] + b"".join(parts)


def archive(blob: bytes, rng: Random) -> bytes:
    """A zip with other names, links, bombs, doubled members, or members whose content is mutated."""
    members = []
    with zipfile.ZipFile(io.BytesIO(blob)) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    for _ in range(rng.choice((1, 2))):
        at = rng.randrange(len(members))
        name, data = members[at]
        change = rng.randrange(7)
        if change == 0:
            bad = ("../../evil", "/etc/evil", "C:\\evil", "a\\..\\..\\evil", ESCAPES.replace("/", "_"), "", "x" * 5000)
            ending = "." + name.rpartition(".")[2]
            members[at] = (rng.choice(bad) + rng.choice((ending, "", "/")), data)
        elif change == 1:
            members[at] = (name, some_bytes(data or b"\0", rng))
        elif change == 2:
            members.append((name, some_bytes(data or b"\0", rng)))
        elif change == 3:
            members[at] = (name, bytes(rng.choice((0, 1, 2**20, 2**25))))
        elif change == 4:
            members[at] = (name, npy_header(data, rng))
        elif change == 5:
            members[at] = (name, blob)  # an archive within
        else:
            members = members[:1] if rng.random() < 0.5 else members * 2
    out = io.BytesIO()
    method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA))
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as new:
        warnings.simplefilter("ignore")  # names may be doubled
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = rng.choice((0o100644, 0o100644, 0o120777, 0o010644)) << 16  # a file, a link, a pipe
            new.writestr(info, data)
    packed = out.getvalue()
    if rng.random() < 0.3:  # sizes that lie, in the directory too
        packed = some_bytes(packed, rng)
    if rng.random() < 0.2:
        where = packed.rfind(b"PK\x01\x02")
        sizes = struct.pack("<II", rng.choice(NUMBERS) % 2**32, rng.choice(NUMBERS) % 2**32)
        packed = packed[: where + 20] + sizes + packed[where + 28 :] if where >= 0 else packed
    return packed


def npy_header(data: bytes, rng: Random) -> bytes:
    """An array whose header promises another shape or type."""
    dtype = rng.choice(
        ("|u1", "<f4", "<f8", "|O", "<U9", "<M8[s]", "|V8", "<i8", "<c16", "[('a', '<f4')]", "|S99999999")
    )
    shapes = ("(3, 8, 8)", "(1,)", "()", "(10**12,)", "(1000000000000,)", "(2, 2**31)", "(-1, 8, 8)", "(0, 8, 8)", "x")
    quoted = dtype if dtype.startswith("[") else repr(dtype)
    text = (
        f"{{'descr': {quoted}, 'fortran_order': {rng.choice(('True', 'False', '3'))}, 'shape': {rng.choice(shapes)}}}"
    )
    raw = text.encode().ljust(117) + b"\n"
    version = rng.choice((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    size = struct.pack("<H", len(raw)) if version == b"\x01\x00" else struct.pack("<I", rng.choice((len(raw), 2**31)))
    return b"\x93NUMPY" + version + size + raw + data[128:]


def idx(blob: bytes, rng: Random) -> bytes:
    """An idx file with another header, gzipped or not, or a bomb."""
    raw = bytearray(blob)
    if rng.random() < 0.5:
        at = rng.randrange(0, 16, 4)
        raw[at : at + 4] = struct.pack(">I", rng.choice(NUMBERS) % 2**32)
    mutated = bytes(raw) if rng.random() < 0.5 else some_bytes(bytes(raw), rng)
    change = rng.randrange(4)
    if change == 0:
        return mutated
    if change == 1:
        return gzip.compress(blob[:16] + bytes(2**24), 9)
    packed = gzip.compress(mutated)
    return packed if change == 2 else some_bytes(packed, rng)
