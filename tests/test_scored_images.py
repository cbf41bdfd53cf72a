"""Folders of images that are scored, as people have them: with colours here and there, settings and folders beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ganzoo
from ganzoo.errors import GanzooError, UsageError
from ganzoo.evaluation.shards import CHUNK
from ganzoo.evaluation.stats_file import read_statistics
from ganzoo.evaluation.subjects import Pictures, Subject, open_real, open_subject

GREY, RED = (7, 7, 7), (200, 0, 0)


def images(folder: Path, count: int, colour: Any = GREY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (8, 8), colour).save(folder / f"{number:04}.png")
    return folder


def opened(path: Path | str) -> Subject:
    return open_subject(path, say=lambda _: None)


def test_images_are_decoded_a_chunk_at_a_time(tmp_path: Path) -> None:
    subject = opened(images(tmp_path / "p", CHUNK + 3))
    assert isinstance(subject, Pictures)
    assert [len(x) for x, _ in subject.samples(CHUNK + 3, 0)] == [CHUNK, 3]


def test_a_few_coloured_images_among_many_grey_ones_are_seen(tmp_path: Path) -> None:
    folder = images(tmp_path / "p", 300)
    assert opened(folder).spec.shape == (1, 8, 8)
    Image.new("RGB", (8, 8), RED).save(folder / "0298.png")
    assert opened(folder).spec.shape == (3, 8, 8)
    assert open_real(folder).spec.shape == (3, 8, 8)


@pytest.mark.parametrize("name", ["config.json", "sweep.json"])
def test_settings_of_strangers_beside_images_are_passed_over(tmp_path: Path, name: str) -> None:
    folder = images(tmp_path / "p", 20)
    (folder / name).write_text('{"a": 1}', encoding="utf-8")
    assert isinstance(opened(folder), Pictures)


def test_a_run_whose_settings_are_damaged_is_no_folder_of_images(tmp_path: Path) -> None:
    folder = images(tmp_path / "run", 20)
    (folder / "config.json").write_text('{"format": "ganzoo-run/1", ', encoding="utf-8")
    with pytest.raises(GanzooError, match=r"config\.json"):
        opened(folder)
    (folder / "config.json").write_text(json.dumps({"format": "ganzoo-run/99"}), encoding="utf-8")
    with pytest.raises(GanzooError, match="ganzoo-run/99"):
        opened(folder)


def test_images_beside_folders_of_images_are_scored_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = images(tmp_path / "p", 20)
    images(folder / "train", 10)
    images(folder / "test", 10)
    found = opened(folder)
    assert (found.count, found.spec.num_classes) == (40, None)
    assert "option labels" not in caplog.text


def test_homes_are_written_out_and_a_user_that_nobody_knows_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for unknown in (opened, lambda path: open_real(Path(path)), lambda path: read_statistics(Path(path))):
        with pytest.raises(UsageError, match="Nobody knows whose home ~nobody123 in"):
            unknown("~nobody123/x.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(images(tmp_path / "here", 40))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", images=rng.integers(0, 256, (40, 8, 8), np.uint8))
    asked: dict[str, Any] = {"against": "digits", "features": "digit-cnn", "metrics": "fid", "device": "cpu"}
    ganzoo.evaluate("~/noise.npz", save_stats="~/stats.npz", **asked)
    assert (tmp_path / "stats.npz").is_file()
    assert not Path("~").exists()
