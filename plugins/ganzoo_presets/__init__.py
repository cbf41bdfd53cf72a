"""Settings by name, for ``ganzoo run --preset NAME``. Each lies over the recipes and under what you say yourself."""

from __future__ import annotations

from collections.abc import Iterator

from ganzoo.api import Preset, hookimpl


@hookimpl
def ganzoo_presets() -> Iterator[Preset]:
    """The presets."""
    yield Preset(
        "quick",
        "Some seconds, to see that everything works.",
        {"run.steps": 300, "run.sample_every": 100, "run.checkpoint_every": 0, "gen.width": 16, "disc.width": 16},
    )
    yield Preset(
        "dcgan-paper",
        "The settings of the DCGAN paper (arXiv:1511.06434): uniform latents, batches of 128.",
        {
            "gen": "dcgan",
            "disc": "dcgan",
            "loss": "ns",
            "gen.width": 128,
            "disc.width": 64,
            "gen.latent_dim": 100,
            "gen.prior": "uniform",
            "run.batch_size": 128,
        },
    )
    yield Preset(
        "mnist-laptop",
        "MNIST with a narrow DCGAN, for some minutes on a laptop's processor.",
        {
            "data": "mnist",
            "gen": "dcgan",
            "disc": "dcgan",
            "gen.width": 32,
            "disc.width": 32,
            "run.steps": 4000,
        },
    )
    for data, words, width, lr, steps in (
        ("mnist", "MNIST with its labels", 32, 0.0064, 4000),
        ("digits", "The digits that ship with ganzoo, with their labels,", 64, 0.0032, 5000),
    ):
        yield Preset(
            f"{data}-5min",
            f"{words} in five minutes on two slow cores: large learning rates that fall to zero.",
            {
                "data": data,
                "gen": "cgan",
                "disc": "cgan",
                "loss": "hinge",
                "gen.width": width,
                "disc.width": width,
                "gen_optim.lr": lr,
                "disc_optim.lr": lr / 4,  # docs/performance.md has what other rates scored
                "gen_optim.decay_steps": steps,
                "disc_optim.decay_steps": steps,
                "run.steps": steps,
            },
        )
    yield Preset(
        "mode-collapse",
        "The plain minimax game on a ring of eight modes: watch it fall onto one of them.",
        {
            "data": "ring",
            "gen": "mlp",
            "disc": "mlp",
            "loss": "minimax",
            "trainer": "alternating",
            "run.ema_half_life": 0,  # an average over time would hide how it goes round
        },
    )
    yield Preset(
        "unrolled-ring",
        "The same game with the critic unrolled by five steps: it covers the ring (arXiv:1611.02163).",
        {"data": "ring", "gen": "mlp", "disc": "mlp", "loss": "minimax", "trainer": "unrolled", "trainer.steps": 5},
    )
    falling = {"lr": 0.001, "decay_steps": 8000}
    points = {"latent_dim": 2, "width": 256, "depth": 3, "init_gain": 1.4}
    yield Preset(
        "all-modes",
        "All modes of the grid, or with --data ring of the ring: docs/results/modes.md has five seeds of each.",
        {
            "data": "grid",
            "gen": "mlp",
            "disc": "mlp",
            "loss": "rpgan",
            "reg": ("r1", "r2"),
            "reg.r1.gamma": 0.03,
            "reg.r2.gamma": 0.03,
            **{f"gen.{name}": value for name, value in points.items()},
            **{f"disc.{name}": value for name, value in points.items() if name != "latent_dim"},
            **{f"{side}.{name}": value for side in ("gen_optim", "disc_optim") for name, value in falling.items()},
            "run.batch_size": 128,
            "run.ema_half_life": 20_000,
            "run.steps": 8000,
        },
    )
    yield Preset(
        "r3gan-objective",
        "Relativistic pairing with both zero-centred penalties and no normalisation (arXiv:2501.05441).",
        {
            "loss": "rpgan",
            "reg": ("r1", "r2"),
            "gen.norm": "none",
            "disc.norm": "none",
            "gen_optim.betas": (0.0, 0.99),
            "disc_optim.betas": (0.0, 0.99),
        },
    )
