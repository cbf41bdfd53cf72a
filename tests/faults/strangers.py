"""Sound files and what reads them: a trial mutates one, and has ganzoo read it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from faults import mutate
from PIL import Image

import ganzoo
from ganzoo.config import COMMAND_LINE, Layer, read_file, resolve
from ganzoo.data import images
from ganzoo.data.files import OnBadImage, list_images
from ganzoo.errors import printable
from ganzoo.nn.weights import save_tensors
from ganzoo.outputs.export import export_run, export_state_dict
from ganzoo.outputs.sampling import sample_to
from ganzoo.outputs.source import open_source
from ganzoo.training.checkpoint import sealed
from ganzoo_datasets import FolderConfig, NpzConfig
from ganzoo_datasets.folder_source import folder_source
from ganzoo_datasets.idx import read_idx
from ganzoo_datasets.npz_source import npz_source

Trial = Callable[[Random, Path], None]
"""Writes a file into the folder and has it read; may raise a GanzooError."""


def config_trials() -> dict[str, Trial]:
    """Configuration files and command lines."""
    bases: list[Any] = [
        {},
        {"gen": "cgan"},
        {"data": "ring", "loss": "wgan-gp", "reg": ["r1"]},
        {"trainer": "unrolled"},
    ]
    plain = [json.loads(json.dumps(resolve([Layer("base", base)]).to_dict())) for base in bases]
    saved = [*plain, *({"format": "ganzoo-run/1", "config": each, "versions": {}} for each in plain)]
    flat = [{path: str(value) for path, value in resolve([Layer("base", base)]).flat().items()} for base in bases]

    def resolved(*layers: Layer) -> None:
        config = resolve(layers)
        json.dumps(config.to_dict())
        if config.data.component.name not in ("folder", "npz", "prepared"):
            config.plan().broken_rules()

    def json_file(rng: Random, folder: Path) -> None:
        text = mutate.as_json(mutate.tree(rng.choice(saved), rng), rng)
        resolved(read_file(_put(folder / "x.json", text if rng.random() < 0.8 else mutate.some_bytes(text, rng))))

    def toml_file(rng: Random, folder: Path) -> None:
        text = mutate.as_toml(mutate.tree(rng.choice(saved), rng))
        resolved(read_file(_put(folder / "x.toml", text if rng.random() < 0.7 else mutate.some_bytes(text, rng))))

    def command_line(rng: Random, folder: Path) -> None:
        given = mutate.tree(rng.choice(flat), rng)
        pairs = given.items() if isinstance(given, dict) else [("gen", given)]
        resolved(Layer(COMMAND_LINE, {str(key): str(value) for key, value in pairs}, textual=True))

    def mapping(rng: Random, folder: Path) -> None:
        resolved(Layer("arguments", mutate.tree(rng.choice([*plain, *flat]), rng)))

    return {"json": json_file, "toml": toml_file, "command line": command_line, "python": mapping}


def weight_trials(made: Path) -> dict[str, Trial]:  # noqa: PLR0915
    """Exports, runs and loose files of weights; ``made`` is where the sound ones are put first."""
    tiny = {"data": "ring", "gen.width": 4, "disc.width": 4, "batch_size": 4, "samples": 4, "steps": 1, "device": "cpu"}
    run = ganzoo.train({**tiny, "out": str(made / "runs"), "name": "run"}).path
    exports = [export_run(run, made / "points", disc=True)]
    for name, options in (("dcgan", {"width": 2, "latent_dim": 4}), ("cgan", {"width": 4, "latent_dim": 4})):
        spec = ganzoo.Spec((1, 8, 8), 3 if name == "cgan" else None)
        (made / "loose").mkdir(exist_ok=True)
        loose = made / "loose" / f"{name}.safetensors"
        save_tensors(loose, ganzoo.create("generator", name, spec, **options).state_dict())
        exports.append(export_state_dict(loose, made / name, gen=name, options=options, spec=spec))
    files = {path: (path / "model.safetensors").read_bytes() for path in exports}
    records = {path: (path / "config.json").read_bytes() for path in exports}
    (checkpoint,) = (run / "checkpoints").glob("step-*")

    def header(rng: Random, folder: Path) -> None:
        source = rng.choice(exports)
        _put(folder / "config.json", records[source])
        _put(folder / "model.safetensors", mutate.weights(files[source], rng))
        gen = ganzoo.load(folder, "cpu")
        assert all(bool(tensor.isfinite().all()) for tensor in gen.state_dict().values())

    def record(rng: Random, folder: Path) -> None:
        source = rng.choice(exports)
        value = mutate.tree(json.loads(records[source]), rng)
        _put(folder / "config.json", mutate.as_json(value, rng))
        _put(folder / "model.safetensors", files[source])
        sample_to(folder, folder / "samples", n=2, device="cpu")

    def foreign(rng: Random, folder: Path) -> None:
        blob = mutate.weights(files[exports[1]], rng)
        loose = _put(folder / "loose.safetensors", blob)
        options = {"width": 2, "latent_dim": 4}
        export_state_dict(loose, folder / "made", gen="dcgan", options=options, spec=ganzoo.Spec((1, 8, 8)))

    def saved(rng: Random, folder: Path) -> None:
        """A run of a stranger, whose manifest fits."""
        step = folder / "checkpoints" / checkpoint.name
        step.mkdir(parents=True, exist_ok=True)
        for path in (run / "config.json", *checkpoint.iterdir()):
            _put(step / path.name if path.parent == checkpoint else folder / path.name, path.read_bytes())
        change = rng.randrange(3)
        if change == 0:
            value = mutate.tree(json.loads((run / "config.json").read_bytes()), rng)
            _put(folder / "config.json", mutate.as_json(value, rng))
        elif change == 1:
            value = mutate.tree(json.loads((step / "manifest.json").read_bytes()), rng)
            _put(step / "manifest.json", mutate.as_json(value, rng))
        else:
            blob = _put(
                step / "model.safetensors", mutate.weights((checkpoint / "model.safetensors").read_bytes(), rng)
            )
            manifest = json.loads((step / "manifest.json").read_bytes())
            raw = blob.read_bytes()
            manifest["files"][blob.name] = {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
            _put(step / "manifest.json", sealed(manifest).encode())
        open_source(folder).generator(ema=rng.random() < 0.5)
        if change == 0:
            card = (export_run(folder, folder / "made") / "README.md").read_text(encoding="utf-8")
            assert "<script" not in re.sub("`[^`\n]*`", "", card)
            assert printable(card, keep="\n") == card
        ganzoo.Run.open(folder).metrics()

    return {"header": header, "export": record, "loose": foreign, "run": saved}


def image_trials() -> dict[str, Trial]:
    """Images in folders and zips, arrays and idx files."""
    pictures = _pictures()
    zipped = _zip([(f"{'ab'[i % 2]}/{name}", data) for i, (name, data) in enumerate(pictures[:6])])
    arrays = io.BytesIO()
    np.savez(arrays, images=np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8), labels=np.arange(6) % 3)
    digits = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (3, 8, 8)) + bytes(192)

    def decoded(path: Path, rng: Random) -> None:
        skip: OnBadImage = rng.choice(("refuse", "skip"))
        files = list_images(path)
        shape = images.choose_shape(files, on_bad_image=skip)
        shape = (shape[0], min(shape[1], 64), min(shape[2], 64))
        array, kept = images.decode_images(files, shape, fit=rng.choice(("crop", "pad", "stretch")), on_bad_image=skip)
        assert array.shape[1:] == shape
        assert kept
        folder_source(FolderConfig(path=path, on_bad_image=skip))

    def folder_of_images(rng: Random, folder: Path) -> None:
        for old in (folder / "pictures").glob("*"):
            old.unlink()
        name, data = rng.choice(pictures)
        change = mutate.png if name.endswith("png") and rng.random() < 0.6 else mutate.some_bytes
        _put(folder / "pictures" / name, change(data, rng))
        _put(folder / "pictures" / "sound.png", pictures[0][1])
        decoded(folder / "pictures", rng)

    def zip_of_images(rng: Random, folder: Path) -> None:
        decoded(_put(folder / "x.zip", mutate.archive(zipped, rng)), rng)

    def npz(rng: Random, folder: Path) -> None:
        path = _put(folder / f"{rng.getrandbits(60)}.npz", mutate.archive(arrays.getvalue(), rng))
        try:
            samples, _ = npz_source(NpzConfig(path=path)).read()
            assert samples.size
        finally:
            path.unlink()

    def idx(rng: Random, folder: Path) -> None:
        array = read_idx(_put(folder / "x-ubyte", mutate.idx(digits, rng)), 3)
        assert array.nbytes == math.prod(array.shape)

    return {"image": folder_of_images, "zip": zip_of_images, "npz": npz, "idx": idx}


def _pictures() -> list[tuple[str, bytes]]:
    """Small sound images of every format, as file name and content."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    pictures: list[tuple[str, bytes]] = []
    for suffix, kind, modes in (
        ("png", "PNG", ("RGB", "L", "P", "RGBA", "1", "I;16")),
        ("jpg", "JPEG", ("RGB", "L", "CMYK")),
        ("gif", "GIF", ("P", "L")),
        ("bmp", "BMP", ("RGB", "P", "1")),
        ("webp", "WEBP", ("RGB", "RGBA")),
        ("tif", "TIFF", ("RGB", "L", "F", "I;16", "CMYK")),
        ("pgm", "PPM", ("L",)),
        ("ppm", "PPM", ("RGB",)),
    ):
        for mode in modes:
            out = io.BytesIO()
            grey = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else None
            (grey or colour.convert(mode)).save(out, kind)
            pictures.append((f"{mode.replace(';', '')}.{suffix}", out.getvalue()))
    return pictures


