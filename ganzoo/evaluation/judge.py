"""A reference, a feature network and metrics, ready to score one subject after another by the same protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ganzoo.errors import UsageError
from ganzoo.evaluation.cache import FeatureCache, images_digest
from ganzoo.evaluation.features import FeatureSet, Progress, extract, extract_known, in_chunks
from ganzoo.evaluation.metrics import Evidence, Metric, Need, keep_for
from ganzoo.evaluation.progress import Advance, Stage, silent
from ganzoo.evaluation.reference import Reference
from ganzoo.evaluation.result import Score
from ganzoo.evaluation.shards import CHUNK, Piece, Shards
from ganzoo.evaluation.statistics import Gaussian
from ganzoo.evaluation.subjects import Samples, Subject
from ganzoo.nn import Extractor

_COLOURS: Final = 3


def refuse_without_reference(metrics: Iterable[Metric], *, there: bool) -> frozenset[Need]:
    """Everything that the metrics need.

    Raises:
        UsageError: something to compare with is needed, and is not there.
    """
    needs = frozenset[Need]().union(*(metric.needs for metric in metrics))
    if not there and needs & {"reference", "reference-features", "centres"}:
        raise UsageError(
            "Nobody knows which real data these samples are to be compared with: say so with --against DATASET."
        )
    return needs


@dataclass(frozen=True)
class Real:
    """What is known of the reference.

    Attributes:
        seen: its features or statistics; None if no metric needs them.
        count: how many samples it has, or that its statistics say.
        digest: hex SHA-256 of its samples, or of the statistics.
        shares: ``[K]`` float64, how often each class occurs; None without labels.
    """

    seen: FeatureSet | Gaussian | None
    count: int | None
    digest: str
    shares: Tensor | None = None


class Judge:
    """Scores subjects.

    Args:
        metrics: what to compute.
        extractor: the feature network, on ``device``; None if no metric needs one.
        name: its name, for labels.
        reference: the real data; None if no metric needs any.
        statistics: of real features, in place of the reference's own.
        title: what the statistics are of, in words.
        real_samples: how many of the reference's samples to take; all unless given.
        device: where the extractor runs.
        cache: where features are kept; None for nowhere.
        infinity: whether FID is extrapolated too.
        progress: hears of the stages of the work.
        shards: how samples are divided between processes, of which each makes a judge.

    Raises:
        UsageError: there is nothing to compare with.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        *,
        extractor: Extractor | None,
        name: str,
        reference: Reference | None,
        statistics: Gaussian | None = None,
        title: str = "",
        real_samples: int | None = None,
        device: torch.device | str = "cpu",
        cache: FeatureCache | None = None,
        infinity: bool = False,
        progress: Stage = silent,
        shards: Shards | None = None,
    ) -> None:
        self.metrics, self.extractor, self.name, self.reference = tuple(metrics), extractor, name, reference
        self.device, self.cache, self.infinity, self.progress = device, cache, infinity, progress
        self.shards = shards or Shards()
        self._title = title
        self._needs = refuse_without_reference(metrics, there=reference is not None or statistics is not None)
        if statistics is not None and "reference" not in self._needs:
            raise UsageError("None of these scores takes statistics of the real data: --ref-stats is for fid.")
        if statistics is not None and "reference-features" in self._needs:
            names = ", ".join(metric.name for metric in metrics if "reference-features" in metric.needs)
            raise UsageError(
                f"--ref-stats has statistics and no single features, which {names} would compare: leave either out."
            )
        if statistics is not None and extractor is not None and statistics.dim != extractor.dim:
            raise UsageError(
                f"The statistics of the reference have {statistics.dim:,} features and the extractor {name} has "
                f"{extractor.dim:,}: use one extractor for both."
            )
        self.real = self._look_at_reference(statistics, real_samples)

    def scores(self, subject: Subject, n: int, seed: int) -> tuple[tuple[Score, ...], dict[str, Any]]:
        """The scores of ``n`` samples of ``subject``, and the details that do not fit in a number.

        For one process; of several, all :meth:`look`, and then the first one :meth:`score`\\ s.

        Raises:
            UsageError: there are too few samples, or a metric does not suit them.
            GanzooError: the samples are not finite.
        """
        return self.score(self.look(subject, n, seed))

    def look(self, subject: Subject, n: int, seed: int) -> Evidence:
        """What is to be seen of ``n`` samples of ``subject``; of several processes, only the first gets all of it."""
        extra: dict[str, Any] = {
            "details": {},
            "shares": self.real.shares,
            "modes": self.reference.modes if self.reference else None,
            "conditional": subject.conditional,
            "stacked": self.extractor.stacked if self.extractor is not None else None,
        }
        fake = points = None
        samples = subject.samples(n, seed, self.shards.mine(n))
        if subject.spec.is_image:
            assert self.extractor is not None
            fake = extract(
                _coloured(samples, self.extractor.spec.shape[0]),
                self.extractor,
                total=n,
                device=self.device,
                keep=keep_for(self.metrics, infinity=self.infinity),
                on_progress=_advancing(self.progress("Samples", n)),
                cache=self.cache,
                shards=self.shards,
            )
        else:
            pieces = _points(samples)
            seen = [piece["points"] for piece in self.shards.in_order(n, lambda _: {"points": next(pieces)})]
            points = torch.cat(seen) if seen else torch.empty(0, *subject.spec.shape)
        return Evidence(
            fake,
            self.real.seen,
            self.name,
            subject.spec,
            infinity=self.infinity,
            points=points,
            caveat=self.extractor.caveat if self.extractor is not None else "",
            extra=extra,
        )

    def score(self, evidence: Evidence) -> tuple[tuple[Score, ...], dict[str, Any]]:
        """The scores of what was seen, and the details."""
        found = tuple(score for metric in self.metrics for score in metric.compute(evidence))
        return found, evidence.extra["details"]

    def protocol(self) -> dict[str, Any]:
        """Everything about the measuring that is the same for each subject."""
        extractor = self.extractor
        return {
            "reference": self._title or (self.reference.name if self.reference else None),
            "real_samples": self.real.count,
            "real_digest": self.real.digest[:16] or None,
            "extractor": self.name if extractor is not None else None,
            "extractor_digest": extractor.digest[:16] if extractor is not None else None,
        }

    def _look_at_reference(self, statistics: Gaussian | None, asked: int | None) -> Real:
        reference, needs = self.reference, self._needs
        wants_features = "reference-features" in needs or ("reference" in needs and statistics is None)
        if reference is None or not (wants_features or "classes" in needs) or not reference.spec.is_image:
            digest = _statistics_digest(statistics) if statistics is not None else _modes_digest(reference)
            return Real(statistics, statistics.count if statistics is not None else None, digest)
        n = min(asked or reference.count or _DRAWN, reference.count or _MANY)
        if asked is not None and reference.count is not None and asked > reference.count:
            raise UsageError(f"{reference.name} has {reference.count:,} samples; ask for at most so many real ones.")
        # The samples are read twice where the cache lacks their features: its key is the hash of all of them. To
        # compute what may be there already, or to hold all pixels until that is known, would cost more than this.
        digest, shares = self._survey(reference, n)
        if statistics is not None and "reference-features" not in needs:
            return Real(statistics, statistics.count, _statistics_digest(statistics), shares)
        return Real(self._features(reference, n, digest) if wants_features else None, n, digest, shares)

    def _survey(self, reference: Reference, n: int) -> tuple[str, Tensor | None]:
        """Digest of the samples and the share of each class, in the first process."""
        made = hashlib.sha256()
        classes = reference.spec.num_classes
        counts = torch.zeros(classes, dtype=torch.float64) if classes else None
        known = reference.known(n)
        if known is not None:
            made.update(repr((known[0], self._channels)).encode())
            if counts is not None and known[1] is not None:
                counts += _counted(known[1], len(counts))
            return made.hexdigest(), None if counts is None or not counts.sum() else counts / counts.sum()
        pieces = in_chunks(_coloured(reference.samples(n, self.shards.mine(n)), self._channels), n)

        def look(_: slice) -> Piece:
            images, labels = next(pieces)
            told = {"digest": torch.frombuffer(bytearray(images_digest(images), "ascii"), dtype=torch.uint8)}
            return told if counts is None or labels is None else told | {"counts": _counted(labels, len(counts))}

        for piece in self.shards.in_order(n, look):
            made.update(bytes(piece["digest"].tolist()))
            if counts is not None and "counts" in piece:
                counts += piece["counts"]
        return made.hexdigest(), None if counts is None or not counts.sum() else counts / counts.sum()

    def _features(self, reference: Reference, n: int, digest: str) -> FeatureSet:
        """Features of the reference, from the cache if they are there."""
        assert self.extractor is not None
        batches = _coloured(reference.samples(n, self.shards.mine(n)), self._channels)
        how: dict[str, Any] = {
            "total": n,
            "device": self.device,
            "keep": {"moments", *keep_for(self.metrics, reference=True)},
            "on_progress": _advancing(self.progress("Real samples", n)),
            "shards": self.shards,
        }
        if self.cache is None:
            return extract(batches, self.extractor, **how)
        return extract_known(batches, self.extractor, data={"images": digest}, cache=self.cache, **how)

    @property
    def _channels(self) -> int:
        return self.extractor.spec.shape[0] if self.extractor is not None else 1


