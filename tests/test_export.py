"""Exports: bit-equal after the round trip, and strangers' files harmless."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.config import Layer, resolve
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.nn import Discriminator, Generator
from ganzoo.nn.weights import layouts, load_tensors, save_tensors
from ganzoo.outputs.export import export_run, export_state_dict, load, load_discriminator
from ganzoo.registry import build, registry
from ganzoo.training.checkpoint import sealed

SPEC = Spec((1, 8, 8), 10)
SETTINGS = {"gen": "dcgan", "gen.width": 4, "gen.latent_dim": 5, "disc": "dcgan", "disc.width": 4, "loss": "wgan-gp"}


def make_run(path: Path, *, ema: bool = True, **settings: Any) -> Path:
    """A run as training leaves it, with other weights in the average than in the generator."""
    config = resolve([Layer("test", SETTINGS | {key.replace("__", "."): value for key, value in settings.items()})])
    torch.manual_seed(0)
    nets = {"gen": build(config.gen, SPEC), "disc": build(config.disc, SPEC)}
    if ema:
        nets["ema"] = build(config.gen, SPEC)
    checkpoint = path / "checkpoints" / "step-00000020"
    checkpoint.mkdir(parents=True)
    tensors = {f"{side}.{key}": tensor for side, net in nets.items() for key, tensor in net.state_dict().items()}
    save_tensors(checkpoint / "model.safetensors", tensors)
    save_tensors(checkpoint / "optimizer.safetensors", {})
    (checkpoint / "state.json").write_text("{}", encoding="utf-8")
    files = {
        file.name: {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in checkpoint.iterdir()
    }
    manifest = {"format": "ganzoo-checkpoint/1", "step": 20, "files": files}
    (checkpoint / "manifest.json").write_text(sealed(manifest), encoding="utf-8")
    record = {
        "format": "ganzoo-run/1",
        "config": config.to_dict(),
        "spec": {"shape": list(SPEC.shape), "num_classes": SPEC.num_classes},
        "versions": {"ganzoo": "0.0.9", "torch": "2.6"},
    }
    (path / "config.json").write_text(json.dumps(record), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def weights_of(run: Path, prefix: str) -> dict[str, Tensor]:
    return load_tensors(run / "checkpoints" / "step-00000020" / "model.safetensors", prefix=prefix)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_round_trip_is_bit_equal(run: Path, tmp_path: Path) -> None:
    out = export_run(run)
    assert out == run / "export"
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "samples.png",
    ]
    gen, direct = load(out, "cpu"), load(run, "cpu")
    assert same(gen.state_dict(), weights_of(run, "ema."))
    assert isinstance(gen, Generator)
    assert not gen.training
    assert not any(p.requires_grad for p in gen.parameters())
    z = gen.latent(4, torch.Generator().manual_seed(0))
    assert torch.equal(gen(z), direct(z))
    again = export_run(run, tmp_path / "other")
    for path in out.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_weights_last_trained_on_request_or_without_average(run: Path, tmp_path: Path) -> None:
    assert same(load(run, "cpu", ema=False).state_dict(), weights_of(run, "gen."))
    out = export_run(run, tmp_path / "last", ema=False)
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["weights"] == "last"
    plain = make_run(tmp_path / "plain", ema=False)
    assert same(load(export_run(plain), "cpu", ema=False).state_dict(), weights_of(plain, "gen."))


def test_loading_moves_nobodys_random_numbers(run: Path) -> None:
    state = torch.random.get_rng_state()
    load(run, "cpu")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_discriminator_is_there_when_asked_for(run: Path, tmp_path: Path) -> None:
    disc = load_discriminator(run, "cpu")
    assert isinstance(disc, Discriminator)
    exported = load_discriminator(export_run(run, tmp_path / "both", disc=True), "cpu")
    assert same(disc.state_dict(), exported.state_dict())
    assert exported.features(torch.zeros(2, *SPEC.shape)).shape[0] == 2
    with pytest.raises(MissingError, match=r"holds no discriminator; export its run with --with-disc\."):
        load_discriminator(export_run(run, tmp_path / "one"), "cpu")


def test_the_record_says_everything(run: Path) -> None:
    out = export_run(run)
    record = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert record["format"] == "ganzoo-export/1"
    assert record["generator"]["id"] == registry().get("generator", "dcgan").id
    assert record["generator"]["plugin"]["version"] == registry().get("generator", "dcgan").plugin.version
    assert record["generator"]["options"]["width"] == 4
    assert (record["steps"], record["seed"], record["weights"]) == (20, 0, "ema")
    assert record["latent"] == {"dim": 5, "prior": "normal"}
    assert record["range"] == [-1, 1]
    assert record["run"]["loss"]["name"].endswith("wgan-gp")
    assert record["trained_with"] == {"ganzoo": "0.0.9", "torch": "2.6"}


def test_the_home_folder_stays_private(tmp_path: Path) -> None:
    home = str(Path.home() / "secret-project")
    run = make_run(tmp_path / "run", out=home)
    assert home in (run / "config.json").read_text(encoding="utf-8")
    out = export_run(run)
    for path in out.iterdir():
        assert str(Path.home() / "secret").encode() not in path.read_bytes()


def test_the_card(run: Path) -> None:
    card = (export_run(run) / "README.md").read_text(encoding="utf-8")
    for line in (
        "library_name: ganzoo",
        "pipeline_tag: unconditional-image-generation",
        "- gan",
        "- dcgan",
        "# dcgan trained on digits",
        "The generator of a GAN that draws 1x8x8 images: the moving average of its weights.",
        "![Samples](samples.png)",
        "ganzoo sample path/to/this/folder --out samples.png",
        'gen = ganzoo.load("path/to/this/folder")',
        "images = gen(gen.latent(16))  # [16, 1, 8, 8] in [-1, 1]",
        "| steps done | `20` |",
        "| gen.width | `4` |",
        "| gen_optim.name | `adam` |",
        "| run.seed | `0` |",
        "Trained with ganzoo 0.0.9, torch 2.6.",
    ):
        assert line in card.splitlines(), line
    assert "No score was computed" in card
    assert "license:" not in card


def test_the_card_of_a_conditional_generator_runs(tmp_path: Path) -> None:
    out = export_run(make_run(tmp_path / "run", gen="cgan", disc="cgan"))
    card = (out / "README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", str(out))
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["images"].shape == (16, 1, 8, 8)
    assert "of a wanted one of 10 classes" in card
    assert "pipeline_tag" not in card


def test_other_peoples_files_are_not_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match=r"holds other things than an export \(thesis\.tex\)"):
        export_run(run, tmp_path / "mine")
    with pytest.raises(UsageError, match=r"thesis\.tex is a file"):
        export_run(run, tmp_path / "mine" / "thesis.tex")
    with pytest.raises(UsageError, match="is an export already"):
        export_run(export_run(run))
    assert export_run(run) == run / "export"


def test_a_damaged_checkpoint_is_told_of(run: Path) -> None:
    model = run / "checkpoints" / "step-00000020" / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    said: list[str] = []
    with pytest.raises(MissingError, match="none of its checkpoints is whole"):
        export_run(run, say=said.append)
    assert "altered" in said[0]


def test_points_are_exported_too(tmp_path: Path) -> None:
    spec = Spec((2,))
    gen = build(registry().choose("generator", "mlp", {"width": 4}), spec)
    save_tensors(tmp_path / "a.safetensors", gen.state_dict())
    out = export_state_dict(tmp_path / "a.safetensors", tmp_path / "out", gen="mlp", options={"width": 4}, spec=spec)
    assert same(load(out, "cpu").state_dict(), gen.state_dict())
    assert "draws points of 2 numbers" in (out / "README.md").read_text(encoding="utf-8")


ACME = {"id": "acme/big", "plugin": {"distribution": "ganzoo-acme", "version": "1"}, "options": {"made-up": 1}}


def put(record: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split("/")
    for key in way:
        record = record[key]
    record[last] = value


@pytest.mark.parametrize(
    ("path", "value", "kind", "words"),
    [
        ("generator/id", "ganzoo/no-such", MissingError, "upgrade it"),
        ("generator/id", "acme/dcgan", MissingError, "of the plugin 'acme'.*add -p FILE"),
        ("generator", ACME, MissingError, "of the plugin 'ganzoo-acme', .* 'pip install ganzoo-acme'"),
        ("generator/id", "no-such", MissingError, "There is no generator 'no-such'"),
        ("generator/id", "os:system", GanzooError, "can name installed components only, not 'os:system'"),
        ("generator/id", "../../evil.py", GanzooError, "installed components only"),
        ("generator/id", ["dcgan"], GanzooError, "installed components only"),
        ("generator", None, GanzooError, "installed components only"),
        ("generator/options/widht", 4, GanzooError, "has no option 'widht'. Did you mean width"),
        ("generator/options/width", "4", GanzooError, "Option 'width' of generator .* must be int >= 1, not '4'"),
        ("generator/options/width", -1, GanzooError, "must be int >= 1, not -1"),
        ("generator/options/width", 8, GanzooError, "does not fit: types or shapes differ in main"),
        ("generator/options/width", 2**40, GanzooError, "does not fit|cannot be built"),
        ("generator/options/latent_dim", 10**30, GanzooError, "must be int >= 1"),
        ("generator/options/latent_dim", 2**62, GanzooError, "cannot be built"),
        ("generator/options/norm", "spectral", GanzooError, "it lacks main.0.bias"),
        ("spec/shape", [1, 8], GanzooError, r"\(C, H, W\)"),
        ("spec/shape", [1, 8, -8], GanzooError, "positive sizes"),
        ("spec/shape", [1, 9, 11], GanzooError, "4 to 7 times a power of two"),
        ("spec/shape", [1, 8, "8"], GanzooError, "in whole numbers"),
        ("spec/shape", [1, 8, True], GanzooError, "in whole numbers"),
        ("spec/shape", [1, 2**20, 2**20], GanzooError, "absurdly large samples"),
        ("spec/num_classes", 10**12, GanzooError, "many classes"),
        ("spec", [], GanzooError, "'spec' must be a JSON object"),
        ("latent", {"dim": 6, "prior": "normal"}, GanzooError, "the file was altered"),
        ("format", "ganzoo-export/99", GanzooError, "has the format 'ganzoo-export/99'; this ganzoo reads"),
        ("format", {"a": 1}, GanzooError, "has the format"),
    ],
)
def test_a_hostile_configuration_is_a_sentence(
    run: Path, path: str, value: Any, kind: type[GanzooError], words: str
) -> None:
    out = export_run(run)
    record = json.loads((out / "config.json").read_text(encoding="utf-8"))
    put(record, path, value)
    (out / "config.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(kind, match=words) as caught:
        load(out, "cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not valid JSON"),
        (b"\xff\xfe", "cannot be read"),
        (b"[]", "must hold a table of settings, not a list"),
        (b"[" * 100_000, "nested absurdly deep"),
        (b"{}", "has the format None"),
        (b'{"format": 1, "format": 2}', "it says 'format' twice"),
        (b" " * (2**20 + 1), "absurdly long"),
        (b'{"format": "ganzoo-run/1", "config": 3}', "'config' must be a JSON object"),
    ],
)
def test_an_unreadable_configuration_is_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(GanzooError, match=words):
        load(tmp_path, "cpu")


def test_a_network_of_far_more_layers_than_the_file_has_is_not_built(tmp_path: Path) -> None:
    spec = Spec((2,))
    gen = build(registry().choose("generator", "mlp", {"width": 4}), spec)
    save_tensors(tmp_path / "a.safetensors", gen.state_dict())
    out = export_state_dict(tmp_path / "a.safetensors", tmp_path / "out", gen="mlp", options={"width": 4}, spec=spec)
    record = json.loads((out / "config.json").read_text(encoding="utf-8"))
    put(record, "generator/options/depth", 10**5)
    (out / "config.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(GanzooError, match="far more layers than the weights have"):
        load(out, "cpu")


def test_what_is_not_there_is_a_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"There is no run and no export in .*nowhere"):
        load(tmp_path / "nowhere", "cpu")
    out = export_run(run)
    with pytest.raises(UsageError, match="is a file; give the folder"):
        load(out / "model.safetensors", "cpu")
    (out / "model.safetensors").unlink()
    with pytest.raises(MissingError, match="There is no file"):
        load(out, "cpu")


def test_the_safetensors_file_stands_alone(run: Path) -> None:
    out = export_run(run)
    opener: Any = safe_open
    with opener(out / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["config"]) == json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert not any(name.startswith("ema") for name in layouts(out / "model.safetensors"))
