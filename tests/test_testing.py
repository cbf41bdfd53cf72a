"""The conformance kit catches what it is there for; ``broken_parts`` has a component for every fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installing import installed

from ganzoo.api import Spec
from ganzoo.errors import UsageError
from ganzoo.testing import Check, check_component, checks, checks_for

FAULTS = [
    ("generator", "untold", "has-a-summary", "has no summary"),
    ("generator", "mute", "explains-its-options", "does not explain width"),
    ("generator", "unfit", "survives-files-and-the-command-line", "come back from JSON as Unfit("),
    ("generator", "changeable", "survives-files-and-the-command-line", "decorate them with @dataclass(frozen=True)"),
    ("generator", "absent", "names-a-class-that-can-be-imported", "does not import"),
    ("generator", "alien", "names-a-class-that-can-be-imported", "is no ganzoo.nn.Generator"),
    ("generator", "undocumented", "has-a-docstring", "without a docstring"),
    ("generator", "idle", "is-listed-without-torch", "import torch"),
    ("generator", "misspelt", "has-a-recipe-that-exists", "Did you mean gen_optim.lr"),
    ("generator", "mistyped", "has-a-recipe-that-exists", "must be float"),
    ("generator", "hollow", "has-rules-that-speak", "unknown placeholder 'network'"),
    ("generator", "nowhere", "serves-some-task", "refuses every task"),
    ("generator", "flat", "has-the-right-shapes", "returns (1, 64) for a batch of 1 of 1x8x8, not (1, 1, 8, 8)"),
    ("generator", "restless", "draws-latents-by-the-seed", "pass rng on"),
    ("generator", "wild", "stays-within-the-range", "end the network in tanh"),
    ("generator", "broken_objectives/bright", "stays-within-the-range", "not in a sigmoid"),
    ("generator", "deaf", "depends-on-its-input", "same output for other inputs"),
    ("generator", "greedy", "leaves-its-input-alone", "in place"),
    ("generator", "idle", "passes-gradients-to-every-parameter", "parameter unused.weight"),
    ("generator", "deaf", "passes-gradients-to-every-parameter", "passes no gradient to its input"),
    ("generator", "lucky", "is-built-from-the-seed", "other initial weights for the same seed"),
    ("generator", "nervous", "is-settled-in-evaluation", "other outputs for the same input"),
    ("generator", "counting", "is-settled-in-evaluation", "changes its buffers"),
    ("generator", "moody", "changes-with-the-mode-only-by-its-layers", "self.training"),
    ("generator", "late", "survives-safetensors", "it has the unknown late"),
    ("generator", "nosy", "is-built-without-memory", "meta device"),
    ("generator", "clingy", "can-be-copied", "so no locks or open files"),
    ("generator", "narrow", "follows-the-arithmetic", "returns torch.float32 for float64"),
    ("generator", "secretive", "uses-labels-as-declared", "without declaring the trait CONDITIONAL"),
    ("generator", "boastful", "uses-labels-as-declared", "declares the trait CONDITIONAL and ignores"),
    ("discriminator", "column", "has-the-right-shapes", "logits are [B], not [B, 1]"),
    ("discriminator", "broken_objectives/sure", "gives-logits-not-probabilities", "end it without a sigmoid"),
    ("discriminator", "broken_objectives/lastonce", "can-be-differentiated-twice", "@once_differentiable"),
    ("discriminator", "social", "mixes-samples-as-declared", "depend on the other samples"),
    ("discriminator", "normed", "mixes-samples-as-declared", "does not declare the trait mixes-samples"),
    ("discriminator", "onceonly", "can-be-differentiated-twice", "declare the trait NO_DOUBLE_BACKWARD"),
    ("loss", "faulty_parts/paired", "says-whether-it-uses-reals", "set uses_real = True"),
    ("loss", "listed", "returns-scalars", "a tensor (8,), not a scalar"),
    ("loss", "listed", "trains-with-every-loss-and-trainer", "fails when it trains with gen ganzoo/"),
    ("loss", "backwards", "pulls-logits-the-right-way", "turn the sign of its generator term"),
    ("loss", "exploding", "stays-finite-for-huge-logits", "logsumexp"),
    ("loss", "unbalanced", "is-zero-sum-as-declared", "declares zero_sum"),
    ("loss", "broken_objectives/steepness", "asks-for-gradients-as-declared", "uses fake_gradient() and does not"),
    ("loss", "broken_objectives/rising", "resumes-exactly", "register_buffer"),
    ("loss", "dice", "keeps-its-state", "other initial values"),
    ("regularizer", "void", "does-something", "neither a penalty nor a constraint"),
    ("regularizer", "broken_objectives/unreturned", "does-something", "did you forget it?"),
    (
        "regularizer",
        "broken_objectives/undeclared",
        "asks-for-gradients-as-declared",
        "uses gradient_at() and does not",
    ),
    ("regularizer", "broken_objectives/shared", "asks-for-gradients-as-declared", "uses the gradient at the reals and"),
    ("regularizer", "broken_objectives/amnesic", "resumes-exactly", "register_buffer"),
    ("regularizer", "broken_objectives/null", "has-a-finite-penalty", "teaches the critic nothing"),
    ("regularizer", "rooted", "has-a-finite-penalty", "gradient is not finite"),
    ("regularizer", "dicey", "has-a-finite-penalty", "critic_pass.rng"),
    ("regularizer", "renaming", "keeps-names-and-shapes", "constrains the unknown module."),
    ("trainer", "silent", "reports-metrics", "reports no loss_g"),
    ("trainer", "stepper", "trains-with-every-loss-and-trainer", "leaves the generator as it was"),
    ("trainer", "gambler", "repeats-itself", "self.bundle.noise.rng"),
    ("trainer", "forgetful", "resumes-exactly", "load_state_dict()"),
    ("dataset", "square", "holds-what-its-spec-says", "gives batches of (64, 1), not (64, 2)"),
    ("dataset", "bright", "keeps-images-in-range", "x * 2 - 1"),
    ("dataset", "fromone", "labels-as-its-spec-says", "count them from 0"),
    ("dataset", "shuffled", "repeats-its-order", "other batches for the same seed"),
    ("dataset", "broken_objectives/counted", "goes-on-where-a-run-was-resumed", "other batches after a run is resumed"),
    ("dataset", "averaged", "fetches-each-sample-by-itself", "beside others"),
    ("dataset", "held", "can-be-sent-to-a-process", "keep no lambda"),
    ("dataset", "away", "moves-to-a-device", "return self"),
    ("extractor", "wider", "gives-the-features-that-it-states", "set dim and num_classes"),
    ("extractor", "centred", "sees-each-image-by-itself", "use no statistics of the batch"),
    ("extractor", "fresh", "is-the-same-every-time", "when it is built again"),
    ("extractor", "learner", "is-frozen", "trains mix.weight, mix.bias"),
    ("extractor", "blind", "looks-at-the-image", "two images the same features"),
    ("extractor", "nameless", "says-by-a-digest-what-it-is", "has the digest 'version 1'"),
    ("extractor", "hopeful", "refuses-points-in-words", "takes points for images"),
    ("launcher", "boaster", "runs-jobs-and-tells-how-they-end", "start jobs with ganzoo.api.Work"),
    ("launcher", "boaster", "stops-when-it-is-asked", "does not say of ['first', 'second', 'third'] that it was"),
]
HOMES = {"extractor": "broken_extractors", "launcher": "broken_launchers"}
"""Modules of the kinds whose faults are not in ``broken_parts``."""
SOUND = [("generator", "net"), ("discriminator", "critic"), ("loss", "sound"), ("dataset", "drawn")]


PARTICULAR = [
    ("generator", "particular_parts/bylabel"),
    ("generator", "particular_parts/black"),
    ("discriminator", "particular_parts/zero"),
    ("discriminator", "particular_parts/attending"),
    ("discriminator", "unusual_parts/picking"),
    ("discriminator", "unusual_parts/settled"),
    ("regularizer", "particular_parts/shifted"),
    ("loss", "particular_parts/sized"),
    ("loss", "particular_parts/classes"),
    ("trainer", "particular_parts/wide"),
]
FEW = (Spec((1, 8, 8), 4), Spec((2,), 4))


@pytest.fixture(scope="module", autouse=True)
def broken_parts() -> Iterator[None]:
    """The plugin with the faults, for this module alone."""
    with installed(
        "broken_parts", "broken_objectives", "broken_extractors", "broken_launchers", "faulty_parts", "sound_parts"
    ):
        yield


def complaint(check: Check) -> str | None:
    try:
        check()
    except AssertionError as err:
        return str(err)
    return None


@pytest.mark.parametrize(("kind", "name", "promise", "sentence"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_fault_is_caught_in_a_sentence(kind: str, name: str, promise: str, sentence: str) -> None:
    full = name if "/" in name else f"{HOMES.get(kind, 'broken_parts')}/{name}"
    found = [check for check in checks_for(kind, full) if check.name == promise]
    assert found
    text = next(filter(None, map(complaint, found)), "nothing")
    assert text.startswith(f"{kind} {full} ")
    assert sentence in text
    assert "; " in text
    assert text.endswith(".")


@pytest.mark.parametrize(("kind", "name"), SOUND)
def test_what_is_sound_has_no_fault_but_its_module(kind: str, name: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_component(kind, f"sound_parts/{name}")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["is-listed-without-torch"]


def test_a_sound_extractor_has_no_fault_but_its_module() -> None:
    with pytest.raises(AssertionError) as caught:
        check_component("extractor", "broken_extractors/sight")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["is-listed-without-torch"]


@pytest.mark.parametrize(("kind", "name"), PARTICULAR)
def test_what_starts_otherwise_or_serves_some_tasks_alone_is_sound(kind: str, name: str) -> None:
    with installed("particular_parts", "unusual_parts"):
        specs = FEW if kind in ("generator", "discriminator") and "black" not in name else None
        found = [check for check in checks_for(kind, name, specs=specs) if check.function not in checks.OF_ALL]
        told = {check.promise: complaint(check) for check in found}
    assert set(told.values()) == {None}, told


def test_what_is_refused_everywhere_is_told_so() -> None:
    with installed("particular_parts"):
        told = [complaint(check) for check in checks_for("loss", "never") if check.name == "returns-scalars"]
    assert told == [
        "loss particular_parts/never is refused with every task that is tried and every pair of networks; loosen its "
        "rules."
    ]


@pytest.mark.parametrize("name", ["lazy", "limited", "clip"])
def test_a_regularizer_that_is_rarely_at_work_is_sound(name: str) -> None:
    for check in checks_for("regularizer", f"broken_objectives/{name}"):
        if not check.name.startswith(("is-listed", "trains")):
            assert complaint(check) is None


def test_a_faulty_partner_is_named_in_place_of_the_component() -> None:
    with pytest.raises(AssertionError) as caught:
        check_component("loss", "broken_objectives/steepness")
    (line,) = (line for line in str(caught.value).splitlines() if line.startswith("trains-"))
    assert "but not beside the trainer broken_objectives/raising (RuntimeError: a fault of the trainer)" in line
    assert line.endswith("check the trainer broken_objectives/raising first, by itself.")


def test_every_promise_is_tested_by_a_fault() -> None:
    promises = {
        promise.__name__.replace("_", "-")
        for group in (checks.OF_ALL, *checks.OF_KIND.values(), *checks.ON_EXAMPLES.values())
        for promise in group
    }
    assert promises - {promise for _, _, promise, _ in FAULTS} == set()


def test_an_undeclared_use_of_reals_is_told_once() -> None:
    with pytest.raises(AssertionError) as caught:
        check_component("loss", "faulty_parts/paired")
    promises = [line.partition(":")[0] for line in str(caught.value).splitlines()]
    assert promises == ["has-a-summary", "is-listed-without-torch", "says-whether-it-uses-reals"]


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(AssertionError) as caught:
        check_component("loss", "broken_parts/exploding")
    assert {line.partition(":")[0] for line in str(caught.value).splitlines()} >= {
        "is-listed-without-torch",
        "stays-finite-for-huge-logits",
    }


def test_names_and_options_are_those_of_create() -> None:
    small = checks_for("gen", "mlp", width=3)[0].subject
    assert small.choice.config.width == 3
    wrong: list[tuple[str, str, dict[str, Any]]] = [
        ("gen", "mpl", {}),
        ("gen", "mlp", {"depht": 3}),
        ("gen", "mlp", {"width": 0}),
    ]
    for kind, name, options in wrong:
        with pytest.raises(UsageError):
            checks_for(kind, name, **options)


def test_a_check_as_text_is_an_id() -> None:
    texts = [str(check) for check in checks_for("gen", "mlp")]
    assert len(texts) == len(set(texts))
    assert "generator/mlp:has-the-right-shapes[3x64x48-4-classes]" in texts
    assert not any(" " in text for text in texts)


@pytest.mark.parametrize(
    ("file", "kind", "name"),
    [
        ("my_reg.py", "regularizer", "steep"),
        ("my_features.py", "extractor", "coarse"),
        ("my_loss.py", "loss", "quartic"),
        ("my_data.py", "dataset", "stripes"),
        ("my_critic.py", "discriminator", "plain"),
        ("my_trainer.py", "trainer", "fresh"),
    ],
)
def test_what_the_page_shows_has_no_fault_but_its_module(tmp_path: Path, file: str, kind: str, name: str) -> None:
    page = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
    (source,) = re.findall(rf"<!-- file: {file} -->\n```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / file).write_text(source, encoding="utf-8")
    with installed(str(tmp_path / file)), pytest.raises(AssertionError) as caught:
        check_component(kind, f"{Path(file).stem}/{name}")
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["is-listed-without-torch"]
