"""The fully connected networks of the common script as components, for ganzoo's loop to train the very same ones."""

from __future__ import annotations

from collections.abc import Iterator

from ganzoo.api import MIXES_SAMPLES, Component, hookimpl

ADAM = {"name": "adam", "lr": 2e-4, "betas": (0.5, 0.999)}


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """Generator and discriminator ``script-mlp``."""
    yield Component(
        "generator",
        "script-mlp",
        target="tutorials.wrapped:ScriptGenerator",
        summary="The generator of the common script: 128, 256, 512, 1024.",
        traits=(MIXES_SAMPLES,),
        recipe={f"gen_optim.{key}": value for key, value in ADAM.items()},
    )
    yield Component(
        "discriminator",
        "script-mlp",
        target="tutorials.wrapped:ScriptDiscriminator",
        summary="The discriminator of the common script: 512, 256.",
        recipe={f"disc_optim.{key}": value for key, value in ADAM.items()},
    )
