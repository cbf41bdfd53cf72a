"""A classifier of handwritten digits, as the feature network of scores on digits. Its weights ship with ganzoo."""

from __future__ import annotations

from collections.abc import Iterator

from ganzoo.api import Component, hookimpl


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The extractors."""
    yield Component(
        "extractor",
        "digit-cnn",
        target="ganzoo_digits.model:DigitCnn",
        summary="A small classifier of handwritten digits, trained on MNIST, included.",
        facts={
            "features": "96",
            "classes": "10, the digits",
            "accuracy": "99.66 % on the test set of MNIST, 97.2 % on the UCI digits at 16x16",
            "licence": "trained on MNIST, which is CC BY-SA 3.0",
            "place": "ships with ganzoo",
        },
    )
    yield Component(
        "extractor",
        "digit-cnn-each",
        target="ganzoo_digits.model:DigitCnnEach",
        summary="digit-cnn on each channel by itself, for stacked digits.",
        facts={
            "features": "96 of each channel",
            "classes": "1000 of three channels, the combinations of their digits",
            "licence": "that of digit-cnn",
            "place": "ships with ganzoo",
        },
    )
