"""Folders that networks can be read from: runs and exports. A ``config.json`` may come from a stranger.

It can name only components that are installed, its options are checked as a user's are, and no tensor is allocated
before names, types and shapes in the file were compared with a network built without memory.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from ganzoo import __version__
from ganzoo.api import CONDITIONAL, Choice, Kind, Spec
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.local import plain_id
from ganzoo.nn import Discriminator, Generator
from ganzoo.nn.contracts import prior_of
from ganzoo.nn.weights import content_hash, layouts, load_tensors, metadata_of
from ganzoo.plugins import HOME, loaded
from ganzoo.registry import build, registry

EXPORT_FORMAT: Final = "ganzoo-export/1"
CONFIG: Final = "config.json"
MODEL: Final = "model.safetensors"
DISCRIMINATOR: Final = "discriminator.safetensors"
_MAX_SAMPLE: Final = 2**26
_MAX_CLASSES: Final = 2**20
_ID: Final = re.compile(r"(?:([A-Za-z0-9][\w.-]*)/)?[a-z0-9][a-z0-9.-]*")
_DISTRIBUTION: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
_DRAWS: Final[set[Callable[..., Tensor]]] = {Tensor.normal_, nn.init.normal_}

Say = Callable[[str], None]


class Stored(NamedTuple):
    """Where the tensors of one network lie."""

    file: Path
    prefix: str = ""
    averaged: bool = False
    step: int | None = None


@dataclass(frozen=True)
class Source:
    """A run or an export, checked but not loaded.

    Attributes:
        path: the folder.
        kind: which of the two it is.
        spec: the task.
        gen: its generator.
        disc: its discriminator; None for an export without.
        record: what its ``config.json`` says.
        best: whether a run's best checkpoint is meant, and not its newest.
    """

    path: Path
    kind: Literal["run", "export"]
    spec: Spec
    gen: Choice
    disc: Choice | None
    record: Mapping[str, Any]
    best: bool = False

    @property
    def conditional(self) -> bool:
        """Whether the generator uses labels."""
        return CONDITIONAL in self.gen.component.traits_of(self.gen.config, self.spec)

    def generator(self, *, ema: bool = True, say: Say = lambda _: None) -> tuple[Generator, Stored]:
        """The generator on the CPU, frozen and in evaluation mode, and where it came from.

        Args:
            ema: the moving average of its weights, where the run kept one; else those last trained.
            say: hears of damaged checkpoints that are passed over.

        Raises:
            MissingError: no weights are there.
            GanzooError: the weights do not fit the configuration, or are damaged.
        """
        stored = self._generator_weights(ema=ema, say=say)
        gen = restore(self.gen, self.spec, stored)
        if not isinstance(gen, Generator):
            raise GanzooError(f"{self.gen.id} is no Generator; this is for the plugin's author to mend.")
        latent = self.record.get("latent")
        if latent is not None and latent != {"dim": gen.latent_dim, "prior": prior_of(gen)}:
            raise GanzooError(
                f"{self.path / CONFIG} describes latents ({latent!r:.80}) that its generator {self.gen.id} does not "
                f"take ({gen.latent_dim} numbers, {gen.prior}); the file was altered, or the plugin has changed."
            )
        self._verify(stored.file, gen)
        return gen, stored

    def discriminator(self, *, say: Say = lambda _: None) -> tuple[Discriminator, Stored]:
        """The discriminator on the CPU, frozen and in evaluation mode, and where it came from.

        Raises:
            MissingError: an export holds none, or no weights are there.
            GanzooError: the weights do not fit the configuration, or are damaged.
        """
        if self.disc is None:
            raise MissingError(f"The export {self.path} holds no discriminator; export its run with --with-disc.")
        file, step = self._checkpoint(say) if self.kind == "run" else (self.path / DISCRIMINATOR, None)
        stored = Stored(file, "disc." if self.kind == "run" else "", step=step)
        disc = restore(self.disc, self.spec, stored)
        if not isinstance(disc, Discriminator):
            raise GanzooError(f"{self.disc.id} is no Discriminator; this is for the plugin's author to mend.")
        self._verify(stored.file, disc)
        return disc, stored

    def _verify(self, file: Path, network: nn.Module) -> None:
        """See that an export is as it was written: the weights by their checksum, the rest by the copy beside them.

        Exports of earlier versions, and files of others, have no checksum. This finds accidents, not forgeries.
        """
        if self.kind == "run":
            return  # its checkpoints have a manifest
        copy = metadata_of(file).get("config")
        if copy is None and "sha256" not in self.record:
            return
        try:
            same = copy is not None and json.loads(copy) == self.record
            known = self.record.get("sha256", {}).get(file.name, "")
        except (ValueError, RecursionError, AttributeError):
            same, known = False, ""
        if not same:
            raise GanzooError(
                f"{self.path / CONFIG} is not what was written with {file.name}: one of the two was altered or "
                "damaged; get the export anew."
            )
        if known and content_hash(network.state_dict()) != known:
            raise GanzooError(f"{file} is damaged: its checksum is not the one in {CONFIG}; get the export anew.")

    def _generator_weights(self, *, ema: bool, say: Say) -> Stored:
        if self.kind == "run":
            file, step = self._checkpoint(say)
            averaged = ema and any(name.startswith("ema.") for name in layouts(file))
            return Stored(file, "ema." if averaged else "gen.", averaged, step)
        averaged = self.record.get("weights") == "ema"
        if averaged and not ema:
            raise UsageError(f"The export {self.path} holds only the averaged weights; sample the run instead.")
        return Stored(self.path / MODEL, averaged=averaged)

    def _checkpoint(self, say: Say) -> tuple[Path, int]:
        from ganzoo.training.checkpoint import best_good, newest_good

        folder = best_good(self.path) if self.best else newest_good(self.path, say)
        return folder / MODEL, int(folder.name.rpartition("-")[2])


def open_source(path: Path | str, *, best: bool = False) -> Source:
    """The run or export in a folder.

    Args:
        path: the folder.
        best: whether to read a run's best checkpoint, and not its newest.

    Raises:
        MissingError: there is none, or a plugin that it needs is not installed.
        UsageError: ``path`` is a file, or no path; or the best checkpoint of an export is asked for.
        GanzooError: its ``config.json`` is damaged, not one of ours, or asks for what cannot be.
    """
    from ganzoo.training.run import FORMAT as RUN_FORMAT
    from ganzoo.training.run import folder_of, read_record

    path = folder_of(path)
    file = path / CONFIG
    record = read_record(path, "run and no export")
    kind: Literal["run", "export"]
    if record.get("format") == RUN_FORMAT:
        kind, config = "run", _table(record, "config", file)
        tables: dict[str, Any] = {side: config.get(side) for side in ("gen", "disc")}
        parts = {side: _split(table, record.get("versions")) for side, table in tables.items()}
    elif record.get("format") == EXPORT_FORMAT:
        kind = "export"
        parts = {"gen": record.get("generator"), "disc": record.get("discriminator")}
    else:
        raise GanzooError(
            f"{file} has the format {record.get('format')!r:.80}; this ganzoo reads {RUN_FORMAT!r} and "
            f"{EXPORT_FORMAT!r}."
        )
    if best and kind == "export":
        raise UsageError(f"{path} is an export, which holds one state alone; leave --best out.")
    spec = _spec(_table(record, "spec", file), file)
    disc = _choice("discriminator", parts["disc"], file) if parts["disc"] is not None else None
    return Source(path, kind, spec, _choice("generator", parts["gen"], file), disc, record, best)


def restore(choice: Choice, spec: Spec, stored: Stored) -> nn.Module:
    """The network of a choice with the tensors stored for it, frozen, in evaluation mode, on the CPU.

    Raises:
        GanzooError: the tensors are damaged or do not fit, or the options make no network.
    """
    sizes = [math.prod(part.shape) for name, part in layouts(stored.file).items() if name.startswith(stored.prefix)]
    expected = outline(choice, spec, limit=len(sizes))
    tensors = load_tensors(stored.file, expected, prefix=stored.prefix)
    with torch.random.fork_rng(devices=[]):  # initial weights are overwritten; nobody's random numbers move on
        network: nn.Module = build(choice, spec)
    network.load_state_dict(tensors)
    return network.requires_grad_(False).eval()


def outline(choice: Choice, spec: Spec, *, limit: int) -> dict[str, Tensor]:
    """The state dict of a network without its memory: tensors on the ``meta`` device.

    Args:
        choice: the network.
        spec: the task.
        limit: how many tensors a file has for it; building stops when the network turns out to need far more.

    Raises:
        GanzooError: the options make no network, or an absurdly large one.
    """
    for device in ("meta", "cpu"):  # the latter for networks that ask what numbers they have, and cannot on the former
        try:
            with torch.random.fork_rng(devices=[]), _few_parameters(2 * limit + 64), torch.device(device), _Undrawn():
                network: nn.Module = build(choice, spec)
                return dict(network.state_dict())
        except GanzooError:
            raise
        except Exception as err:
            failure = err
    reason = " ".join(str(failure).split())[:200] or type(failure).__name__
    raise GanzooError(f"{choice.component.kind} {choice.id} cannot be built for {spec}: {reason}.") from failure


class _Undrawn(TorchFunctionMode):
    """Weights on the ``meta`` device are not drawn: there is nothing to fill, and torch would load its compiler to try.

    Shapes do not depend on it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS and (drawn := args[0] if args else kwargs["tensor"]).is_meta:
            return drawn
        return func(*args, **kwargs)


