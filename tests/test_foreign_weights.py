"""Weights of other projects: fitted strictly to a generator of ours, or refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ganzoo.api import Spec
from ganzoo.errors import GanzooError, UsageError
from ganzoo.nn.weights import save_tensors
from ganzoo.outputs.export import export_state_dict, load
from ganzoo.outputs.foreign import strip


def examples_generator(nz: int = 100, ngf: int = 8, nc: int = 3) -> nn.Sequential:
    """The generator of pytorch/examples, written out as there, only narrower."""
    return nn.Sequential(
        nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False),
        nn.BatchNorm2d(ngf * 8),
        nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False),
        nn.BatchNorm2d(ngf * 4),
        nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False),
        nn.BatchNorm2d(ngf * 2),
        nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
        nn.BatchNorm2d(ngf),
        nn.ReLU(True),
        nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def classic() -> tuple[nn.Sequential, dict[str, Tensor]]:
    torch.manual_seed(1)
    net = examples_generator()
    for _ in range(2):
        net(torch.randn(8, 100, 1, 1))  # so that the batch norms have statistics of their own
    return net.eval(), {f"main.{name}": tensor for name, tensor in net.state_dict().items()}


def renumbered(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same order under other names, of which the tenth must not sort before the second."""
    return {f"layers.{int(name.split('.')[1]) * 7}.{name.split('.')[2]}": t for name, t in tensors.items()}


Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]
DIALECTS: dict[str, Change] = {
    "plain": dict,
    "data parallel": lambda tensors: {f"module.{name}": t for name, t in tensors.items()},
    "compiled": lambda tensors: {f"_orig_mod.module.{name}": t for name, t in tensors.items()},
    "both networks": lambda tensors: {f"netG.{name}": t for name, t in tensors.items()} | {"netD.a": torch.ones(3)},
    "no counters": lambda tensors: {n: t for n, t in tensors.items() if not n.endswith("num_batches_tracked")},
    "double": lambda tensors: {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()},
    "other names": renumbered,
}
MISFITS: dict[str, tuple[Change, str]] = {
    "shape": (lambda t: t | {"main.0.weight": torch.ones(100, 64, 3, 3)}, r"main\.0\.weight \(F32 \[100, 64, 3, 3\] "),
    "missing": (lambda t: {n: v for n, v in t.items() if n != "main.3.weight"}, r"it lacks main\.3\.weight"),
    "unexpected": (lambda t: t | {"extra.weight": torch.ones(1)}, r"it has the unknown extra\.weight"),
    "not finite": (lambda t: t | {"main.0.weight": t["main.0.weight"] * torch.nan}, "not finite"),
    "nothing": (lambda _: {}, "it lacks main"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_classic_dcgan_gives_its_images(tmp_path: Path, dialect: str) -> None:
    net, tensors = classic()
    save_tensors(tmp_path / "netG.safetensors", DIALECTS[dialect](tensors))
    out = export_state_dict(
        tmp_path / "netG.safetensors", tmp_path / "out", gen="dcgan", options={"width": 8}, spec=Spec((3, 64, 64))
    )
    gen = load(out, "cpu")
    z = torch.randn(4, 100)
    with torch.no_grad():
        assert torch.equal(gen(z), net(z[:, :, None, None]))
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "Trained elsewhere; imported from `netG.safetensors`" in card


@pytest.mark.parametrize("misfit", MISFITS)
def test_weights_that_do_not_fit_are_a_sentence(tmp_path: Path, misfit: str) -> None:
    change, words = MISFITS[misfit]
    save_tensors(tmp_path / "netG.safetensors", change(classic()[1]))
    with pytest.raises(GanzooError, match=words):
        export_state_dict(
            tmp_path / "netG.safetensors", tmp_path / "out", gen="dcgan", options={"width": 8}, spec=Spec((3, 64, 64))
        )
    assert not (tmp_path / "out").exists()


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a pickle"):
        export_state_dict(tmp_path / "netG.pth", tmp_path / "out", gen="dcgan", spec=Spec((3, 64, 64)))


def test_of_several_networks_the_averaged_generator_is_taken() -> None:
    names = ["module.netG.a", "module.netD.a", "module.netG_ema.a"]
    assert strip(names) == {"a": "module.netG_ema.a"}
    assert strip(["main.0.weight", "bias"]) == {"main.0.weight": "main.0.weight", "bias": "bias"}
    assert strip([]) == {}
