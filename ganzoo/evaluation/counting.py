"""The metrics that count: classes of generated images, whether they are those asked for, modes of points."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.errors import UsageError
from ganzoo.evaluation.classes import class_scores, stacked_scores
from ganzoo.evaluation.metrics import Evidence
from ganzoo.evaluation.modes import mode_scores
from ganzoo.evaluation.result import Score


def count_classes(evidence: Evidence) -> tuple[Score, ...]:
    """How many classes there are and how evenly; of stacked digits, which of their combinations."""
    predicted, num_classes = _predicted(evidence)
    each, channels = evidence.extra.get("stacked") or (num_classes, 1)
    if channels > 1:
        digits = [predicted // each**place % each for place in reversed(range(channels))]
        found, details = stacked_scores(torch.stack(digits, 1), by=evidence.extractor)
    else:
        shares = evidence.extra.get("shares")
        shares = shares if shares is not None and len(shares) == num_classes else None
        if shares is not None and evidence.extra.get("conditional"):
            shares = torch.full_like(shares, 1 / num_classes)  # that is what was asked for
        found, details = class_scores(predicted, num_classes, reference=shares, by=evidence.extractor)
    evidence.extra["details"].update(details)
    return found


def check_classes(evidence: Evidence) -> tuple[Score, ...]:
    """The share of images that are of the class that was asked for."""
    predicted, num_classes = _predicted(evidence)
    asked = evidence.scored().labels
    if asked is None or not evidence.extra.get("conditional"):
        raise UsageError("Accuracy is for a conditional generator: nobody asked for classes here.")
    if int(asked.max()) >= num_classes:
        raise UsageError(
            f"The generator knows {int(asked.max()) + 1} classes and the extractor {evidence.extractor} {num_classes}: "
            "accuracy needs an extractor of the same classes."
        )
    found, details = class_scores(predicted, num_classes, asked=asked, by=evidence.extractor)
    evidence.extra["details"]["accuracy_per_class"] = details["accuracy_per_class"]
    return tuple(score for score in found if score.name == "accuracy")


def count_modes(evidence: Evidence) -> tuple[Score, ...]:
    """Which modes of a mixture of Gaussians are covered."""
    modes = evidence.extra.get("modes")
    if evidence.points is None or modes is None:
        raise UsageError("Modes are counted among points drawn from known Gaussians, such as ring and grid.")
    found, details = mode_scores(evidence.points, *modes)
    evidence.extra["details"].update(details)
    return found


def _predicted(evidence: Evidence) -> tuple[Tensor, int]:
    logits = evidence.scored().logits
    if logits is None:
        raise UsageError(
            f"Classes are counted by a classifier of them, which the extractor {evidence.extractor} is not: choose one "
            "with --features, such as digit-cnn for digits."
        )
    return logits.argmax(1), logits.shape[1]