@contextmanager
def _few_parameters(limit: int) -> Iterator[None]:
    """Stop a network that registers more parameters than ``limit``; options alone can ask for billions of layers."""
    count = 0

    def stop(*_: object) -> None:
        nonlocal count
        count += 1
        if count > limit:
            raise GanzooError(
                "The configuration asks for a network of far more layers than the weights have; the two do not belong "
                "together."
            )

    handle = register_module_parameter_registration_hook(stop)
    try:
        yield
    finally:
        handle.remove()


def _table(record: Mapping[str, Any], key: str, file: Path) -> dict[str, Any]:
    table = record.get(key)
    if not isinstance(table, dict):
        raise GanzooError(f"{file} is no configuration of ours: {key!r} must be a JSON object.")
    return table


def _split(table: Any, versions: Any) -> Any:
    """A component as a run's configuration has it, in the form that an export has."""
    if not isinstance(table, dict):
        return table
    parts = {"id": table.get("name"), "options": {key: value for key, value in table.items() if key != "name"}}
    namespace = str(table.get("name")).rpartition("/")[0]
    for dist, version in versions.items() if isinstance(versions, dict) else ():
        if dist.removeprefix("ganzoo-") == namespace:
            local = str(version).startswith(("sha256:", "unknown"))  # of its source, in place of a version
            parts["plugin"] = {"distribution": dist, "version": "" if local else version}
    return parts


