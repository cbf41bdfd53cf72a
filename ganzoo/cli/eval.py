"""``ganzoo eval``: scores, with the protocol that they were measured by."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ganzoo import processes
from ganzoo.cli import many, terminal
from ganzoo.cli.loading import importing_torch
from ganzoo.cli.shared import ComponentName, best_option, json_option, plugin_option, tend_cache
from ganzoo.cli.typed import option_for, write_sections
from ganzoo.errors import GanzooError, UsageError
from ganzoo.evaluation.result import names_in
from ganzoo.options import options_of

if TYPE_CHECKING:
    from ganzoo.evaluation.result import Result

_DIGITS: Final = 5


class EvalCommand(click.Command):
    """Has the options of the extractor that its command line chooses, as ``--features.weights``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = {"extractor": None, "options": {}, "arguments": list(args)}
        passing = {"ignore_unknown_options": True, "allow_extra_args": True}
        params: list[click.Parameter] = [
            click.Option(["--features"]),
            click.Option(["-p", "--plugin", "plugin"], multiple=True),
        ]
        first = click.Command(self.name, params=params, context_settings=passing, add_help_option=False)
        found = first.make_context(self.name, list(args), resilient_parsing=True).params
        try:
            from ganzoo.plugins import add_local
            from ganzoo.registry import registry

            add_local(found.get("plugin") or ())
            if found.get("features"):
                ctx.obj["extractor"] = registry().get("extractor", found["features"]).component
        except GanzooError:
            if not ctx.resilient_parsing:
                raise
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        chosen = ctx.obj or {"extractor": None}
        params = super().get_params(ctx)
        if chosen["extractor"] is None:
            return params
        title = f"Extractor {chosen['extractor'].name}"
        mine: list[click.Parameter] = [
            option_for(f"features.{option.name}", option, title, chosen["options"].__setitem__)
            for option in options_of(chosen["extractor"].config)
        ]
        return [*params[:-1], *mine, params[-1]]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_sections(self.get_params(ctx), ctx, formatter)


@click.command("eval", cls=EvalCommand)
@click.argument("subject", metavar="RUN_OR_EXPORT_OR_IMAGES", type=click.Path(path_type=Path), required=False)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="fid, kid, isc, prc, classes, accuracy or modes; several with commas. "
    "[default: what suits the data, without prc]",
)
@click.option(
    "--features",
    type=ComponentName("extractor"),
    metavar="NAME",
    help="Feature network; see 'ganzoo list extractor'. [default: what suits the data]",
)
@click.option(
    "--samples", metavar="N", type=click.IntRange(min=2), help="How many samples. [default: by the metric's protocol]"
)
@click.option("--against", metavar="DATASET[:SPLIT]", help="Real data, or a path. [default: what it was trained on]")
@click.option("--real-samples", metavar="N", type=click.IntRange(min=2), help="How many real samples. [default: all]")
@click.option("--ref-stats", type=click.Path(path_type=Path), help="Mean and covariance of real features, an .npz.")
@click.option("--save-stats", type=click.Path(path_type=Path), help="Write those of the real data used.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights of the feature network.")
@click.option("--fid-infinity", is_flag=True, default=False, help="Extrapolate FID to infinitely many samples.")
@click.option("--seed", metavar="N", type=click.IntRange(0, 2**63 - 1), default=0, help="Of the latents. [default: 0]")
@click.option("--ema/--raw", default=True, help="Averaged weights, or those of the last step. [default: --ema]")
@best_option
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder in which to look for data sets first.")
@click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps or xpu. [default: auto]")
@click.option(
    "--devices",
    metavar="N|auto",
    help="Divide the samples between so many processes on this machine; auto: as many as GPUs.",
)
@click.option("--picture", type=click.Path(path_type=Path), help="Draw samples of points over the critic's field.")
@click.option(
    "--cache",
    type=click.Choice(["list", "clear"]),
    help="List the features that are kept for next time, or remove them.",
)
@click.option("--update", is_flag=True, default=False, help="Keep the result in the run or export, and in its card.")
@plugin_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    subject: Path | None,
    cache: str | None,
    devices: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Score a run, an export, or images from anything else.

    \b
    ganzoo eval runs/digits-dcgan-ns-001
    ganzoo eval runs/mnist-dcgan-ns-001 --against mnist:test --metric fid --metric prc
    ganzoo eval ./images --against cifar10 --weights pt_inception-2015-12-05-6726825d.pth

    A score is comparable with another only by the same protocol, which is printed with it.
    """
    if cache is not None:
        from ganzoo.evaluation.cache import FeatureCache

        tend_cache(FeatureCache(), cache, "key", "key", lambda entry: entry.key, as_json=as_json)
        return
    if subject is None:
        raise UsageError("Say what to score: a run, an export, or a folder, a zip or an npz of images.")

    several = many.to_start(devices, lambda: str(asked["device"]))
    if several > 1:
        from ganzoo.training.launch import launch

        ctx.exit(launch(several, ["eval", *ctx.obj["arguments"]], str(asked["device"])))
    result, unkept = many.as_one(lambda: _evaluated(subject, ctx.obj["options"], asked))
    if processes.place().rank:
        return  # process 0 speaks for all
    if as_json:
        terminal.dump(result.to_dict())
    else:
        _print(result)
    if unkept is not None:
        raise unkept


def _evaluated(subject: Path, options: dict[str, Any], asked: dict[str, Any]) -> tuple[Result, GanzooError | None]:
    """The result, and the error if all is computed and not all could be written."""
    from ganzoo.training.signals import StopSignals

    place = processes.place()
    with StopSignals("stopped before anything was computed"):  # before torch is imported, which takes seconds
        with importing_torch():
            from ganzoo.cli.progress import progress_for
            from ganzoo.evaluation.evaluate import UnkeptError, evaluate
            from ganzoo.evaluation.progress import silent
            from ganzoo.evaluation.shards import STOPPED

        with (
            StopSignals(STOPPED) if place.world == 1 else nullcontext(),  # several agree on when they leave
            nullcontext(silent) if place.rank else progress_for(terminal.console(stderr=True)) as progress,
        ):
            try:
                result = evaluate(
                    subject,
                    metrics=names_in(asked.pop("metrics")) or None,
                    feature_options=options or None,
                    say=terminal.status,
                    progress=progress,
                    **asked,
                )
            except UnkeptError as err:
                return err.result, err
            return result, None


def _print(result: Result) -> None:
    rows = [
        (
            score.label,
            f"{score.value:.{_DIGITS}g}" + (f" \N{PLUS-MINUS SIGN} {score.std:.2g}" if score.std is not None else ""),
            {"lower": "lower is better", "higher": "higher is better", None: ""}[score.better],
            score.note,
        )
        for score in result.scores
    ]
    terminal.table(("score", "value", "", "note"), rows, wrap=("note",))
    words = [f"{name} {value}" for name, value in result.protocol.items() if value is not None]
    terminal.say()
    terminal.say("Protocol  " + ", ".join(words))
