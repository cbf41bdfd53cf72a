"""What can be set about a run and its optimisers, beside the options of its components."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ganzoo import processes
from ganzoo.errors import UsageError
from ganzoo.options import Seconds, option, options_of

PRODUCTS: Final = "bf16-products"
"""A way of CPUs to compute in bf16, which a run may choose; see :class:`ganzoo.nn.precision.Precision`."""


@dataclass(frozen=True)
class OptimConfig:
    """One side's optimiser; the formulas are those of ``torch.optim``."""

    name: Literal["adam", "adamw", "rmsprop", "sgd"] = option("adam", help="Optimiser.")
    lr: float = option(2e-4, above=0, help="Learning rate.")
    decay_steps: int = option(
        0, min=0, help="Steps over which the learning rate falls to zero, along half a cosine; 0: it stays."
    )
    betas: tuple[float, float] = option((0.5, 0.999), min=0, max=1, help="Adam's decay rates of the two moments.")
    eps: float = option(1e-8, above=0, help="Adam's and RMSProp's term that keeps the denominator from zero.")
    alpha: float = option(0.99, min=0, max=1, help="RMSProp's decay rate of the squared gradient.")
    momentum: float = option(0.0, min=0, max=1, help="SGD's momentum.")
    weight_decay: float = option(0.0, min=0, help="L2 penalty (decoupled for adamw).")


@dataclass(frozen=True)
class RunSettings:
    """What belongs to the run and to no component."""

    steps: int = option(20_000, min=0, live=True, help="Generator steps to train for.")
    batch_size: int = option(64, min=1, help="Samples in a batch of one step.")
    batch_size_per_device: int | None = option(
        None, min=1, live=True, help="Samples of a batch for each process; sets batch_size to this times their number."
    )
    seed: int = option(0, min=0, max=2**63 - 1, help="The one seed that everything random follows from.")
    device: str = option("auto", live=True, help="auto, cpu, cuda, cuda:1, mps or xpu.")
    cond: Literal["auto", "on", "off"] = option(
        "auto", help="Labels: on chooses networks that use them, off hides them; auto: used by networks that can."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto",
        help="Arithmetic of the networks; what is differentiated twice stays fp32. auto: bf16 where that is in "
        "hardware and quicker.",
    )
    layout: Literal["auto", "contiguous", "channels-last"] = option(
        "auto", live=True, help="Order of the networks' weights in memory; auto: what is quicker, measured once."
    )
    compile: bool = option(
        False, live=True, help="Compile what torch.compile can; a run that it fails goes on without."
    )
    deterministic: bool = option(False, live=True, help="Bit-equal results on CUDA too, at some cost of speed.")
    ema_half_life: int = option(10_000, min=0, help="Half-life, in images, of the generator's moving average; 0: none.")
    ema_ramp: float = option(0.05, min=0, help="The half-life is at most this share of the images seen; 0: no ramp.")
    samples: int = option(64, min=1, max=4096, help="Fixed latents that are drawn again and again.")
    name: str | None = option(None, live=True, help="Name of the run; made from its parts when not given.")
    out: Path = option(Path("runs"), live=True, help="Folder that holds the runs.")
    log_every: int = option(50, min=1, live=True, help="Steps between two lines of metrics.jsonl.")
    sample_every: int = option(500, min=0, live=True, help="Steps between two grids of samples; 0: only at the end.")
    checkpoint_every: int = option(1000, min=0, live=True, help="Steps between two checkpoints; 0: only at the end.")
    keep_last: int = option(2, min=1, live=True, help="How many checkpoints to keep.")
    keep_every: int = option(0, min=0, live=True, help="Keep the checkpoints of every so many steps for good; 0: none.")
    max_time: Seconds | None = option(
        None, above=0, live=True, help="Save and leave after so much training in this session: 300, 5m, 1h30m."
    )
    on_nonfinite: Literal["stop", "skip", "rollback"] = option(
        "stop",
        live=True,
        help="When a number is NaN or infinite: stop, skip the update, or go back to a checkpoint with new noise.",
    )
    nonfinite_limit: int = option(10, min=0, live=True, help="How often to skip or go back before the run stops.")
    eval_every: int = option(0, min=0, live=True, help="Steps between two scores of the generator; 0: none.")
    eval_metric: str = option("auto", live=True, help="The score that tells the best; auto: fid, or modes of points.")
    eval_features: str = option("auto", live=True, help="Feature network of the scores; auto: what suits the data.")
    eval_samples: int | None = option(
        None, min=2, live=True, help="Samples that are scored; none: 2000 images, or 2500 points."
    )
    eval_patience: int = option(
        0, min=0, live=True, help="Stop after so many scores without a better one; 0: train to the last step."
    )
    peer_timeout: int = option(600, min=1, live=True, help="Seconds that a process waits for the others of its run.")


def joint_batch(values: dict[str, Any], origin: str, *, textual: bool) -> None:
    """Put the batch of all processes in place of that of one: what is recorded means the same for any number of them.

    Args:
        values: path -> value of one layer; changed in place.
        origin: the layer in words.
        textual: whether values are text.

    Raises:
        UsageError: both are set, or the value is no batch.
    """
    if "run.batch_size_per_device" not in values:
        return
    (opt,) = (opt for opt in options_of(RunSettings) if opt.name == "batch_size_per_device")
    try:
        each = opt.parse(values.pop("run.batch_size_per_device"), textual=textual)
    except UsageError as err:
        raise UsageError(f"batch_size_per_device ({origin}) {err}.") from None
    if each is None:
        return
    if "run.batch_size" in values:
        raise UsageError(f"Both batch_size and batch_size_per_device are set ({origin}); set one of them.")
    values["run.batch_size"] = processes.count() * each
