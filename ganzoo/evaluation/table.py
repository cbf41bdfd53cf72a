"""The table of metrics: what ``--metric`` may name, what each needs, and whether it is computed unasked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from ganzoo.errors import UsageError, did_you_mean
from ganzoo.evaluation.counting import check_classes, count_classes, count_modes
from ganzoo.evaluation.metrics import FID_LEAST, IS_SPLITS, KID_LEAST, NEIGHBOURS, Metric, fid, isc, kid, prc

_ROWS: Final = (
    Metric("fid", frozenset({"moments", "reference"}), True, fid, "Fréchet distance of features.", FID_LEAST),
    Metric("kid", frozenset({"features", "reference-features"}), True, kid, "Kernel distance of features.", KID_LEAST),
    Metric(
        "isc", frozenset({"logits"}), True, isc, "Inception score: how sure and how varied the classes are.", IS_SPLITS
    ),
    Metric(
        "prc",
        frozenset({"features", "reference-features"}),
        False,
        prc,
        "Precision and recall by nearest neighbours.",
        NEIGHBOURS + 1,
    ),
    Metric("classes", frozenset({"logits", "classes"}), True, count_classes, "Classes drawn, and how evenly."),
    Metric("accuracy", frozenset({"logits", "classes", "labels"}), True, check_classes, "Classes drawn as asked for."),
    Metric("modes", frozenset({"points", "centres"}), True, count_modes, "Modes of known Gaussians covered."),
)
METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _ROWS})
"""Name -> metric, in the order in which they are computed unasked."""


def metrics_named(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names, each once.

    Raises:
        UsageError: there is no metric of a name.
    """
    found = []
    for name in dict.fromkeys(names):
        if name not in METRICS:
            raise UsageError(f"There is no metric {name!r}.{did_you_mean(name, METRICS)}")
        found.append(METRICS[name])
    return found
