"""Promises of data sets."""

from __future__ import annotations

import pickle
from typing import Final

import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.data import Dataset, DataStream
from ganzoo.nn import Batch
from ganzoo.testing.subject import Subject

_BATCH: Final = 64


def _dataset(subject: Subject) -> tuple[Dataset, Spec]:
    component = subject.entry.component
    assert component.spec is not None
    spec = component.spec(subject.choice.config)
    return subject.build(spec), spec


def _batches(dataset: Dataset, seed: int = 0, count: int = 3) -> list[Batch]:
    stream = DataStream(dataset, _BATCH, seed)
    return [stream.next() for _ in range(count)]


def holds_what_its_spec_says(subject: Subject) -> None:
    """Batches are float32 of the spec's shape, and the record's spec is the one it was built for."""
    dataset, spec = _dataset(subject)
    subject.expect(
        dataset.spec == spec, f"was built for {spec} and says {dataset.spec}", "pass spec on to super().__init__()"
    )
    subject.expect(
        dataset.length is None or dataset.length > 0,
        f"has the length {dataset.length}",
        "count samples, or None without end",
    )
    x = _batches(dataset)[0].x
    wanted = (_BATCH, *spec.shape)
    subject.expect(
        tuple(x.shape) == wanted,
        f"gives batches of {tuple(x.shape)}, not {wanted}",
        "let spec= of its Component say the shape",
    )
    subject.expect(x.dtype == torch.float32, f"gives samples of {x.dtype}", "convert them to float32; see to_unit()")
    subject.expect(torch.isfinite(x).all(), "holds NaN or infinity", "look for a division")


def keeps_images_in_range(subject: Subject) -> None:
    """Images use [-1, 1], not [0, 1] or 0 .. 255."""
    dataset, spec = _dataset(subject)
    if not spec.is_image:
        return
    values = torch.cat([batch.x for batch in _batches(dataset)])
    low, high = values.min().item(), values.max().item()
    subject.expect(
        -1 <= low < 0 and high <= 1,
        f"gives images from {low:.3g} to {high:.3g}",
        "scale them to [-1, 1]: to_unit() does it for uint8, x * 2 - 1 for [0, 1]",
    )


def labels_as_its_spec_says(subject: Subject) -> None:
    """Labels are int64 within the classes, or None without classes, also where ``--cond off`` hides those there are."""
    dataset, spec = _dataset(subject)
    hidden = _batches(subject.build(Spec(spec.shape)), count=1)[0].y
    subject.expect(
        hidden is None, "gives labels where its spec has no classes", "leave them out if self.spec.num_classes is None"
    )
    for batch in _batches(dataset):
        y = batch.y
        if spec.num_classes is None or y is None:
            said = f"num_classes={spec.num_classes}"
            subject.expect(
                spec.num_classes is None and y is None,
                f"gives {'no labels' if y is None else 'labels'}, and its spec says {said}",
                "let both agree",
            )
            continue
        subject.expect(
            tuple(y.shape) == (_BATCH,) and y.dtype == torch.int64,
            f"gives labels {tuple(y.shape)} of {y.dtype}",
            "make them [B] of torch.int64",
        )
        low, high = int(y.min()), int(y.max())
        subject.expect(
            low >= 0 and high < spec.num_classes,
            f"gives labels from {low} to {high}, and its spec has {spec.num_classes} classes",
            "count them from 0",
        )


def repeats_its_order(subject: Subject) -> None:
    """The same seed gives the same batches, whatever torch's own random numbers are; another one gives others."""
    runs = []
    for state, seed in enumerate((0, 0, 1)):
        dataset, _ = _dataset(subject)
        torch.manual_seed(100 + state)
        runs.append(_batches(dataset, seed))
    subject.expect(
        _same(runs[0], runs[1]),
        "gives other batches for the same seed",
        "draw with the rng that draw() gets, and alone",
    )
    dataset, _ = _dataset(subject)
    if dataset.length is None or dataset.length > 1:
        subject.expect(not _same(runs[0], runs[2]), "gives the same batches for every seed", "draw with the rng given")


def goes_on_where_a_run_was_resumed(subject: Subject) -> None:
    """What comes next depends on the position in the stream alone, as a new process knows nothing else."""
    straight, resumed = (DataStream(_dataset(subject)[0], _BATCH, 0) for _ in range(2))
    straight.next()
    resumed.position = straight.position
    batches = [straight.next() for _ in range(2)]
    subject.expect(
        _same(batches, [resumed.next() for _ in batches]),
        "gives other batches after a run is resumed",
        "let a batch depend on nothing but the rng that draw() gets, or the numbers that fetch() gets",
    )


def fetches_each_sample_by_itself(subject: Subject) -> None:
    """A sample of a finite data set is the same whichever others are fetched with it."""
    dataset, _ = _dataset(subject)
    if dataset.length is None:
        return
    index = torch.tensor([0, dataset.length - 1, 0])
    together = dataset.fetch(index)
    alone = [dataset.fetch(index[i : i + 1]) for i in range(3)]
    same = torch.equal(together.x, torch.cat([batch.x for batch in alone]))
    if together.y is not None:
        same = same and torch.equal(together.y, torch.cat([_labels(batch) for batch in alone]))
    subject.expect(same, "fetches a sample differently beside others", "let fetch() depend on each number alone")


def can_be_sent_to_a_process(subject: Subject) -> None:
    """It can be pickled, as processes that are spawned need it, and gives the same batches there."""
    dataset, _ = _dataset(subject)
    try:
        sent = pickle.loads(pickle.dumps(dataset))
    except Exception as err:
        subject.expect(
            False,
            f"cannot be sent to another process ({' '.join(str(err).split())})",
            "keep no lambda, open file or local class as an attribute",
        )
    subject.expect(
        _same(_batches(dataset), _batches(sent)), "gives other batches in another process", "keep all it needs"
    )


def moves_to_a_device(subject: Subject) -> None:
    """``to`` returns the data set itself."""
    dataset, _ = _dataset(subject)
    subject.expect(dataset.to("cpu") is dataset, "does not return itself from to()", "end to() with 'return self'")


def _labels(batch: Batch) -> Tensor:
    assert batch.y is not None
    return batch.y


def _same(one: list[Batch], other: list[Batch]) -> bool:
    return all(
        torch.equal(a.x, b.x) and (a.y is None) == (b.y is None) and (a.y is None or torch.equal(a.y, _labels(b)))
        for a, b in zip(one, other, strict=True)
    )


OF_DATASETS: Final = (
    holds_what_its_spec_says,
    keeps_images_in_range,
    labels_as_its_spec_says,
    repeats_its_order,
    goes_on_where_a_run_was_resumed,
    fetches_each_sample_by_itself,
    can_be_sent_to_a_process,
    moves_to_a_device,
)
