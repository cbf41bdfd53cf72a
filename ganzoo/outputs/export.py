"""Exports: a folder that anyone can sample from. ``config.json``, ``model.safetensors``, a model card and a picture.

The layout is the one that Hugging Face's model mixin uses.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from ganzoo import __version__
from ganzoo.api import Choice, Spec
from ganzoo.data.files import at_home
from ganzoo.errors import UsageError
from ganzoo.evaluation.result import FILE as RESULTS
from ganzoo.evaluation.result import Result, append_result
from ganzoo.files import atomic_dir, sha256, write_text
from ganzoo.nn import Discriminator, Generator
from ganzoo.nn.contracts import prior_of
from ganzoo.nn.weights import content_hash, layouts, save_tensors
from ganzoo.options import jsonable, options_of
from ganzoo.outputs.card import CARD, card
from ganzoo.outputs.foreign import read_foreign
from ganzoo.outputs.grids import save_grid
from ganzoo.outputs.sampling import columns_for, labels_for, samples
from ganzoo.outputs.scores import results_of
from ganzoo.outputs.source import CONFIG, DISCRIMINATOR, EXPORT_FORMAT, MODEL, Say, Source, open_source, outline
from ganzoo.registry import build, registry
from ganzoo.training.run import refuse_file

PICTURE: Final = "samples.png"
_FILES: Final = frozenset({CONFIG, MODEL, DISCRIMINATOR, CARD, PICTURE, RESULTS, "evaluation.png"})
_SHOWN: Final = 64


def load(path: Path | str, device: str | torch.device = "auto", *, ema: bool = True, best: bool = False) -> Generator:
    """The generator of a run or an export, in evaluation mode and frozen.

    >>> gen = load("runs/my-run")                # doctest: +SKIP
    >>> images = gen(gen.latent(16))             # doctest: +SKIP

    Args:
        path: folder of a run or an export.
        device: ``auto``, ``cpu``, ``cuda`` ...
        ema: the moving average of the weights, where there is one.
        best: a run's best checkpoint, as its scores tell, and not its newest.

    Raises:
        MissingError: no run or export, weights, plugin or device of that name is here.
        GanzooError: what is there does not fit or is damaged.
    """
    from ganzoo.training.device import resolve_device

    return open_source(path, best=best).generator(ema=ema)[0].to(resolve_device(device).device)


def load_discriminator(path: Path | str, device: str | torch.device = "auto") -> Discriminator:
    """The discriminator of a run, or of an export that holds one, in evaluation mode and frozen.

    Raises:
        MissingError: no run or export, weights, plugin or device of that name is here, or the export holds none.
        GanzooError: what is there does not fit or is damaged.
    """
    from ganzoo.training.device import resolve_device

    return open_source(path).discriminator()[0].to(resolve_device(device).device)


def export_run(
    run: Path | str,
    out: Path | str | None = None,
    *,
    ema: bool = True,
    best: bool = False,
    disc: bool = False,
    say: Say = lambda _: None,
) -> Path:
    """Export the newest good checkpoint of a run, or its best.

    Args:
        run: the run's folder.
        out: the export's folder, ``export`` within the run's unless given; an export in it is replaced.
        ema: the moving average of the weights, where there is one; else those last trained.
        best: the best checkpoint, as the run's scores tell, and not the newest.
        disc: whether to add the discriminator, for its features.
        say: hears of damaged checkpoints that are passed over.

    Raises:
        UsageError: ``run`` is no run, or ``out`` holds other things than an export.
        MissingError: there is no run or no good checkpoint.
        GanzooError: something cannot be read or written.
    """
    source = open_source(run, best=best)
    if out is not None:
        out = at_home(Path(out))
        refuse_file(out)
    if source.kind != "run":
        raise UsageError(f"{source.path} is an export already.")
    out = _claimed(out if out is not None else source.path / "export")
    gen, stored = source.generator(ema=ema, say=say)
    config = _without_home(source.record["config"])
    record = _record(source.gen, source.spec, gen) | {
        "weights": "ema" if stored.averaged else "last",
        "steps": stored.step,
        "seed": _seed(config),
        "run": config,
        "trained_with": source.record.get("versions"),
    }
    critic = source.discriminator(say=say)[0] if disc else None
    if source.disc is not None and critic is not None:
        record["discriminator"] = _part(source.disc)
    results = results_of(source.path, record)
    return _write(out, dataclasses.replace(source, record=record), gen, critic, results)


def export_state_dict(
    weights: Path | str, out: Path | str, *, gen: str, options: Mapping[str, Any] | None = None, spec: Spec
) -> Path:
    """Export a generator that was trained elsewhere, from its plain state dict.

    >>> export_state_dict("dcgan.safetensors", "out", gen="dcgan", spec=Spec((3, 64, 64)))   # doctest: +SKIP

    Args:
        weights: a ``.safetensors`` file.
        out: the export's folder; an export in it is replaced.
        gen: our generator that has the same layers.
        options: its options.
        spec: shape of its samples, and how many classes it knows.

    Raises:
        UsageError: an unknown generator or option, a pickle, or ``out`` holds other things than an export.
        MissingError: there is no such file.
        GanzooError: the tensors do not fit, or something cannot be read or written.
    """
    weights, out = at_home(Path(weights)), at_home(Path(out))
    refuse_file(out)
    out = _claimed(out)
    choice = registry().choose("generator", gen, dict(options or {}))
    tensors = read_foreign(weights, outline(choice, spec, limit=len(layouts(weights))))
    with torch.random.fork_rng(devices=[]):
        network = build(choice, spec)
    network.load_state_dict(network.state_dict() | tensors)
    network.requires_grad_(False).eval()
    record = _record(choice, spec, network) | {
        "weights": "last",
        "imported_from": {"file": weights.name, "sha256": sha256(weights)},
    }
    return _write(out, Source(out, "export", spec, choice, None, record), network, None)


def _record(gen: Choice, spec: Spec, network: Generator) -> dict[str, Any]:
    return {
        "format": EXPORT_FORMAT,
        "generator": _part(gen),
        "spec": {"shape": list(spec.shape), "num_classes": spec.num_classes},
        "latent": {"dim": network.latent_dim, "prior": prior_of(network)},
        "range": [-1, 1] if spec.is_image else None,
        "versions": {"ganzoo": __version__, "torch": str(torch.__version__)},
    }


def _part(choice: Choice) -> dict[str, Any]:
    plugin = registry().get(choice.component.kind, choice.id).plugin
    options = {opt.name: jsonable(getattr(choice.config, opt.name)) for opt in options_of(type(choice.config))}
    return {
        "id": choice.id,
        "plugin": {"distribution": plugin.dist, "version": plugin.version},
        "options": _without_home(options),
    }


def _write(
    out: Path, source: Source, gen: Generator, disc: Discriminator | None, results: Sequence[Result] = ()
) -> Path:
    labels = labels_for(source, _SHOWN)
    shown = samples(gen, _SHOWN, source.record.get("seed") or 0, labels)
    networks = {MODEL: gen} if disc is None else {MODEL: gen, DISCRIMINATOR: disc}
    hashes = {name: content_hash(network.state_dict()) for name, network in networks.items()}
    text = json.dumps({**source.record, "sha256": hashes}, indent=2, ensure_ascii=False)
    with atomic_dir(out) as draft:
        write_text(draft / CONFIG, text + "\n")
        for name, network in networks.items():
            save_tensors(draft / name, network.state_dict(), {"format": "pt", "config": text})
        save_grid(shown, draft / PICTURE, columns=columns_for(source, _SHOWN, labels))
        private = [Result.from_dict(_without_home(result.to_dict())) for result in results]
        for result in private:
            append_result(draft, result)
        write_text(draft / CARD, card(source.record, conditional=source.conditional, results=private))
    return out


def _seed(config: Mapping[str, Any]) -> int | None:
    run = config.get("run")
    seed = run.get("seed") if isinstance(run, dict) else None
    return seed if type(seed) is int and 0 <= seed < 2**63 else None


def _claimed(out: Path) -> Path:
    """``out``, if writing an export there loses nothing but an export."""
    try:
        strangers = sorted({path.name for path in out.iterdir()} - _FILES) if out.exists() else []
    except OSError as err:
        raise UsageError(f"The export cannot go to {out}: {err.strerror or err}; choose another folder.") from None
    if strangers:
        raise UsageError(f"{out} holds other things than an export ({strangers[0]}); choose a new or empty folder.")
    return out


def _without_home(value: Any) -> Any:
    """JSON values with the user's home folder written as ``~``: exports are for others to read."""
    try:
        home = str(Path.home())
    except RuntimeError:  # a user without a home, as in containers
        return value
    if isinstance(value, dict):
        return {key: _without_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_home(item) for item in value]
    if isinstance(value, str) and (value == home or value.startswith((home + "/", home + "\\"))):
        return "~" + value[len(home) :]
    return value
