"""Tensors in files: any kind comes back, and what does not fit, is damaged or would run code is a sentence."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import safetensors
import torch
from torch import nn

from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.files import sha256
from ganzoo.nn.weights import layouts, load_into, load_tensors, save_tensors


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    return module


def test_tensors_of_any_kind_come_back(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(2, 3, 2, 2)
    tensors = {
        "channels last": whole.to(memory_format=torch.channels_last),
        "transposed": whole[0, :, 0].T,
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "bf16": torch.ones(3, dtype=torch.bfloat16),
        "bool": torch.tensor([True, False]),
        "tied 1": whole,
        "tied 2": whole,
        "view": whole[0],
        **tied().state_dict(),
    }
    save_tensors(tmp_path / "a.safetensors", tensors, {"b": "2", "a": "1"})
    loaded = load_tensors(tmp_path / "a.safetensors", tensors)
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"a": "1", "b": "2"}


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    """The library by itself orders metadata anew each time."""
    tensors = {f"t{i}": torch.ones(i) for i in range(9)}
    for name in "abcde":
        save_tensors(tmp_path / name, tensors, {f"m{i}": str(i) for i in range(9)})
    assert len({sha256(tmp_path / name) for name in "abcde"}) == 1


def test_a_type_that_cannot_be_saved_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(GanzooError, match=r"'odd' cannot be saved: safetensors has no type for torch\.complex128"):
        save_tensors(tmp_path / "a.safetensors", {"odd": torch.zeros(1, dtype=torch.complex128)})


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({"weight": torch.ones(2, 3)}, "it lacks bias"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "b": torch.ones(1)}, "it has the unknown b"),
        ({"weight": torch.ones(2, 4), "bias": torch.ones(2)}, r"weight \(F32 \[2, 4\] there, F32 \[2, 3\] here\)"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2).half()}, r"bias \(F16 \[2\] there, F32 \[2\] here\)"),
        ({f"k{i}": torch.ones(1) for i in range(5)}, "it lacks weight, bias; it has the unknown k0, k1, k2 and 2 more"),
        ({"weight": torch.full((2, 3), torch.nan), "bias": torch.ones(2)}, "weight holds numbers that are not finite"),
        ({"weight": torch.ones(2, 3), "bias": torch.tensor([1, torch.inf])}, "bias holds numbers that are not finite"),
    ],
)
def test_what_does_not_fit_is_a_sentence(tmp_path: Path, saved: dict[str, torch.Tensor], words: str) -> None:
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    save_tensors(tmp_path / "a.safetensors", {f"gen.{name}": tensor for name, tensor in saved.items()})
    with pytest.raises(GanzooError, match=words):
        load_into(module, tmp_path / "a.safetensors", "gen.")
    assert torch.equal(module.weight, before)


def test_a_prefix_selects(tmp_path: Path) -> None:
    gen, disc = nn.Linear(3, 2), nn.Linear(5, 1)
    tensors = {
        f"{side}.{key}": t for side, net in (("gen", gen), ("disc", disc)) for key, t in net.state_dict().items()
    }
    save_tensors(tmp_path / "a.safetensors", tensors)
    copy = nn.Linear(5, 1)
    load_into(copy, tmp_path / "a.safetensors", "disc.")
    assert torch.equal(copy.weight, disc.weight)
    assert layouts(tmp_path / "a.safetensors")["gen.weight"] == ("F32", (2, 3))


@pytest.mark.parametrize("name", ["a.pt", "a.PTH", "a.bin", "a.ckpt", "a.pkl"])
def test_pickles_are_refused_unread(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"is a pickle, which runs whatever code it carries.*safetensors\.torch"):
        load_tensors(tmp_path / name)


def test_damage_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(MissingError, match="There is no file"):
        load_tensors(path)
    save_tensors(path, {"a": torch.ones(100)})
    whole = path.read_bytes()
    for damaged in (b"", b"abc", whole[:-1], whole[:20], whole + b"x", b"PK\x03\x04" + b"0" * 50):
        path.write_bytes(damaged)
        with pytest.raises(GanzooError, match=r"damaged or no safetensors file|no safetensors file, or one with"):
            load_tensors(path)


def test_a_header_of_absurd_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write((90 * 2**20).to_bytes(8, "little"))
        file.truncate(100 * 2**20)
    start = time.perf_counter()
    with pytest.raises(GanzooError, match="absurdly long header"):
        load_tensors(path)
    assert time.perf_counter() - start < 1


def test_a_header_that_claims_more_than_the_file_has(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(GanzooError, match="damaged"):
        load_tensors(path)
