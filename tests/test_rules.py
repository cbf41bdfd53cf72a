"""What cannot be combined, in sentences; and what a recipe changes so that it can."""

from __future__ import annotations

from typing import Any

import pytest
from installing import installed

from ganzoo.api import CONDITIONAL, MIXES_SAMPLES, Spec
from ganzoo.config import COMMAND_LINE, Layer, RunConfig, resolve
from ganzoo.options import options_of
from ganzoo.registry import registry

LABELLED = Spec((1, 28, 28), 10)
UNLABELLED = Spec((3, 64, 64))
POINTS = Spec((2,))
ODD = Spec((3, 50, 50))

PENALISED: list[dict[str, Any]] = [
    {"loss": "wgan-gp"},
    *({"reg": name} for name in ("gp", "r1", "r2", "dragan")),
]
"""Choices that need each sample's own gradient."""


def configured(**choices: Any) -> RunConfig:
    values = {path.replace("__", "."): value for path, value in choices.items()}
    return resolve([Layer(COMMAND_LINE, values, textual=True)])


def sentences(spec: Spec, **choices: Any) -> list[str]:
    return configured(**choices).plan(spec).broken_rules()


def ids(choice: dict[str, Any]) -> str:
    return "-".join(choice.values())


def test_what_two_parts_refuse_for_one_reason_is_said_once() -> None:
    (sentence,) = sentences(POINTS, gen="dcgan", disc="dcgan")
    assert sentence == (
        "The generator dcgan cannot be used with the data set digits: its convolutions need images, and the samples "
        "are points of shape 2; choose --gen mlp and --disc mlp."
    )


@pytest.mark.parametrize("choice", PENALISED, ids=ids)
@pytest.mark.parametrize("disc", ["dcgan", "mlp", "cgan"])
def test_penalties_take_batch_norm_off_the_critic(disc: str, choice: dict[str, Any]) -> None:
    gen = {"gen": "cgan"} if disc == "cgan" else {}
    config = configured(disc=disc, **gen, **choice)
    assert config.disc.config.norm == "none"
    assert config.origins["disc.norm"].startswith("recipe of ")
    assert next(iter(choice.values())) in config.origins["disc.norm"]
    assert config.plan(LABELLED).broken_rules() == []


@pytest.mark.parametrize("choice", PENALISED, ids=ids)
@pytest.mark.parametrize("disc", ["dcgan", "mlp", "cgan", "torchvision"])
def test_batch_norm_that_is_asked_for_is_refused_beside_a_penalty(disc: str, choice: dict[str, Any]) -> None:
    gen = {"gen": "cgan"} if disc == "cgan" else {}
    (sentence,) = sentences(LABELLED, disc=disc, disc__norm="batch", **gen, **choice)
    assert disc in sentence
    assert "batch norm" in sentence
    assert "each sample's own gradient" in sentence
    assert "--disc.norm layer" in sentence


@pytest.mark.parametrize("choice", PENALISED, ids=ids)
@pytest.mark.parametrize("norm", ["layer", "instance", "group", "spectral", "none"])
def test_other_norms_are_fine_beside_a_penalty(norm: str, choice: dict[str, Any]) -> None:
    config = configured(disc="dcgan", disc__norm=norm, **choice)
    assert config.disc.config.norm == norm
    assert config.origins["disc.norm"] == COMMAND_LINE
    assert config.plan(UNLABELLED).broken_rules() == []


def test_several_penalties_complain_once() -> None:
    broken = sentences(LABELLED, loss="wgan-gp", reg="r1,r2", disc="dcgan", disc__norm="batch")
    assert len(broken) == 1


def test_one_halving_has_no_batch_norm_to_refuse() -> None:
    assert sentences(Spec((1, 8, 8)), disc="dcgan", disc__norm="batch", loss="wgan-gp") == []


def test_a_critic_that_is_differentiable_once_is_refused() -> None:
    with installed("odd_parts"):
        (sentence,) = sentences(LABELLED, disc="once", loss="wgan-gp")
        assert "once cannot have a gradient penalty" in sentence
        assert "twice" in sentence
        assert sentences(LABELLED, disc="once", loss="ns") == []


def test_attention_of_torchvision_may_have_a_penalty() -> None:
    assert sentences(LABELLED, disc="torchvision", disc__model="vit_b_16", loss="wgan-gp") == []
    assert sentences(LABELLED, disc="torchvision", disc__model="vit_b_16", trainer="unrolled") == []


def test_torchvision_loses_its_batch_norm_to_a_penalty_too() -> None:
    config = configured(disc="torchvision", loss="wgan-gp")
    assert config.disc.config.norm == "none"
    assert config.plan(LABELLED).broken_rules() == []


