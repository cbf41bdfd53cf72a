"""The metrics: from features to scores. KID, IS, precision and recall are torch-fidelity's own code; FID is ours.

All metrics there are stand in :mod:`ganzoo.evaluation.table`; what one needs decides what is computed and kept for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, Literal

from torch import Tensor

from ganzoo.api import Spec
from ganzoo.backends import torch_fidelity
from ganzoo.errors import UsageError
from ganzoo.evaluation.features import FeatureSet, Keep
from ganzoo.evaluation.result import Score
from ganzoo.evaluation.statistics import Gaussian, fid_infinity, frechet_distance, smallest_size

Need = Literal[
    "moments", "features", "logits", "labels", "points", "reference", "reference-features", "classes", "centres"
]
"""``moments``, ``features``, ``logits`` of what is scored; the ``labels`` that were asked for; ``points`` in place of
images; something to compare with, of which statistics are enough (``reference``) or each feature is needed
(``reference-features``); logits of the ``classes`` of these very data; ``centres`` of known Gaussians."""

INCEPTION: Final = "inception"
VGG: Final = "vgg16"
SEED: Final = 2020
"""torch-fidelity's, for the subsets of KID and the order of IS."""
SMALL: Final = 2048
"""Fewer samples than this make FID mostly bias, whatever the extractor."""
KID_SUBSET: Final = 1000
_KID_SUBSETS: Final = 100
KID_LEAST: Final = 10
FID_LEAST: Final = 2
IS_SPLITS: Final = 10
_IS_PER_CLASS: Final = 40
"""Samples for each class below which the inception score is said to be biased; 50,000 for 1,008 are customary."""
_LEAST_LIKELY: Final = -700.0
"""The logarithm of a likelihood that float64 still has; that of the likeliest class is 0."""
NEIGHBOURS: Final = 3
_UNEVEN: Final = 2
"""Times as often as the rarest class that the most frequent one occurs from which on that is said."""
_MORE: Final = "take more, or name other scores with --metric"
_BLOCK: Final = 1000
"""Rows of the distance matrix of precision and recall that are in memory at once: 200 MB beside 50,000 samples."""


@dataclass(frozen=True)
class Evidence:
    """What a metric may look at.

    Attributes:
        fake: what is scored; None for points.
        real: what it is compared with: features, statistics, or None.
        extractor: name of the extractor, for labels.
        spec: of a sample.
        seed: of subsets and orders.
        kid_subset: samples in a subset of KID.
        infinity: whether FID is extrapolated to infinitely many samples, beside the plain one.
        points: ``[N, D]`` float32 samples that are no images.
        caveat: the extractor's, which goes into the notes of all scores that it takes part in.
        extra: what other metrics need, by name.
    """

    fake: FeatureSet | None
    real: FeatureSet | Gaussian | None
    extractor: str
    spec: Spec
    seed: int = SEED
    kid_subset: int = KID_SUBSET
    infinity: bool = False
    points: Tensor | None = None
    caveat: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def scored(self) -> FeatureSet:
        """Features of what is scored.

        Raises:
            UsageError: points have none.
        """
        if self.fake is None:
            raise UsageError("This score needs images; points have scores of their own.")
        return self.fake

    def note(self, *parts: str) -> str:
        """The note of a score: what it says itself, and the extractor's caveat."""
        return "; ".join(part for part in (*parts, self.caveat) if part)

    def uneven(self) -> str:
        """That a conditional generator was asked for each class equally often, where the data have them otherwise."""
        shares = self.extra.get("shares")
        if not self.extra.get("conditional") or shares is None or float(shares.max()) < _UNEVEN * float(shares.min()):
            return ""
        return (
            "classes were asked for equally often, and the data have "
            f"{float(shares.min()):.0%} to {float(shares.max()):.0%} of each"
        )

    def reference(self) -> Gaussian:
        """Mean and covariance of the reference.

        Raises:
            UsageError: there is none.
        """
        if self.real is None:
            raise UsageError("This score compares with a data set: say which with --against, or give --ref-stats.")
        return self.real if isinstance(self.real, Gaussian) else self.real.gaussian()

    def pair(self, word: str) -> tuple[Tensor, Tensor]:
        """Features of what is scored and of the reference.

        Raises:
            UsageError: one of them has none, or they come from different extractors.
        """
        fake = self.scored()
        if not isinstance(self.real, FeatureSet) or self.real.features is None:
            raise UsageError(
                f"{word} compares single features, which statistics of a reference do not hold: use --against, or "
                "leave it out."
            )
        assert fake.features is not None, f"{word} needs features, which were not kept"
        if fake.extractor != self.real.extractor:
            raise UsageError(f"{word} needs features of one extractor, and these are of two.")
        return fake.features, self.real.features


