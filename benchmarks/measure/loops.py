"""Our loop beside others: a bare one, the tutorial way, and itself with other settings, trainers and losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tutorials.data import transform

from ganzoo.errors import GanzooError
from ganzoo.registry import list_components
from measure.apart import apart
from measure.contenders import OurLoop, bare_loop, tutorial_loop, tutorial_networks
from measure.context import Context
from measure.machine import lacking
from measure.timing import Result, Turn, Work, against
from measure.workloads import DCGAN_28, DCGAN_32, DCGAN_64, IMAGES, MLP_28, PLAIN, RING, SETTINGS, Workload

WORKERS = (0, 2)
BARE: Final[dict[str, Any]] = {**PLAIN, "run.ema_half_life": 0}


def overhead(context: Context) -> Iterator[Result]:
    """Our loop against the bare one."""
    for workload in (DCGAN_32, RING):
        settings = workload.of_run(context, PLAIN)
        yield from context.compare(
            workload.name, {"bare loop": bare_loop(context, settings), "ganzoo": OurLoop(context, settings)}
        )


def tutorial(context: Context) -> Iterator[Result]:
    """Our loop against the tutorial way: its networks alone, and end to end with its data.

    ``ganzoo`` is the whole loop in both; it never gets a batch for nothing. Without the moving average, which no script
    keeps, it does what they do. The tutorials have processes of their own, as their scripts have. A bare loop shows
    what can be had by hand: data at hand, a frozen critic and fused Adam around torch's own layers.
    """
    for workload in IMAGES:
        contenders: dict[str, Work | Turn] = {
            **{f"tutorial, {n} workers": apart(context, tutorial_loop, workload, n) for n in WORKERS},
            "tutorial, batch at hand": apart(context, tutorial_networks, workload),
            "bare loop": bare_loop(context, workload.of_run(context, BARE)),
            "ganzoo fp32": OurLoop(context, workload.of_run(context, {"run.precision": "fp32"})),
            "ganzoo": OurLoop(context, workload.of_run(context)),
            "ganzoo, no moving average": OurLoop(context, workload.of_run(context, {"run.ema_half_life": 0})),
        }
        if not lacking("bf16", context.device):
            bf16 = {"run.precision": "bf16"}
            contenders["bare loop bf16"] = bare_loop(context, workload.of_run(context, BARE | bf16))
            contenders["ganzoo bf16"] = OurLoop(context, workload.of_run(context, bf16))
        times = context.times(contenders)
        _, whose = transform(workload.size, 3)
        note = f"{workload.source().name}, {whose}"
        networks = {name: found for name, found in times.items() if "workers" not in name}
        for title, which in (("end to end", times), ("networks only", networks)):
            for row in against(f"{workload.name}, {title}", which):
                ours = contenders[row.contender]
                more = f"{row.contender}: {ours.note}" if isinstance(ours, OurLoop) and ours.note else ""
                row.note = "; ".join(filter(None, (note, more)))
                row.figures["images_per_s"] = 1e3 * workload.batch_size(context) / (row.milliseconds or 1)
                yield row
        context.close()


def precision(context: Context) -> Iterator[Result]:
    """Each precision and layout that this ganzoo and this machine have."""
    for workload in (DCGAN_64, DCGAN_28, MLP_28):
        contenders: dict[str, Work | Turn] = {}
        left_out: dict[str, str] = {}
        for name, settings in SETTINGS:
            why = lacking(str(settings["run.precision"]), context.device)
            if settings.get("run.compile") and context.small:
                why = why or "to compile takes too long for a small bench"
            if not why:
                try:
                    ours = OurLoop(context, workload.of_run(context, settings))
                    value, reason = ours.chosen("compile").get("compile", ("", ""))
                    if settings.get("run.compile") and value == "off":
                        why = reason
                    else:
                        contenders[name] = ours
                except (GanzooError, RuntimeError) as err:
                    why = " ".join(str(err).split())
            if why:
                left_out[name] = why
        if contenders:
            yield from context.compare(workload.name, contenders)
        for name, why in left_out.items():
            yield Result(workload.name, name, note=f"left out: {why}")


def zoo(context: Context) -> Iterator[Result]:
    """Each loss with each trainer, relative to ``ns`` with ``alternating``; one unit is a generator's step."""
    base = Workload("", "digits", 16, {"run.batch_size": 64, "gen.width": 32, "disc.width": 32})
    contenders: dict[str, Work | Turn] = {}
    left_out: dict[str, str] = {}
    pairs = [(trainer, loss) for trainer in list_components("trainer") for loss in list_components("loss")]
    pairs.sort(key=lambda pair: pair != ("alternating", "ns"))
    for trainer, loss in pairs:
        name = f"{loss}, {trainer}"
        config = context.resolve(base.of_run(context, {**PLAIN, "trainer": trainer, "loss": loss}))
        broken = config.plan(config.spec()).broken_rules()
        if broken:
            left_out[name] = broken[0]
        else:
            contenders[name] = OurLoop(context, base.of_run(context, {**PLAIN, "trainer": trainer, "loss": loss}))
    yield from context.compare("DCGAN 16x16, width 32, by loss and trainer", contenders)
    for name, why in left_out.items():
        yield Result("DCGAN 16x16, width 32, by loss and trainer", name, note=f"refused: {why}")