@pytest.mark.parametrize(
    ("spec", "choices", "words"),
    [
        (POINTS, {"gen": "dcgan", "disc": "mlp"}, ["generator dcgan", "points", "--gen mlp"]),
        (POINTS, {"gen": "mlp", "disc": "dcgan"}, ["discriminator dcgan", "points", "--disc mlp"]),
        (POINTS, {"gen": "mlp", "disc": "torchvision"}, ["torchvision", "points", "--disc mlp"]),
        (ODD, {"gen": "dcgan", "disc": "mlp"}, ["generator dcgan", "3x50x50", "48, 64", "--gen mlp"]),
        (ODD, {"gen": "mlp", "disc": "dcgan"}, ["discriminator dcgan", "3x50x50", "48, 64", "--disc mlp"]),
        (Spec((1, 50, 50), 3), {"gen": "cgan"}, ["cgan", "1x50x50", "48, 64"]),
        (UNLABELLED, {"gen": "cgan"}, ["cgan", "no labels", "labelled data"]),
        (LABELLED, {"gen": "cgan", "disc": "dcgan"}, ["generator cgan", "discriminator dcgan", "--disc cgan"]),
        (LABELLED, {"gen": "dcgan", "disc": "cgan"}, ["discriminator cgan", "generator dcgan", "--gen cgan"]),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
def test_what_cannot_be_combined(spec: Spec, choices: dict[str, str], words: list[str]) -> None:
    (sentence,) = sentences(spec, **choices)
    assert all(word in sentence for word in words), sentence
    assert sentence.endswith(".")
    assert sentence.count(": ") == 1
    assert sentence.count("; ") == 1


def test_cgan_brings_its_discriminator() -> None:
    config = configured(gen="cgan")
    assert config.disc.name == "cgan"
    assert config.origins["disc"] == "recipe of generator cgan"
    assert config.plan(LABELLED).broken_rules() == []
    assert config.plan(LABELLED).has(CONDITIONAL, "gen", "disc")


@pytest.mark.parametrize("spec", [LABELLED, UNLABELLED, ODD, POINTS], ids=str)
def test_the_mlp_serves_everything(spec: Spec) -> None:
    for loss in ("minimax", "ns", "lsgan", "hinge", "rpgan", "wgan-clip", "wgan-gp"):
        assert sentences(spec, gen="mlp", disc="mlp", loss=loss) == []


def test_dcgan_has_batch_norm_unless_somebody_minds() -> None:
    config = configured(data="mnist", gen="dcgan", disc="dcgan", loss="ns")
    assert config.gen.config.norm == config.disc.config.norm == "batch"
    assert config.origins["disc.norm"] == "recipe of discriminator dcgan"
    assert config.plan(LABELLED).has(MIXES_SAMPLES, "disc")
    assert configured(data="mnist", loss="wgan-gp", gen="dcgan").gen.config.norm == "batch", "the generator keeps it"
    unsaid = registry().choose("discriminator", "dcgan")
    assert unsaid.config.norm == "auto"
    assert unsaid.config.norm_used == "batch"


@pytest.mark.parametrize(
    ("loss", "name", "lr", "betas", "critic_steps"),
    [
        ("ns", "adam", 2e-4, (0.5, 0.999), 1),
        ("wgan-clip", "rmsprop", 5e-5, (0.5, 0.999), 5),
        ("wgan", "rmsprop", 5e-5, (0.5, 0.999), 5),
        ("wgan-gp", "adam", 1e-4, (0.0, 0.9), 5),
    ],
)
def test_recipes_of_the_papers(loss: str, name: str, lr: float, betas: tuple[float, float], critic_steps: int) -> None:
    config = configured(loss=loss, gen="dcgan", disc="dcgan")
    for side in (config.gen_optim, config.disc_optim):
        assert (side.name, side.lr, side.betas) == (name, lr, betas)
    assert config.trainer.config.critic_steps == critic_steps
    assert config.run.batch_size == 64


def test_dragan_brings_the_optimisers_of_its_experiments() -> None:
    config = configured(loss="ns", gen="dcgan", disc="dcgan", reg="dragan")
    for side in (config.gen_optim, config.disc_optim):
        assert (side.name, side.lr, side.betas) == ("adam", 1e-4, (0.5, 0.999))
    assert configured(reg="dragan", optim__lr="0.0003").gen_optim.lr == 3e-4


def test_the_command_line_wins_over_recipes() -> None:
    config = configured(loss="wgan-gp", optim__lr="0.01", trainer__critic_steps="2")
    assert config.disc_optim.lr == config.gen_optim.lr == 0.01
    assert config.trainer.config.critic_steps == 2


def test_every_recipe_of_ours_names_settings_that_exist_with_values_that_fit() -> None:
    sections = {"gen", "disc", "loss", "reg", "trainer", "data", "run", "gen_optim", "disc_optim", "optim"}
    for entry in registry().entries():
        assert {path.partition(".")[0].partition("/")[0] for path in entry.component.recipe} <= sections, entry.id
        for opt in options_of(entry.component.config):
            assert opt.help.endswith("."), f"{entry.id} {opt.name}"
        assert entry.component.summary.endswith("."), entry.id