Compute = Callable[[Evidence], tuple[Score, ...]]


@dataclass(frozen=True)
class Metric:
    """How some scores are computed.

    Attributes:
        name: what ``--metric`` calls it.
        needs: what it looks at.
        default: whether it is computed when nothing is asked for and what it needs is there.
        compute: the scores, for what there is.
        summary: one sentence for people.
        least: of fewer samples it refuses to be computed, on each side if it compares two.
    """

    name: str
    needs: frozenset[Need]
    default: bool
    compute: Compute
    summary: str = ""
    least: int = 1


def label(word: str, extractor: str, customary: str = INCEPTION) -> str:
    """``word`` alone with the extractor that everybody uses for it, else with the extractor's name behind it."""
    return word if extractor == customary else f"{word}[{extractor}]"


def fid(evidence: Evidence) -> tuple[Score, ...]:
    """Fréchet distance, and its extrapolation where asked for."""
    fake = evidence.scored()
    for few, whose in ((fake, "samples to score"), (evidence.real, "real samples")):
        if isinstance(few, FeatureSet) and few.count < FID_LEAST:
            raise UsageError(f"FID needs at least {FID_LEAST} {whose}, and there is {few.count}: {_MORE}.")
    real = evidence.reference()
    distance = frechet_distance(fake.gaussian(), real)
    notes = "; ".join(filter(None, (bias_note(fake.count, real), evidence.uneven())))
    scores = [_fid("fid", "FID", distance, evidence, notes)]
    if evidence.infinity:
        assert fake.features is not None, "the extrapolation needs features, which were not kept"
        if fake.extractor and real.extractor and fake.extractor != real.extractor:
            raise UsageError("The statistics of the reference come from another extractor than the features.")
        value = fid_infinity(fake.features, real, seed=evidence.seed)
        note = "extrapolated over the number of samples; the bias of the reference stays"
        least, dim = smallest_size(*fake.features.shape), fake.features.shape[1]
        if least <= dim:
            note = f"{note}; biased downwards: it begins at {least:,} samples, no more than the {dim:,} features"
        scores.append(_fid("fid-infinity", "FID-infinity", value, evidence, note))
    return tuple(scores)


def _fid(name: str, word: str, value: float, evidence: Evidence, note: str) -> Score:
    return Score(name, label(word, evidence.extractor), value, "lower", note=evidence.note(note))


def bias_note(count: int, real: Gaussian) -> str:
    """What a reader must know of a distance from so few samples; empty if nothing."""
    least = max(SMALL, real.dim + 1)
    few = [
        f"{number:,} {what}"
        for number, what in ((count, "samples"), (real.count or least, "of reference"))
        if number < least
    ]
    if not few:
        return ""
    return f"biased upwards: {' and '.join(few)} are fewer than {least:,}, so compare only with the same numbers"


