"""The one way into a run, for the command line and for Python."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ganzoo import processes
from ganzoo.api import Spec
from ganzoo.config import Layer, RunConfig, changed, flatten, read_file, resolve
from ganzoo.data.files import ANY_CHANNELS, ANY_SIZE, at_home
from ganzoo.decisions import Decision, of_machine
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.training.ending import go_on
from ganzoo.training.lock import RunLock, is_locked
from ganzoo.training.places import located, with_data
from ganzoo.training.run import Run, folder_of, is_draft, read_config
from ganzoo.training.signals import StopSignals

if TYPE_CHECKING:
    import torch

    from ganzoo.training.alone import Alone
    from ganzoo.training.loop import Session

_log = logging.getLogger("ganzoo")
_RECENT: Final = 20


def train(
    config: RunConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    resume: str | Path | None = None,
    observers: Sequence[object] = (),
    **settings: Any,
) -> Run:
    """Train, and return the run.

    >>> ganzoo.train(gen="dcgan", loss="wgan-gp", steps=500)                    # doctest: +SKIP
    >>> ganzoo.train({"gen": "dcgan", "gen.width": 32, "run.steps": 500})       # doctest: +SKIP
    >>> ganzoo.train({"reg": ["r1", "r2"], "reg.r1.gamma": 0.1, "name": "r"})   # doctest: +SKIP

    Args:
        config: a resolved configuration, a mapping from path to value, or a TOML or JSON file. ``reg`` is a name, a
            list of names, or a mapping from name to options; ``"none"`` or None is none. ``name`` is the run's.
            ``data`` is the name of a data set, or the path of your own images.
        resume: a run's directory to continue, or ``"auto"`` for the newest run of this configuration.
        observers: objects with lifecycle hooks.
        settings: more paths and values, over ``config``; those with a dot go into a mapping.

    Raises:
        GanzooError: see :mod:`ganzoo.errors` for what can go wrong, each in one sentence.
    """
    layers = []
    if isinstance(config, RunConfig):
        layers.append(Layer("config", flatten(config.to_dict(), "config")))
    elif isinstance(config, (str, Path)):
        layers.append(with_data(read_file(Path(config))))
    elif config is not None:
        layers.append(with_data(Layer("config", config)))
    layers.append(with_data(Layer("arguments", settings)))
    if resume is None:
        return start(resolve(layers), observers=observers)
    resolved, path = resume_config(str(resume), layers)
    return start(resolved, resume=path, observers=observers)


def start(
    config: RunConfig,
    *,
    resume: Path | None = None,
    observers: Sequence[object] = (),
    allow_incompatible: bool = False,
    say: Callable[[str], None] = _log.info,
    stop: StopSignals | None = None,
) -> Run:
    """Check the rules, make or open the run, and train it to its last step.

    Args:
        config: what to run.
        resume: the run's directory to continue from its newest good checkpoint.
        observers: objects with lifecycle hooks.
        allow_incompatible: whether broken rules are recorded instead of refused.
        say: hears one sentence at a time of what the user should know.
        stop: hears signals; entered already, it hears them from then on.

    Raises:
        UsageError: a rule refuses the configuration, or it holds what is no Unicode.
        MissingError: a device, a data set or a checkpoint is not there.
        DivergedError: a loss was not finite.
        Interrupted: a signal came; everything is saved.
    """
    with stop or StopSignals() as signals:
        config = located(config)
        spec = config.spec() if resume is None else _spec_as_begun(config, resume, say)
        broken = config.plan(spec).broken_rules()
        allowed = read_config(resume).get("incompatible") if resume is not None else None
        allow_incompatible = allow_incompatible or bool(allowed)  # who began the run has allowed it
        if broken and not allow_incompatible:
            raise UsageError(" ".join(broken))
        if config.run.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

        from ganzoo.training.alone import join
        from ganzoo.training.device import meant, resolve_device
        from ganzoo.training.fast import machine_of, slow_precision, switches

        settings = config.run
        processes.share(settings.batch_size, processes.place().world)
        choice = resolve_device(settings.device)
        together, device = join(choice.device, settings.peer_timeout)
        if together.rank:
            say = _say_nothing
        say(f"Device: {choice.device} ({choice.reason}).")
        for warning in filter(None, (choice.warning, slow_precision(settings, device))):
            say(f"Warning: {warning}")
        for sentence in broken:
            say(f"Warning: {sentence} Going on, because incompatible parts were allowed.")
        if together.world > 1:
            say(f"Processes: {together.world}, each with {settings.batch_size // together.world} samples of a batch.")
        notes = {"device": str(device), "incompatible": broken, **together.notes(settings.batch_size)}
        decided = of_machine(machine_of(device, choice.reason))
        with (
            together,
            _opened(config, spec, resume, notes, together=together, say=say) as (run, resumed),
            meant(device),
            switches(settings, device),
        ):
            together.go_on = go_on(run.path)
            try:
                session = _ready(
                    run,
                    device,
                    notes,
                    decided,
                    resumed=resumed,
                    say=say,
                    extra_observers=observers,
                    check_rules=not allow_incompatible,
                    stop=signals,
                    together=together,
                )
                signals.defer()
            except BaseException as err:
                if not resumed:
                    _remove(run, together, err)  # nothing has happened in it
                raise
            if session is not None:
                try:
                    session.train()
                except BaseException as err:
                    if not resumed and not session.step:
                        _remove(run, together, err)  # not even the first grid could be drawn
                    raise
    return run


def _remove(run: Run, together: Alone, error: BaseException) -> None:
    """Let nothing stay of a new run that has not begun; the first process alone may look into its folder.

    One that lost another process stays, because it is told how to go on with it.
    """
    from ganzoo.training.alone import LostError

    if together.rank or isinstance(error, LostError) or run.lines() or any(run.checkpoints.glob("*")):
        return
    shutil.rmtree(run.path, ignore_errors=True)


def _spec_as_begun(config: RunConfig, run: Path, say: Callable[[str], None]) -> Spec:
    """The spec with which a run began, to which its data are brought where the options leave that open.

    Raises:
        MissingError: the data are not where they were.
        UsageError: they are others now, and cannot be brought to it.
    """
    saved = read_config(run)["spec"]
    path = getattr(config.data.config, "path", None)
    if isinstance(path, Path) and not at_home(path).exists():
        raise MissingError(f"The data of the run {run} are not at {path}: if they have moved, name them with --data.")
    now = config.spec()
    before = Spec(tuple(saved["shape"]), saved["num_classes"])
    if now == before:
        return before
    traits = config.data.component.traits_of(config.data.config, before)
    channels, *sides = before.shape
    fits = len(before.shape) == len(now.shape) == 3 and (
        (channels == now.shape[0] or ANY_CHANNELS in traits) and (sides == [*now.shape[1:]] or ANY_SIZE in traits)
    )
    if not fits or now.num_classes != before.num_classes:
        was, is_now = (f"{spec}" + ", no classes" * (not spec.num_classes) for spec in (before, now))
        raise UsageError(
            f"The data are {is_now} now, and were {was} when the run {run} began: bring them back to that, name other "
            "data with --data, or begin a new run."
        )
    if processes.place().rank == 0:
        would, are = ("x".join(map(str, spec.shape)) for spec in (now, before))
        say(f"Warning: The images would be brought to {would} now, and are brought to {are}, with which {run} began.")
    return before


def _ready(
    run: Run, device: torch.device, notes: dict[str, Any], decided: Sequence[Decision], *, resumed: bool, **how: Any
) -> Session | None:
    """The session of a run, ready to train; None if there is nothing left to do.

    Args:
        run: new, or to be resumed.
        device: what to compute on.
        notes: what ``config.json`` says of the machine.
        decided: what was chosen before the session was built; it adds its own.
        resumed: whether the run goes on from a checkpoint.
        how: see :class:`~ganzoo.training.loop.Session`.
    """
    from ganzoo.training.keeping import check_room
    from ganzoo.training.loop import Session

    session = Session(run, device, **how)
    if resumed:
        session.restore()
        if session.step and session.step >= run.config.run.steps:
            session.say(f"{run.path} has taken {session.step} steps already; to train on, ask for more with --steps.")
            return None
    session.together.from_first(lambda: check_room(run, session.snapshot()))
    run.write_config({**notes, "decisions": [each.to_dict() for each in (*decided, *session.decisions)]})
    if resumed:
        session.say(f"Continuing {run.path} after step {session.step}.")
    return session


@contextmanager
def _opened(
    config: RunConfig,
    spec: Spec,
    resume: Path | None,
    notes: dict[str, Any],
    *,
    together: Alone,
    say: Callable[[str], None],
) -> Iterator[tuple[Run, bool]]:
    """The run to write to, locked by the first process while entered, and whether it goes on.

    Both are as the first process has it: another one may look for it in a folder of its own.
    """
    ours: list[Run] = []

    def open_first() -> str:
        if resume is None:
            run = Run.create(config, spec, notes)
        else:
            run = Run(resume, config, spec)
            run.lock = RunLock.take(resume, say)
            run.lock.keep_alive()
        ours.append(run)
        return json.dumps([str(run.path), resume is not None])

    try:
        path, resumed = json.loads(together.from_first(open_first))
        yield (ours[0] if ours else together.run_for(Run(Path(path), config, spec))), resumed
    finally:
        for run in ours:
            if run.lock is not None:
                run.lock.release()


def _say_nothing(_: str) -> None:
    pass


def resume_config(resume: str, layers: Sequence[Layer], out: Path | None = None) -> tuple[RunConfig, Path | None]:
    """The configuration with which to continue, and the directory of the run.

    Args:
        resume: a run's directory, or ``auto`` for the newest run of the same configuration.
        layers: what the user asks for now.
        out: folder in which ``auto`` looks; the configured one unless given.

    Raises:
        UsageError: there is no such run, or a setting differs that may not change; the sentence names it.
    """
    if resume == "auto":
        config = resolve(layers)
        for path in _runs_newest_first(out or config.run.out):
            if config.run.name in (None, path.name) and _same(path, config):
                return config, path
        return config, None
    path = folder_of(resume)
    saved = Layer(f"run {path.name}", flatten(read_config(path)["config"], path.name))
    old = resolve([saved])
    # Another component has other options: those of the saved one are passed over, and the change itself is named.
    new = resolve([dataclasses.replace(saved, optional=True), *layers])
    if new.run.name not in (None, old.run.name, path.name):
        raise UsageError(f"The run {path} keeps its name when it is continued; leave --name {new.run.name} out.")
    # The data may have moved; whether they are the same is found out when they are read.
    differing = [key for key in changed(old, new) if key != "data.path"]
    if differing:
        before, after = old.flat(), new.flat()
        from ganzoo.options import show

        words = ", ".join(
            f"{key.removeprefix('run.')} from {show(before.get(key))} to {show(after.get(key))}" for key in differing
        )
        raise UsageError(f"The run {path} cannot be continued with other settings ({words}); start a new run for them.")
    return new, path


def unfinished(config: RunConfig) -> tuple[Path, int] | None:
    """The newest run of this configuration that stopped before its last step, and after which; None if there is none.

    Only the newest few runs are looked at, and no tensor is read.
    """
    from ganzoo.training import checkpoint

    for path in _runs_newest_first(config.run.out)[:_RECENT]:
        steps = [checkpoint.step_of(each) for each in checkpoint.list_all(path / "checkpoints")]
        named = config.run.name in (None, path.name)
        if named and steps and steps[0] < config.run.steps and not is_locked(path) and _same(path, config):
            return path, steps[0]
    return None


def _runs_newest_first(out: Path) -> list[Path]:
    configs = [path for path in out.glob("*/config.json") if path.is_file() and not is_draft(path.parent)]
    return [path.parent for path in sorted(configs, key=lambda path: path.stat().st_mtime, reverse=True)]


def _same(path: Path, config: RunConfig) -> bool:
    try:
        return not changed(located(Run.open(path).config), located(config))
    except GanzooError:
        return False
