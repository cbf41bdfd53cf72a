"""The one way to a score, for the command line and for Python."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ganzoo import __version__
from ganzoo.api import Spec
from ganzoo.data.files import at_home
from ganzoo.errors import GanzooError, Interrupted, UsageError
from ganzoo.evaluation.cache import FeatureCache
from ganzoo.evaluation.features import FeatureSet
from ganzoo.evaluation.judge import Judge, refuse_without_reference
from ganzoo.evaluation.metrics import INCEPTION, Metric
from ganzoo.evaluation.progress import Stage, silent
from ganzoo.evaluation.reference import Reference, customary, open_reference
from ganzoo.evaluation.request import check_classes, check_kind, looks_at_real, numbers_of
from ganzoo.evaluation.result import Result, names_in
from ganzoo.evaluation.shards import sharing
from ganzoo.evaluation.stats_file import read_statistics, write_statistics
from ganzoo.evaluation.subjects import Outline, Subject, open_subject
from ganzoo.evaluation.table import METRICS, metrics_named
from ganzoo.nn import Extractor
from ganzoo.registry import build, registry

if TYPE_CHECKING:
    from ganzoo.training.alone import Alone

SAMPLES: Final = 10_000
"""Images that are drawn for FID and its relatives unless asked otherwise."""
MODE_SAMPLES: Final = 2_500
"""Points that are drawn for mode coverage, as VEEGAN and PacGAN do."""
STACKED_SAMPLES: Final = 26_000
"""Images that are drawn where classes are combinations, by the protocol of Stacked-MNIST."""
_PLANE: Final = 2
_log = logging.getLogger("ganzoo")


class UnkeptError(GanzooError):
    """The scores are there, and a file that was to tell or to show them cannot be written.

    Attributes:
        result: the scores.
    """

    def __init__(self, why: str, result: Result) -> None:
        super().__init__(f"The scores are computed, but not everything could be written: {why}")
        self.result = result


def evaluate(
    path: Path | str,
    *,
    metrics: Sequence[str] | str | None = None,
    features: str | None = None,
    feature_options: Mapping[str, Any] | None = None,
    samples: int | None = None,
    against: str | None = None,
    real_samples: int | None = None,
    ref_stats: Path | str | None = None,
    save_stats: Path | str | None = None,
    weights: Path | str | None = None,
    fid_infinity: bool = False,
    seed: int = 0,
    ema: bool = True,
    best: bool = False,
    data_root: Path | str | None = None,
    device: str = "auto",
    picture: Path | str | None = None,
    update: bool = False,
    say: Callable[[str], None] = _log.info,
    progress: Stage = silent,
) -> Result:
    """Score a run, an export, or the images of a folder, a zip or an npz.

    Under torchrun, processes that all call this divide the samples between them; all get the same result.

    >>> ganzoo.evaluate("runs/mnist-dcgan-ns-001", samples=10_000)["fid"]      # doctest: +SKIP

    Args:
        path: what to score.
        metrics: ``fid``, ``kid``, ``isc``, ``prc``, ``classes``, ``accuracy``, ``modes``, in a list or a text with
            commas; what suits the data unless given, all but ``prc``.
        features: name of the feature network; what suits the data unless given.
        feature_options: its options.
        samples: how many samples to score: 10,000 unless given, all images of a folder, 2,500 points, 26,000 images
            whose classes are combinations.
        against: the real data: a data set's name with or without ``:split``, or a path; what the subject was trained
            on unless given.
        real_samples: how many real samples; all unless given.
        ref_stats: an npz with ``mu`` and ``sigma`` of real features, in place of the data.
        save_stats: where to write those of the real data.
        weights: weights of the feature network.
        fid_infinity: whether to extrapolate FID to infinitely many samples too.
        seed: of the latents.
        ema: averaged weights, where there are any.
        best: a run's best checkpoint, as its scores tell, and not its newest.
        data_root: folder in which to look for data sets first.
        device: ``auto``, ``cpu``, ``cuda`` ...
        picture: where to draw samples of points over the critic's field.
        update: whether the run or export keeps the result, also in its card.
        say: hears one sentence at a time.
        progress: hears of the stages of the work.

    Raises:
        UsageError: the request does not fit, or there are too few samples.
        MissingError: the subject, the data, the weights or the device is not there.
        GanzooError: something is damaged, or the samples are not finite; or all was computed and cannot be kept or
            drawn, and the error has it as ``result``.
    """
    begun = time.monotonic()
    counts = numbers_of(samples=samples, real_samples=real_samples, seed=seed)
    wanted = metrics_named(names_in([metrics] if isinstance(metrics, str) else metrics)) if metrics else None
    with sharing(device) as (together, target, shards):
        if together.rank:
            say, progress = _unheard, silent
        subject = open_subject(path, ema=ema, best=best, device=target, say=say)
        if update and subject.folder is None:
            raise UsageError(f"{path} is neither a run nor an export, so there is nowhere to keep the result.")
        check_kind(wanted or (), subject)
        if subject.spec.is_image and picture is not None:
            raise UsageError("--picture is for points in the plane; draw images with 'ganzoo sample'.")
        if picture is not None:
            from ganzoo.outputs.grids import check_ending

            check_ending(Path(picture))
        root = Path(data_root) if data_root is not None else None
        name, extractor = None, None
        with together.first_ahead():  # what is downloaded, is so once
            statistics = read_statistics(Path(ref_stats)) if ref_stats is not None else None
            needed = against is not None or (statistics is None and looks_at_real(wanted))
            reference = _reference(against, subject, root, needed=needed)
            refuse_without_reference(wanted or (), there=reference is not None or statistics is not None)
            if subject.spec.is_image:
                name = features or (reference.extractor if reference else customary(subject)) or INCEPTION
                options = dict(feature_options or {})
                if weights is not None:
                    options["weights"] = str(weights)
                extractor = build_extractor(name, options, subject.spec, reference).to(target)
                check_classes(wanted or (), extractor, name, subject, reference)
            elif features or weights or ref_stats:
                raise UsageError("Points are judged as they are; a feature network and --ref-stats are for images.")
        n = count_for(subject, extractor, counts.samples)
        chosen = wanted or suitable(subject, reference, extractor, name, statistics=statistics is not None)
        if fid_infinity and all(metric.name != "fid" for metric in chosen):
            raise UsageError("--fid-infinity goes with the metric fid, which is not computed here.")
        judge = Judge(
            chosen,
            extractor=extractor,
            name=name or "",
            reference=reference,
            statistics=statistics,
            title=f"statistics {Path(ref_stats).name}" if ref_stats is not None else "",
            real_samples=counts.real_samples,
            device=target,
            cache=FeatureCache(),
            infinity=fid_infinity,
            progress=progress,
            shards=shards,
        )
        if save_stats is not None:
            shards.first(lambda: _save(judge, at_home(Path(save_stats))))
        evidence = judge.look(subject, n, counts.seed)

        def judged() -> tuple[Result, str]:
            scores, details = judge.score(evidence)
            protocol = {"samples": n, "seed": counts.seed, **judge.protocol(), **_versions(extractor)}
            result = Result(subject.facts, scores, protocol, details, round(time.monotonic() - begun, 3))
            return result, _unwritten(judge, subject, result, picture, say, update=update)

        return _of_all(together, judged)


def build_extractor(name: str, options: Mapping[str, Any], spec: Spec, reference: Reference | None = None) -> Extractor:
    """The feature network ``name`` for images like ``spec`` and those of the reference.

    Raises:
        UsageError: there is no such extractor or option.
        MissingError: its weights are not here.
    """
    entry = registry().get("extractor", name)
    if "weights" in options and "weights" not in {option.name for option in entry.options}:
        raise UsageError(f"The extractor {name} takes no weights; leave --weights out.")
    choice = registry().choose("extractor", name, dict(options))
    colours = max(spec.shape[0], reference.spec.shape[0] if reference else 1)
    spec = Spec((colours, *spec.shape[1:]), reference.spec.num_classes if reference else spec.num_classes)
    found: Extractor = build(choice, spec).eval().requires_grad_(False)
    return found


def _reference(against: str | None, subject: Outline, root: Path | None, *, needed: bool) -> Reference | None:
    """The real data; None if nobody knows them, or if they cannot be had and statistics or nothing will do instead."""
    try:
        return open_reference(against, subject, root)
    except Interrupted:
        raise
    except GanzooError:
        if needed:
            raise
        return None


def suitable(
    subject: Outline, reference: Reference | None, extractor: Extractor | None, name: str | None, *, statistics: bool
) -> list[Metric]:
    """The metrics to compute when none are named.

    Raises:
        UsageError: there is none for such data.
    """
    there = {"points"} if extractor is None else {"moments", "features"}
    if extractor is not None and extractor.num_classes is not None:
        there.add("logits")
        if reference is not None and reference.extractor == name:  # it tells the classes of these data
            there.add("classes")
            there |= {"labels"} if subject.conditional else set()
    if reference is not None:
        there |= {"reference", "reference-features"} | ({"centres"} if reference.modes else set())
    if statistics:
        there.add("reference")
        there.discard("reference-features")
    found = [metric for metric in METRICS.values() if metric.default and metric.needs <= there]
    if not found:
        raise UsageError(
            "No score suits these samples"
            + (": name the real data with --against DATASET." if reference is None else "; there is none for them yet.")
        )
    return found


def count_for(subject: Outline, extractor: Extractor | None, asked: int | None) -> int:
    """How many samples to score.

    Raises:
        UsageError: there are fewer than were asked for.
    """
    if subject.count is not None:
        if asked is not None and asked > subject.count:
            raise UsageError(
                f"{subject.facts['path']} has {subject.count:,} samples, fewer than the {asked:,} asked for; "
                "leave --samples out to take them all."
            )
        return asked or subject.count
    if asked is not None:
        return asked
    if not subject.spec.is_image:
        return MODE_SAMPLES
    return STACKED_SAMPLES if extractor is not None and extractor.stacked else SAMPLES


def _unwritten(
    judge: Judge,
    subject: Subject,
    result: Result,
    picture: Path | str | None,
    say: Callable[[str], None],
    *,
    update: bool,
) -> str:
    """Keep and draw what is asked for; what went wrong, which is no reason to lose scores that took so long."""
    try:
        _keep(subject, result, say, update=update)
        _draw(judge, subject, result, picture, update=update)
    except Interrupted:
        raise
    except GanzooError as err:
        return str(err)
    return ""


def _of_all(together: Alone, judged: Callable[[], tuple[Result, str]]) -> Result:
    """What ``judged`` finds in process 0, in all.

    Raises:
        UnkeptError: it says why something was not written.
    """

    def told() -> str:
        result, why = judged()
        return json.dumps([result.to_dict(), why])

    if together.world == 1:
        result, why = judged()
    else:
        saved, why = json.loads(together.from_first(told))
        result = Result.from_dict(saved)
    if why:
        raise UnkeptError(why, result)
    return result


def _unheard(_: str) -> None:
    """Process 0 speaks for all."""


def _save(judge: Judge, path: Path) -> None:
    seen = judge.real.seen
    if seen is None:
        raise UsageError("There are no statistics of real features to save; --save-stats goes with --metric fid.")
    write_statistics(path, seen.gaussian() if isinstance(seen, FeatureSet) else seen)


def _draw(judge: Judge, subject: Subject, result: Result, picture: Path | str | None, *, update: bool) -> None:
    """The samples of points over the real ones and the critic's field."""
    if subject.spec.is_image or judge.reference is None:
        return
    file = at_home(Path(picture)) if picture is not None else None
    if file is None and update and subject.folder is not None:
        file = subject.folder / "evaluation.png"
    if file is None:
        return
    import torch

    from ganzoo.outputs.field import save_field
    from ganzoo.outputs.grids import save_grid

    n, seed = result.protocol["samples"], result.protocol["seed"]
    points = torch.cat([x for x, _ in subject.samples(n, seed)])
    real = torch.cat([x for x, _ in judge.reference.samples(n)])
    critic = subject.critic()
    if critic is None or points.shape[1] != _PLANE:
        save_grid(points, file, target=real)
    else:
        save_field(points, real, critic, file)


def _keep(subject: Subject, result: Result, say: Callable[[str], None], *, update: bool) -> None:
    """Let the run have the result, and its observers hear of it."""
    from ganzoo.outputs.scores import keep_result
    from ganzoo.plugins import loaded
    from ganzoo.training.observers import Observers
    from ganzoo.training.run import Run

    if subject.folder is None:
        return
    if update:
        keep_result(subject.folder, result)
    if subject.facts["kind"] != "run" or not loaded().manager.hook.ganzoo_eval_end.get_hookimpls():
        return
    try:
        run = Run.open(subject.folder)
    except Interrupted:
        raise
    except GanzooError as err:  # its generator can be built, or there were no scores; what else it needs is not here
        say(f"No plugin is told of these scores: {err}")
        return
    Observers().call("eval_end", run=run, metrics={score.name: score.value for score in result.scores})


def _versions(extractor: Extractor | None) -> dict[str, str]:
    found = {"ganzoo": __version__}
    if extractor is not None:
        with suppress(PackageNotFoundError):
            found["torch_fidelity"] = version("torch-fidelity")
    return found
