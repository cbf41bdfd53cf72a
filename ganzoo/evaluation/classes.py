"""What a classifier says of generated images: which classes, how evenly, and whether they are those asked for.

All take predictions, so that any extractor with logits will do. ``by`` is the extractor's name, for the labels.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from ganzoo.errors import GanzooError
from ganzoo.evaluation.histogram import divergence, entropy, expected_divergence, shares
from ganzoo.evaluation.result import Score

STACKED_COUNT: Final = 26_000
"""Samples of Stacked-MNIST in the protocol of VEEGAN (arXiv:1705.07761) and PacGAN (arXiv:1712.04086)."""
_DIGITS: Final = 10
_NAMED: Final = 5

Scored = tuple[tuple[Score, ...], dict[str, Any]]
"""Scores, and details in plain JSON values."""


def class_scores(
    predicted: Tensor,
    num_classes: int,
    *,
    reference: Tensor | None = None,
    asked: Tensor | None = None,
    by: str = "",
) -> Scored:
    """Scores ``classes``, ``class_entropy``, ``class_kl`` and, if labels were asked for, ``accuracy``.

    Args:
        predicted: ``[N]`` int64, the class that each generated image is taken for: ``logits.argmax(1)``.
        num_classes: K, how many classes there are.
        reference: ``[K]`` counts or shares of the classes in the real data, not from the classifier but from its
            labels; uniform unless given.
        asked: ``[N]`` int64, the class that the generator was asked for.
        by: name of the extractor.

    The details are ``class_histogram`` (K counts), ``class_kl_expected`` (what chance alone makes of ``class_kl`` with
    N samples) and ``accuracy_per_class`` (K shares, None for a class that was not asked for).

    Raises:
        GanzooError: the tensors do not fit together, or hold other classes.
    """
    counts = _counts(predicted, num_classes, "predicted")
    q = None if reference is None else shares(reference)
    kl = divergence(counts, q)
    scores = [
        Score("classes", _label("classes", by), int((counts > 0).sum()), "higher"),
        Score("class_entropy", _label("class entropy", by), entropy(counts)),
        Score("class_kl", _label("class KL", by), kl, "lower", note=_strangers(counts, q)),
    ]
    possible = num_classes if q is None else int((q > 0).sum())
    details: dict[str, Any] = {
        "class_histogram": counts.tolist(),
        "class_kl_expected": expected_divergence(possible, len(predicted)),
    }
    if asked is not None:
        per_class = _accuracy(predicted, asked, num_classes)
        right = float((predicted.cpu() == asked.cpu()).double().mean())
        scores.append(Score("accuracy", _label("accuracy", by), right, "higher"))
        details["accuracy_per_class"] = per_class
    return tuple(scores), details


def stacked_scores(predicted: Tensor, *, by: str = "") -> Scored:
    """Scores ``modes`` and ``mode_kl`` of Stacked-MNIST: distinct triples of 1000, and KL of theirs to uniform.

    The protocol draws 26,000 samples; with another number the scores say so. A perfect generator then has all 1000
    modes, and a KL of 0.019 if its digits are equally likely, 0.024 if they are as frequent as in MNIST.

    Args:
        predicted: ``[N, 3]`` int64, the digit of each channel.
        by: name of the extractor.

    The details are ``mode_counts`` (the 1000 counts) and ``mode_kl_expected``.

    Raises:
        GanzooError: they are no triples of digits.
    """
    if predicted.ndim != 2 or predicted.shape[1] != 3:
        raise GanzooError(f"Stacked digits are predicted as [N, 3], one digit a channel, not {list(predicted.shape)}.")
    _counts(predicted.flatten(), _DIGITS, "predicted")
    place = torch.tensor([100, 10, 1], device=predicted.device)
    counts = torch.bincount((predicted * place).sum(1), minlength=_DIGITS**3).cpu()
    note = "" if len(predicted) == STACKED_COUNT else f"from {len(predicted):,}; published ones are from 26,000"
    scores = (
        Score("modes", _label("modes of 1000", by), int((counts > 0).sum()), "higher", note=note),
        Score("mode_kl", _label("mode KL", by), divergence(counts), "lower", note=note),
    )
    expected = expected_divergence(len(counts), len(predicted))
    return scores, {"mode_counts": counts.tolist(), "mode_kl_expected": expected}


def _accuracy(predicted: Tensor, asked: Tensor, num_classes: int) -> list[float | None]:
    if asked.shape != predicted.shape:
        raise GanzooError(f"{len(predicted)} classes were predicted and {len(asked)} asked for.")
    wanted = _counts(asked, num_classes, "asked for")
    right = torch.bincount(asked[predicted.to(asked.device) == asked], minlength=num_classes)
    pairs = zip(right.tolist(), wanted.tolist(), strict=True)
    return [hits / total if total else None for hits, total in pairs]


def _counts(classes: Tensor, num_classes: int, what: str) -> Tensor:
    if classes.ndim != 1 or classes.dtype != torch.int64 or not len(classes):
        raise GanzooError(
            f"Classes {what} are [N] of torch.int64 with N > 0, not {list(classes.shape)} of {classes.dtype}."
        )
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high >= num_classes:
        raise GanzooError(f"Classes {what} are in 0 .. {num_classes - 1}, but there are {low} and {high}.")
    return torch.bincount(classes, minlength=num_classes).cpu()


def _strangers(counts: Tensor, reference: Tensor | None) -> str:
    """A caveat if there are classes that the reference does not have."""
    if reference is None:
        return ""
    strange = torch.nonzero((counts > 0) & (reference == 0)).flatten().tolist()
    if not strange:
        return ""
    more = f" and {len(strange) - _NAMED} more" * (len(strange) > _NAMED)
    named = ", ".join(map(str, strange[:_NAMED])) + more
    return f"the reference has none of the generated class {named}"


def _label(what: str, by: str) -> str:
    return f"{what}[{by}]" if by else what