_DRAWN: Final = 26_000
"""Samples of an endless reference, as the protocol of Stacked-MNIST has it."""
_MANY: Final = 2**62


def _coloured(samples: Samples, channels: int) -> Samples:
    """Grey images three times where colour is wanted."""
    for images, labels in samples:
        yield (images.expand(-1, channels, -1, -1) if images.shape[1] == 1 < channels else images), labels


def _counted(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels, minlength=classes).double()


def _points(samples: Samples) -> Iterator[Tensor]:
    """Points in chunks, drawn once the first is asked for."""
    yield from torch.split(torch.cat([x for x, _ in samples]), CHUNK)


def _advancing(advance: Advance) -> Progress:
    """What tells how many samples are done, from what takes how many more are."""
    before = 0

    def progress(done: int, _: int) -> None:
        nonlocal before
        advance(done - before)
        before = done

    return progress


def _modes_digest(reference: Reference | None) -> str:
    """What tells one mixture of Gaussians from another."""
    if reference is None or reference.modes is None:
        return ""
    centres, std = reference.modes
    return hashlib.sha256(centres.contiguous().numpy().tobytes() + repr(std).encode()).hexdigest()


def _statistics_digest(statistics: Gaussian) -> str:
    made = hashlib.sha256(statistics.mean.numpy().tobytes())
    if statistics.covariance is not None:
        made.update(statistics.covariance.numpy().tobytes())
    return made.hexdigest()
