"""``ganzoo sample``: draw samples."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.cli import terminal
from ganzoo.cli.loading import hearing_signals, importing_torch
from ganzoo.cli.shared import best_option, json_option, plugin_option


@click.command("sample")
@click.argument("source", metavar="RUN_OR_EXPORT", type=click.Path(path_type=Path))
@click.option("-n", "count", type=click.IntRange(min=1), default=64, help="How many. [default: 64]")
@click.option(
    "--out",
    type=click.Path(),
    default="samples.png",
    help="A picture (.png) of all, or a folder (ends in /) for one file a sample. [default: samples.png]",
)
@click.option("--label", type=click.IntRange(min=0), default=None, help="Class to draw, for a conditional generator.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, help="Same seed, same samples. [default: 0]")
@click.option("--interpolate", is_flag=True, default=False, help="Walk from one latent to another along each row.")
@click.option("--ema/--raw", default=True, help="Averaged weights, or those of the last step. [default: --ema]")
@best_option
@click.option("--columns", type=click.IntRange(min=1), default=None, help="Columns of the grid.")
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps or xpu. [default: auto]")
@plugin_option
@json_option
def command(
    *,
    source: Path,
    count: int,
    out: str,
    label: int | None,
    seed: int,
    interpolate: bool,
    ema: bool,
    best: bool,
    columns: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Draw samples from a run or an export.

    \b
    ganzoo sample runs/digits-dcgan-ns-001
    ganzoo sample my-export -n 10000 --out samples/
    """
    with hearing_signals(), importing_torch():
        from ganzoo.outputs.sampling import sample_to

    files = sample_to(
        source,
        out,
        n=count,
        label=label,
        seed=seed,
        interpolate=interpolate,
        ema=ema,
        best=best,
        device=device,
        columns=columns,
        say=terminal.status,
    )
    if as_json:
        terminal.dump({"files": [str(file) for file in files]})
    elif len(files) == 1:
        terminal.say(str(files[0]))
    else:
        terminal.say(str(Path(out)))
        terminal.status(f"{len(files)} files.")
