"""An evaluation gone through without samples, so that no training is spent on one that cannot work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganzoo.config import RunConfig
from ganzoo.errors import UsageError
from ganzoo.evaluation.evaluate import build_extractor, count_for, suitable
from ganzoo.evaluation.metrics import INCEPTION
from ganzoo.evaluation.reference import open_reference
from ganzoo.evaluation.request import check_classes, check_kind, looks_at_real
from ganzoo.evaluation.subjects import Outline, uses_labels
from ganzoo.evaluation.table import metrics_named


def rehearse(config: RunConfig, request: Mapping[str, Any]) -> None:
    """Look for what the evaluation of a run would need, without reading a data set.

    Args:
        config: of a run that is not trained yet.
        request: arguments of :func:`ganzoo.evaluation.evaluate.evaluate`.

    Raises:
        UsageError: no metric suits the run or the feature network, the real data do not, or the samples are too few.
        MissingError: the weights of the feature network are not here.
        GanzooError: what is named as real data is damaged.
    """
    plan = config.plan()
    subject = Outline(plan.spec, {"path": config.data.name})
    subject.conditional, subject.data = uses_labels(plan), config.to_dict()["data"]
    wanted = metrics_named(request.get("metrics") or ())
    check_kind(wanted, subject)
    reference = open_reference(request.get("against"), subject, read=False)
    assert reference is not None, "the data of a run are known"
    name = extractor = None
    if subject.spec.is_image:
        name = request.get("features") or reference.extractor or INCEPTION
        extractor = build_extractor(name, {}, subject.spec, reference)
        check_classes(wanted, extractor, name, subject, reference)
    drawn = count_for(subject, extractor, request.get("samples"))
    for metric in wanted or suitable(subject, reference, extractor, name, statistics=False):
        real = reference.count if looks_at_real([metric]) else None
        fewest = drawn if real is None else min(drawn, real)
        if fewest < metric.least:
            raise UsageError(
                f"The metric {metric.name} needs at least {metric.least} samples, and there would be {fewest}: take "
                "more, or name other scores with --metric."
            )