def bomb_trials() -> dict[str, Trial]:
    """Files that are small and unpack to a lot: each alone, and several at a time."""
    side = 8000  # just under the number of pixels that is allowed

    def picture(mode: str, kind: str, size: tuple[int, int]) -> bytes:
        out = io.BytesIO()
        Image.new(mode, size).save(out, kind)
        return out.getvalue()

    def refused_or_decoded(folder: Path, name: str, data: bytes, copies: int = 1) -> None:
        place = folder / name.replace(".", "-")
        for number in range(copies):
            _put(place / f"{number}-{name}", data)
        files = list_images(place)
        shape = images.choose_shape(files, size=32)
        images.decode_images(files, shape)

    canvas = bytearray(picture("RGB", "WEBP", (8, 8)))
    canvas[12:12] = b"VP8X" + (10).to_bytes(4, "little") + b"\x02\0\0\0" + b"\xfe\x3f\0" * 2
    canvas[4:8] = (len(canvas) - 8).to_bytes(4, "little")
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (1024, 1024, 1024))
    pictures = {
        "picture": ("wide.png", picture("RGBA", "PNG", (side, side)), 1),
        "pictures": ("many.png", picture("L", "PNG", (4200, 4200)), 4),
        "16 bits": ("deep.png", picture("I;16", "PNG", (side, side // 2)), 1),
        "too wide": ("wider.png", picture("1", "PNG", (20_000, 20_000)), 1),
        "canvas": ("canvas.webp", bytes(canvas), 1),
    }
    packed = _zip([(f"{i}.png", bytes(60 * 2**20)) for i in range(8)])
    zeros = io.BytesIO()
    np.savez_compressed(zeros, images=np.zeros((300, 1024, 1024), np.uint8))
    idx_file = gzip.compress(header + bytes(2**26), 1)

    def zipped(rng: Random, folder: Path) -> None:
        files = list_images(_put(folder / "x.zip", packed))
        images.decode_images(files, (1, 8, 8), on_bad_image="skip")

    def arrays(rng: Random, folder: Path) -> None:
        npz_source(NpzConfig(path=_put(folder / "zeros.npz", zeros.getvalue()))).read()

    def digits(rng: Random, folder: Path) -> None:
        read_idx(_put(folder / "x-ubyte", idx_file), 3)

    def shown(name: str, data: bytes, copies: int) -> Trial:
        return lambda _, folder: refused_or_decoded(folder, name, data, copies)

    trials = {name: shown(*facts) for name, facts in pictures.items()}
    return {**trials, "zip": zipped, "npz": arrays, "idx": digits}


def _zip(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def _put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
