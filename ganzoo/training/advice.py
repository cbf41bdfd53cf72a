"""What a warning usually means, and what to try: a command line that the rules allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ganzoo import options
from ganzoo.api import Spec
from ganzoo.config import SECTIONS, Layer, RunConfig, resolve
from ganzoo.errors import GanzooError, quoted
from ganzoo.local import local_words
from ganzoo.plugins import loaded

Change = Mapping[str, Any]
_HERE: Final = ("run.name", "run.out", "run.device")
"""Settings of this directory and machine, which a command need not repeat."""
_USUAL_RATE: Final = 2e-4


def _smaller_steps(config: RunConfig) -> list[Change]:
    return [
        {
            "gen_optim.lr": _rate(min(config.gen_optim.lr / 10, _USUAL_RATE)),
            "disc_optim.lr": _rate(min(config.disc_optim.lr / 10, _USUAL_RATE)),
        }
    ]


def _weaker_critic(config: RunConfig) -> list[Change]:
    fewer = {"trainer.critic_steps": 1} if getattr(config.trainer.config, "critic_steps", 1) > 1 else {}
    return [fewer, {"loss": "wgan-gp"}, {"disc.norm": "spectral"}, {"disc_optim.lr": _rate(config.disc_optim.lr / 4)}]


def _stronger_critic(config: RunConfig) -> list[Change]:
    if config.disc_optim.lr < config.gen_optim.lr / 10:
        return [{"disc_optim.lr": config.gen_optim.lr}]
    return [{"trainer.critic_steps": 5}, {"gen_optim.lr": _rate(config.gen_optim.lr / 4)}]


def _livelier_generator(config: RunConfig) -> list[Change]:
    return [{"loss": "ns"}, {"loss": "wgan-gp"}, {"gen_optim.lr": _rate(config.gen_optim.lr / 4)}]


def _awake_generator(config: RunConfig) -> list[Change]:
    if config.gen_optim.lr < _USUAL_RATE / 100:
        return [{"gen_optim.lr": _USUAL_RATE}]
    return [{"gen": "dcgan"}, {"gen": "mlp"}, {"gen_optim.lr": _rate(config.gen_optim.lr * 10)}]


def _more_modes(_: RunConfig) -> list[Change]:
    return [{"loss": "wgan-gp"}, {"trainer": "unrolled"}, {"loss": "rpgan", "reg": ("r1", "r2")}]


def _no_clip(config: RunConfig) -> list[Change]:
    return [{"loss": "wgan-gp"}, {"disc_optim.lr": _rate(config.disc_optim.lr / 4)}]


_ADVICE: Final[dict[str, tuple[str, Callable[[RunConfig], list[Change]]]]] = {
    "non-finite": ("the learning rate is too large, or a layer divides by zero", _smaller_steps),
    "explosion": ("each step is far larger than what it corrects: the learning rate is too large", _smaller_steps),
    "frozen-generator": (
        "its learning rate is next to nothing, or no gradient reaches its parameters",
        _awake_generator,
    ),
    "collapse": ("the generator has found few samples that pass, and draws them for every latent", _more_modes),
    "critic-wins": ("the critic learns faster than the generator, which gets no direction from it", _weaker_critic),
    "generator-wins": (
        "the critic learns too slowly to follow, so that the generator exploits its mistakes",
        _stronger_critic,
    ),
    "vanishing-gradient": (
        "the loss is flat where the fakes are, so that the generator stands still",
        _livelier_generator,
    ),
    "clip-saturation": ("the clip is so tight that the critic is hardly a function any more", _no_clip),
    "penalty-drift": ("the gradient penalty and the loss pull the critic apart", _smaller_steps),
}
KINDS: Final = tuple(_ADVICE)


def meaning(kind: str) -> str:
    """What a warning of this kind usually means, as half a sentence."""
    return _ADVICE[kind][0]


def to_try(kind: str, config: RunConfig, spec: Spec | None = None) -> str:
    """The first command against it that changes something and that no rule refuses.

    Args:
        kind: of what is wrong.
        config: of the run.
        spec: its task, if that is known: to look at the data again may take long.
    """
    for change in _ADVICE[kind][1](config):
        command = changed(config, change, spec)
        if command:
            return command
    return "ganzoo list --matrix"


def changed(config: RunConfig, change: Change, spec: Spec | None = None) -> str | None:
    """``ganzoo run ...`` for this configuration with a change; None if it is refused or changes nothing."""
    old = config.flat()
    before = {section: old[section] for section in SECTIONS}
    after = before | {path: value for path, value in change.items() if path in SECTIONS}
    try:
        usual, plain = _flat(before), _flat(after)
        own = {path: value for path, value in old.items() if usual.get(path) != value and path in plain}
        kept = {path: value for path, value in own.items() if _stays(path, before, after)}
        wanted = resolve([Layer("wanted", kept | after | dict(change))])
        flat = wanted.flat()
        if flat == old or wanted.plan(spec).broken_rules():
            return None
        said = {section: flat[section] for section in SECTIONS if _needs_saying(section, after)}
    except GanzooError:
        return None
    said |= {path: flat[path] for path in change}
    said |= {path: value for path, value in flat.items() if value != plain.get(path) and path not in _HERE}
    words = [_words(path, value) for path, value in said.items()]
    return " ".join(["ganzoo run", *words]) + local_words(loaded())


def _flat(parts: Change) -> dict[str, Any]:
    """Every setting of these components when nothing else is said."""
    return resolve([Layer("parts", parts)]).flat()


def _stays(path: str, before: Change, after: Change) -> bool:
    """Options stay if their component does."""
    section = path.partition(".")[0]
    return section not in SECTIONS or section == "reg" or before[section] == after[section]


def _needs_saying(section: str, parts: Change) -> bool:
    """Whether the component is not what defaults and recipes would choose."""
    others = {name: part for name, part in parts.items() if name != section}
    try:
        return bool(_flat(others)[section] != _flat(parts)[section])
    except GanzooError:
        return True


def _words(path: str, value: Any) -> str:
    """How a setting is written on the command line; one that is on or off is a switch there, and takes no value."""
    name = path.removeprefix("run.").replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {quoted(_text(value))}"


def _text(value: Any) -> str:
    if isinstance(value, str) and value.startswith("ganzoo/"):
        return value.removeprefix("ganzoo/")
    if isinstance(value, tuple):
        return ",".join(map(_text, value)) or "none"
    return options.show(value)


def _rate(value: float) -> float:
    return float(f"{value:.1g}")