def kid(evidence: Evidence) -> tuple[Score, ...]:
    """Kernel distance, the mean over subsets."""
    fake, real = evidence.pair("KID")
    fewest = min(len(fake), len(real))
    if fewest < KID_LEAST:
        raise UsageError(f"KID needs at least {KID_LEAST} samples on each side, and there are {fewest}: {_MORE}.")
    size, note = evidence.kid_subset, ""
    if size > fewest:
        size = max(fewest // 2, 2)
        note = f"over subsets of {size} instead of {evidence.kid_subset:,}, because there are only {fewest:,} samples"
    found = _module("metric_kid").kid_features_to_metric(
        fake, real, kid_subsets=_KID_SUBSETS, kid_subset_size=size, rng_seed=evidence.seed, verbose=False
    )
    mean, std = found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]
    return (Score("kid", label("KID", evidence.extractor), mean, "lower", std, evidence.note(note, evidence.uneven())),)


def isc(evidence: Evidence) -> tuple[Score, ...]:
    """Inception score, the mean over splits."""
    logits = evidence.scored().logits
    if logits is None:
        raise UsageError(f"The inception score needs class scores, which the extractor {evidence.extractor} has not.")
    if len(logits) < IS_SPLITS:
        raise UsageError(
            f"The inception score needs at least {IS_SPLITS} samples, and there are {len(logits)}: {_MORE}."
        )
    # Classes of no likelihood at all would be multiplied by a logarithm of zero there. Below e^-700 they are nothing.
    likely = logits.double()
    likely = (likely - likely.max(dim=1, keepdim=True).values).clamp(min=_LEAST_LIKELY)
    found = _module("metric_isc").isc_features_to_metric(likely, IS_SPLITS, True, evidence.seed)
    mean, std = found["inception_score_mean"], found["inception_score_std"]
    size, note = len(logits) // IS_SPLITS, ""
    if len(logits) < _IS_PER_CLASS * logits.shape[1]:
        note = f"biased downwards: {size:,} sample{'s' * (size > 1)} in a split, {logits.shape[1]:,} classes"
    return (Score("isc", label("IS", evidence.extractor), mean, "higher", std, evidence.note(note)),)


def prc(evidence: Evidence) -> tuple[Score, ...]:
    """Precision, recall and their harmonic mean, by the third nearest neighbours."""
    fake, real = evidence.pair("Precision and recall")
    fewest = min(len(fake), len(real))
    if fewest <= NEIGHBOURS:
        raise UsageError(
            f"Precision and recall need more than {NEIGHBOURS} samples on each side, and there are {fewest}: {_MORE}."
        )
    found = _module("metric_prc").prc_features_to_metric(
        fake, real, prc_neighborhood=NEIGHBOURS, prc_batch_size=_BLOCK, save_cpu_ram=True, verbose=False
    )
    note = "" if len(fake) == len(real) else f"{len(fake):,} samples against {len(real):,}: compare equal numbers"
    names = {"precision": "Precision", "recall": "Recall", "f_score": "F-score"}
    return tuple(
        Score(
            key.replace("_", "-"), label(word, evidence.extractor, VGG), found[key], "higher", note=evidence.note(note)
        )
        for key, word in names.items()
    )


def keep_for(metrics: Iterable[Metric], *, infinity: bool = False, reference: bool = False) -> frozenset[Keep]:
    """What :func:`~ganzoo.evaluation.features.extract` must keep so that these metrics can be computed.

    Args:
        metrics: those asked for.
        infinity: whether FID is extrapolated.
        reference: whether it is about the reference, and not about what is scored.
    """
    needs = frozenset[Need]().union(*(metric.needs for metric in metrics))
    kept: set[Keep] = set()
    if "moments" in needs:
        kept.add("moments")
    if "reference-features" in needs if reference else ("features" in needs or (infinity and "moments" in needs)):
        kept.add("features")
    if "logits" in needs and not reference:
        kept.add("logits")
    return frozenset(kept)


def _module(name: str) -> ModuleType:
    """A module of torch-fidelity, once that has been imported with care."""
    torch_fidelity()
    return importlib.import_module(f"torch_fidelity.{name}")