def _spec(table: Mapping[str, Any], file: Path) -> Spec:
    shape, classes = table.get("shape"), table.get("num_classes")
    numbers = [*shape, *([] if classes is None else [classes])] if isinstance(shape, list) else [None]
    if any(type(number) is not int for number in numbers):
        raise GanzooError(f"{file} does not say in whole numbers which shape a sample has, and how many classes.")
    assert isinstance(shape, list)
    try:
        spec = Spec(tuple(shape), classes)
    except UsageError as err:
        raise GanzooError(f"{file} asks for what cannot be: {err}") from None
    if spec.numel > _MAX_SAMPLE or (classes or 0) > _MAX_CLASSES:
        raise GanzooError(f"{file} asks for absurdly large samples or many classes ({spec!s:.80}).")
    return spec


def _choice(kind: Kind, table: Any, file: Path) -> Choice:
    name, values = (table.get("id"), table.get("options", {})) if isinstance(table, dict) else (None, None)
    if not isinstance(name, str) or not _ID.fullmatch(name) or not isinstance(values, dict):
        raise GanzooError(
            f"{file} does not say which {kind} it is for and with which options; such a file can name installed "
            f"components only, not {name!r:.80}."
        )
    try:
        registry().get(kind, name)
    except UsageError as err:
        raise _not_installed(kind, name, table, file, err) from None
    try:
        return registry().choose(kind, name, values)
    except UsageError as err:
        raise GanzooError(f"{file} does not fit what is installed: {err}") from None


def _not_installed(kind: Kind, name: str, table: Mapping[str, Any], file: Path, err: UsageError) -> GanzooError:
    namespace, _, _ = name.rpartition("/")
    if not namespace:
        return MissingError(f"{file}: {err}")
    if namespace == HOME:
        return MissingError(f"{file} needs the {kind} {name!r}, which ganzoo {__version__} does not have; upgrade it.")
    off = next((found for found in loaded() if plain_id(f"{found.dist}/") == plain_id(f"{namespace}/")), None)
    if off is not None and off.status != "active":
        return MissingError(
            f"{file} needs the {kind} {name!r} of the plugin {off.name!r}, which is {off.status}; see 'ganzoo plugins'."
        )
    plugin = table.get("plugin")
    told = plugin if isinstance(plugin, dict) else {"distribution": f"ganzoo-{namespace}"}
    named = told.get("distribution")
    known = isinstance(named, str) and _DISTRIBUTION.fullmatch(named) and named.removeprefix("ganzoo-") == namespace
    # What was a file has no version, and its name on an index of packages may be somebody else's.
    remedy = "add -p FILE with the file that it is in"
    if known and told.get("version") != "":
        remedy = (
            f"if you trust its author, install it with 'pip install {named}', or add -p FILE if it is a file of yours"
        )
    return MissingError(
        f"{file} needs the {kind} {name!r} of the plugin {named if known else namespace!r}, which is not installed; "
        f"{remedy}."
    )
