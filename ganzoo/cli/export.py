"""``ganzoo export``: write a folder that anyone can sample from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ganzoo.api import Spec
from ganzoo.cli import terminal
from ganzoo.cli.choosing import choosing_command, choosing_of
from ganzoo.cli.loading import hearing_signals, importing_torch
from ganzoo.cli.shared import best_option, json_option
from ganzoo.data.files import at_home
from ganzoo.errors import MissingError, UsageError
from ganzoo.options import options_of


class Shape(click.ParamType):  # type: ignore[type-arg]  # generic in new click only
    """``3,64,64`` or ``3x64x64``."""

    name = "C,H,W"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            return Spec(tuple(int(side) for side in str(value).replace("x", ",").split(","))).shape
        except (ValueError, UsageError):
            self.fail(f"must be the shape of one sample such as 3,64,64, not {value!r}.", param, ctx)


@choosing_command("export", components=("gen",), settings=("gen",))
@click.argument("source", metavar="RUN_OR_WEIGHTS", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="New folder. [default: the folder export of the run]"
)
@click.option("--ema/--raw", default=True, help="Averaged weights, or those of the last step. [default: --ema]")
@best_option
@click.option("--with-disc", is_flag=True, default=False, help="Add the discriminator, whose features others may use.")
@click.option("--shape", type=Shape(), default=None, help="For a weights file: the shape of one sample.")
@click.option(
    "--classes", type=click.IntRange(min=1), default=None, help="For a weights file: how many classes it was made for."
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    source: Path,
    out: Path | None,
    ema: bool,
    best: bool,
    with_disc: bool,
    shape: tuple[int, ...] | None,
    classes: int | None,
    as_json: bool,
) -> None:
    """Write a folder that anyone can sample from.

    It holds the generator's weights, its configuration and a model card.

    \b
    ganzoo export runs/digits-dcgan-ns-001
    ganzoo export weights.safetensors --gen dcgan --gen.width 64 --shape 3,64,64 --out my-export
    """
    given = choosing_of(ctx).given
    source = at_home(source)
    if not source.exists():
        raise MissingError(f"There is no run and no file of weights {source}.")
    if source.is_dir():
        refused = ["--gen"] * bool(given) + ["--shape"] * (shape is not None) + ["--classes"] * (classes is not None)
        if refused:
            raise click.UsageError(f"A run says itself what it holds; leave out {', '.join(refused)}.", ctx)
        with hearing_signals(), importing_torch():
            from ganzoo.outputs.export import export_run

        folder = export_run(source, out, ema=ema, best=best, disc=with_disc, say=terminal.status)
    else:
        if out is None or shape is None or "gen" not in given:
            raise click.UsageError("A weights file does not say what it holds: add --gen, --shape and --out.", ctx)
        with hearing_signals(), importing_torch():
            from ganzoo.outputs.export import export_state_dict

        chosen = choosing_of(ctx).resolve().gen
        named = [option.name for option in options_of(chosen.component.config) if f"gen.{option.name}" in given]
        values = {name: getattr(chosen.config, name) for name in named}
        folder = export_state_dict(source, out, gen=chosen.id, options=values, spec=Spec(shape, classes))
    if as_json:
        terminal.dump({"export": str(folder)})
    else:
        terminal.say(str(folder))
