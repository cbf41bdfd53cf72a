"""A few hundred hostile files of each kind; ``hostile.py`` runs tens of thousands."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import hostile
from faults.mutate import ESCAPES, join_weights
from PIL import Image

from ganzoo.config import read_file
from ganzoo.data import decode_images, list_images
from ganzoo.errors import GanzooError, UsageError, did_you_mean, printable
from ganzoo.nn.weights import load_tensors
from ganzoo.outputs.card import card
from ganzoo_datasets import NpzConfig
from ganzoo_datasets import npz_source as npz
from ganzoo_datasets.idx import read_idx

COUNTS = {"configs": 200, "headers": 120, "images": 120, "bombs": 0}


@pytest.mark.parametrize("kind", [kind for kind, count in COUNTS.items() if count])
def test_hostile_files_are_read_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    counts = dict.fromkeys(COUNTS, 0) | {kind: COUNTS[kind]}
    (report,) = hostile.everything(counts, 1, tmp_path)
    assert report.failures == []
    assert report.outcomes["refused"] > 0
    assert report.outcomes["read"] > 0


def test_the_watch_sees_what_it_is_there_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "SECONDS", 0.2)

    def escape(rng: Any, folder: Path) -> None:
        (folder.parent / "evil").write_text("x", encoding="utf-8")

    def tell(rng: Any, folder: Path) -> None:
        (folder / "fine").write_text("x", encoding="utf-8")
        raise ValueError("no sentence")

    def greedy(rng: Any, folder: Path) -> None:
        while True:
            pass

    for trial, words in ((escape, "evil"), (tell, "ValueError"), (greedy, "more than 0.2 s")):
        report = hostile.run_cases("x", {"x": trial}, 1, 0, tmp_path / "inside", base=hostile.peak())
        assert words in report.failures[0]


def test_a_file_of_another_format_is_no_picture_whatever_its_name(tmp_path: Path) -> None:
    """Pillow would hand PostScript to another program."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "EPS")
    (tmp_path / "1.png").write_bytes(out.getvalue())
    with pytest.raises(UsageError, match="no image format that is known here"):
        decode_images(list_images(tmp_path), (3, 8, 8))


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (2**14, 2**13)).save(tmp_path / "1.png")
    with pytest.raises(
        UsageError, match=r"it has 134 million pixels, more than the 67 allowed|exceeds limit of 89478485 pixels"
    ):
        decode_images(list_images(tmp_path), (3, 8, 8))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="This system has no pipes that are files.")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    for name in ("config.json", "1.png", "x.safetensors"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match="is no file"):
        read_file(tmp_path / "config.json")
    with pytest.raises(UsageError, match="it is no file"):
        decode_images(list_images(tmp_path), (3, 8, 8))
    with pytest.raises(GanzooError, match="is no file"):
        load_tensors(tmp_path / "x.safetensors")


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b'{"a": %b, "a": %b}' % ((json.dumps(ONE).encode(),) * 2), "two tensors of one name: a"),
        (json.dumps({f"t{i}": ONE | {"shape": [0], "data_offsets": [0, 0]} for i in range(10_001)}).encode(), "many"),
        (json.dumps({"a": ONE | {"shape": [1] * 100}}).encode(), "more than 16 dimensions"),
        (json.dumps({ESCAPES: ONE | {"dtype": "F99"}}).encode(), "damaged or no safetensors file"),
        (b"[1]", "no JSON object"),
        (b"[" * 10**5, "its header cannot be read"),
        (b" " * (5 * 2**20), "absurdly long header"),
    ],
    ids=["twice", "many", "deep", "escapes", "list", "nested", "long"],
)
def test_a_hostile_header_is_a_sentence(tmp_path: Path, header: bytes, words: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(join_weights(header, struct.pack("<f", 1.0)))
    with pytest.raises(GanzooError, match=words) as caught:
        load_tensors(tmp_path / "x.safetensors")
    assert str(caught.value).isprintable()


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    header = json.dumps({ESCAPES: ONE}).encode()
    (tmp_path / "x.safetensors").write_bytes(join_weights(header, struct.pack("<f", float("nan"))))
    with pytest.raises(GanzooError, match="not finite") as caught:
        load_tensors(tmp_path / "x.safetensors")
    assert str(caught.value).isprintable()


def test_an_archive_that_unpacks_to_a_flood_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "_MAX_UNPACKED", 2**16)
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((300, 32, 32), np.uint8))
    with pytest.raises(UsageError, match="times its size"):
        npz.npz_source(NpzConfig(path=tmp_path / "x.npz"))
    np.savez(tmp_path / "y.npz", images=np.zeros((300, 32, 32), np.uint8))
    assert npz.npz_source(NpzConfig(path=tmp_path / "y.npz")).spec.shape == (1, 32, 32)
    (tmp_path / "x-ubyte").write_bytes(bytes([0, 0, 8, 1]) + (2**30).to_bytes(4, "big"))
    with pytest.raises(GanzooError, match="its header promises"):
        read_idx(tmp_path / "x-ubyte", 1)


def test_names_and_links_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    """It is read and never unpacked: a link is the few bytes of its target, which are no picture."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../../evil.png", out.getvalue())
        archive.writestr("/tmp/evil.png", out.getvalue())
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    before = sorted(tmp_path.parent.rglob("*"))
    pixels, kept = decode_images(list_images(tmp_path / "x.zip"), (3, 8, 8), on_bad_image="skip")
    assert (len(pixels), kept) == (2, [0, 1])
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_card_says_what_strangers_wrote_and_obeys_none_of_it() -> None:
    evil = "x`|</td><script>alert(1)</script>\n---\nlicense: none\n[a](javascript:b)\x1b[2J\u202e"
    record = {
        "spec": {"shape": [1, 8, 8], "num_classes": None},
        "generator": {"id": "ganzoo/dcgan", "plugin": {"distribution": "ganzoo", "version": "1"}},
        "latent": {"dim": 4, "prior": "normal"},
        "weights": "ema",
        "steps": 1,
        "versions": {"torch": "2"},
        "trained_with": {evil: evil},
        "run": {"data": {"name": evil, evil: evil}, "gen": 3, evil: {evil: [evil]}, "reg": {evil: {evil: evil}}},
    }
    text = card(record, conditional=False)
    assert printable(text, keep="\n") == text
    outside = "".join(text.replace("\\|", "").split("`")[::2])
    assert "<script" not in outside
    assert "javascript:" not in outside
    assert text.startswith("---\nlibrary_name: ganzoo\n")
    assert text.splitlines().count("---") == 2
    assert "license: none\n" not in text


def test_texts_of_strangers_are_shown_in_one_visible_line() -> None:
    assert printable(ESCAPES).isprintable()
    assert printable("a\tb\nc\u2028d") == "a b c\\u2028d"
    assert printable("zażółć 手書き 🙂") == "zażółć 手書き 🙂"
    assert str(GanzooError(f"There is no {ESCAPES}.\nSecond line")).isprintable()
    assert len(str(GanzooError("x" * 10**6))) < 2100
    assert did_you_mean("x" * 10**6, ["dcgan", "mlp"]) == " There is dcgan, mlp."
