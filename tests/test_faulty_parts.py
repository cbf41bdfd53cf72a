"""A plugin's mistakes are told in a sentence that names its component and its package, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Ganzoo
from installing import installed

import ganzoo
from ganzoo import cli
from ganzoo.api import GanzooError, Spec, UsageError
from ganzoo.blame import blamed
from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.registry import config_for, create
from ganzoo.testing import checks_for

SMALL = {"data": "digits", "data.size": 8, "gen": "mlp", "disc": "mlp", "steps": 2, "batch_size": 8, "samples": 4}
MINE = "faulty_parts"
PLAIN = Spec((1, 8, 8))
PLUGIN = """from dataclasses import dataclass
from ganzoo.api import Component, hookimpl, option

@hookimpl
def ganzoo_components():
    yield {record}

"""


@pytest.fixture(scope="module", autouse=True)
def faulty_parts() -> Iterator[None]:
    """The plugin, for this module alone."""
    with installed(MINE):
        yield


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("gen flat", "returns a tensor (4, 64) from forward(), not (4, 1, 8, 8) for a batch of 4"),
        ("gen lazy", "has a lazy layer, whose 'main.weight' has no size until it is called"),
        ("gen making", "makes 'gain' in forward(), and no checkpoint with it could be read back"),
        ("disc frozen", "has no parameter that can learn"),
        ("disc stateful", "saves '_extra_state', a dict and no tensor"),
        ("disc precise", "saves 'filter' as torch.complex128, which no checkpoint holds"),
        ("disc column", "returns a tensor (4, 1) from forward(), not (4,) for a batch of 4"),
        ("loss listed", "returns a tensor (4,) from discriminator(), not a scalar"),
        ("loss halved", "returns a tensor (4,) from generator(), not a scalar"),
        ("loss paired", "looks at the logits of reals in generator(), and gets none"),
        ("loss nameless", "returns a tensor () from discriminator_terms()"),
        ("loss failing", "failed in _uneven() (faulty_parts.py, line "),
        ("loss unready", "cannot be built as faulty_parts:Unready(config, spec): TypeError: "),
        ("loss halves", "returns a term 'd_real' from discriminator_terms(), the name of another metric"),
        ("loss counted", "returns a term 'step' from generator_terms(), the name of another metric"),
        ("gen duck", "builds a Duck, which is no ganzoo.nn.Generator"),
        ("reg spread", "returns a tensor (4,) from penalty(), not a scalar"),
        ("reg total", "has the name 'loss_d' of another metric"),
        ("data pairs", "returns a tuple from draw(), not a Batch"),
        ("data double", "returns samples of torch.float64 from draw()"),
        ("data fromone", "returns labels from 1 to 10 from draw() where its spec has 10 classes"),
        ("data told", "returns labels from draw() where its spec has num_classes=None"),
    ],
)
def test_a_mistake_is_told_before_the_first_step(
    part: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section, name = part.split()
    given = {key: value for key, value in SMALL.items() if not (section == "data" and key.startswith("data"))}
    given |= {section: f"{MINE}/{name}", "out": tmp_path}
    flags = [f"--{path.replace('_', '-')}={value}" for path, value in given.items()]
    assert cli.main(["run", *flags, "--quiet"]) == 1
    said = capsys.readouterr().err
    kinds = {"gen": "generator", "disc": "discriminator", "reg": "regularizer", "data": "dataset"}
    assert said.startswith(f"Error: The {kinds.get(section, section)} {MINE}/{name} (of {MINE}) ")
    assert sentence in said
    assert "for the plugin's author to mend" in said
    assert "should not have happened" not in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.glob("*")), "nothing was trained"


def test_what_comes_too_late_to_be_read_back_is_told_at_the_first_look(tmp_path: Path) -> None:
    settings = SMALL | {"gen": f"{MINE}/tardy", "out": tmp_path, "steps": 50, "log_every": 2, "name": "it"}
    with pytest.raises(GanzooError, match=r"generator faulty_parts/tardy .* makes 'seen' in forward\(\), and no ch"):
        ganzoo.train(resolve([Layer("test", settings)]))
    assert not list((tmp_path / "it" / "checkpoints").glob("step-*"))


def test_what_comes_late_and_is_taken_back_is_no_fault(tmp_path: Path) -> None:
    settings = SMALL | {"gen": f"{MINE}/patient", "out": tmp_path, "steps": 4, "log_every": 1, "name": "it"}
    ganzoo.train(resolve([Layer("test", settings)]))
    assert ganzoo.train(resume=tmp_path / "it", steps=6).metrics()[-1]["step"] == 6


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sums", r"returns a float from step\(\) as 'loss_d', not a scalar"),
        ("quiet", r"returns a NoneType from step\(\);"),
        ("listing", r"returns a tensor \(8,\) from step\(\) as 'loss_d', not a scalar"),
        ("tally", "saves 'n', a int and no tensor"),
    ],
)
def test_what_a_trainer_returns_and_saves_is_looked_at(name: str, sentence: str, tmp_path: Path) -> None:
    settings = SMALL | {"trainer": f"{MINE}/{name}", "out": tmp_path}
    with pytest.raises(GanzooError, match=rf"The trainer faulty_parts/{name} \(of .*\) {sentence}"):
        ganzoo.train(resolve([Layer("test", settings)]))


def test_a_penalty_that_is_no_scalar_when_its_turn_comes_is_told_then(tmp_path: Path) -> None:
    settings = SMALL | {"reg": f"{MINE}/late", "out": tmp_path, "steps": 5}
    with pytest.raises(
        GanzooError, match=r"regularizer faulty_parts/late .* a tensor \(8,\) as its term 'late', not a"
    ):
        ganzoo.train(resolve([Layer("test", settings)]))


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("generator", "ganzoo.nn.Generator"),
        ("discriminator", "ganzoo.nn.Discriminator"),
        ("loss", "ganzoo.nn.Loss"),
        ("regularizer", "ganzoo.nn.Regularizer"),
        ("trainer", "ganzoo.nn.Trainer"),
        ("dataset", "ganzoo.data.Dataset"),
        ("extractor", "ganzoo.nn.Extractor"),
        ("launcher", "ganzoo.api.Launcher"),
    ],
)
def test_what_is_derived_from_no_contract_is_not_built(kind: str, base: str) -> None:
    with pytest.raises(
        GanzooError, match=rf"The {kind} faulty_parts/duck \(of .*\) builds a Duck, which is no {base};"
    ):
        ganzoo.create(kind, f"{MINE}/duck", PLAIN)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("class Net(:", "SyntaxError: "),
        ("raise OSError('no library')", "OSError: no library"),
        ("1 / 0", "ZeroDivisionError: "),
    ],
)
def test_a_target_whose_module_fails_is_told(tmp_path: Path, ganzoo: Ganzoo, content: str, why: str) -> None:
    record = "Component('generator', 'it', 'torn_target:Net')"
    (tmp_path / "torn.py").write_text(PLUGIN.format(record=record), encoding="utf-8")
    (tmp_path / "torn_target.py").write_text(content, encoding="utf-8")
    done = ganzoo("run", "-p", "torn.py", "--gen", "torn/it", "--disc", "mlp", "--steps", "1", "--quiet")
    assert done.code == 1
    assert f"generator torn/it cannot be built: its target 'torn_target:Net' does not import ({why}" in done.err
    assert "should not have happened" not in done.err


@pytest.mark.parametrize("default", ["None", "0", "'8'", "1.5"])
def test_a_default_that_no_user_could_give_breaks_its_plugin(tmp_path: Path, ganzoo: Ganzoo, default: str) -> None:
    """It would be trained with, and the run could not be opened."""
    record = "Component('generator', 'it', 'sound_parts:Net', config=Config)"
    config = f"@dataclass\nclass Config:\n    size: int = option({default}, min=1, help='Size.')"
    (tmp_path / "unset.py").write_text(PLUGIN.format(record=record) + config, encoding="utf-8")
    done = ganzoo("run", "-p", "unset.py", "--gen", "unset/it", "--disc", "mlp", "--steps", "1", "--quiet")
    assert done.code == 2
    assert "'unset' could not be loaded: the default of the option 'size' of generator/it must be int >= 1" in done.err


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"gen": f"{MINE}/forgetful"}, r"traits= of generator/forgetful \(sound_parts:Net\) returns None; .* \(\) for"),
        ({"gen": f"{MINE}/spelled"}, r"traits= of generator/spelled \(sound_parts:Net\) returns 'conditional'; "),
        ({"data": f"{MINE}/untold"}, r"spec= of dataset/untold \(.*\) returns \(1, 8, 8\); .* ganzoo\.api\.Spec\("),
    ],
)
def test_what_a_record_tells_by_functions_is_looked_at(choices: dict[str, str], sentence: str) -> None:
    with pytest.raises(GanzooError, match=sentence):
        configured(**choices).plan()


def test_options_may_be_called_as_the_words_of_a_call() -> None:
    assert config_for("generator", f"{MINE}/asking", kind="b", spec=3).spec == 3
    assert create("generator", f"{MINE}/asking", PLAIN, kind="b", spec=3).spec == PLAIN
    assert checks_for("generator", f"{MINE}/asking", kind="b", specs=[PLAIN])


def test_options_that_read_alike_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--gen", f"{MINE}/asking", "--disc", "mlp", "--gen.optim-lr", "0.25", "--gen-optim.lr", "0.125"]
    assert cli.main(["run", *given, "--dry-run", "--json"]) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["gen"]["optim_lr"], config["gen_optim"]["lr"]) == (0.25, 0.125)


def test_a_spec_holds_whole_numbers_of_pythons_own() -> None:
    given: Any = [np.int64(1), 8, np.uint8(8)]
    spec = Spec(given, np.int32(3))  # type: ignore[arg-type]
    assert spec == Spec((1, 8, 8), 3)
    assert isinstance(spec.shape, tuple)
    assert {type(number) for number in (*spec.shape, spec.num_classes)} == {int}
    for shape, classes in ((1.5, 8, 8), 3), ("188", None), (5, None), ((1, 8, 8), 3.0), ((1, 8, 8), "3"):
        with pytest.raises(UsageError, match="must be given in whole numbers, not as "):
            Spec(shape, classes)  # type: ignore[arg-type]


def test_a_norm_over_a_batch_of_one_is_refused(tmp_path: Path) -> None:
    settings = SMALL | {"out": tmp_path, "batch_size": 1}
    for part in ("gen", "disc"):
        with pytest.raises(UsageError, match=r"mlp cannot be trained on one sample, .* set --batch-size to at least 2"):
            ganzoo.train(resolve([Layer("test", settings | {f"{part}.norm": "batch"})]))
    assert ganzoo.train(resolve([Layer("test", settings)])).path.is_dir()


def test_a_run_that_cannot_draw_its_first_grid_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("ganzoo.training.loop.Session.draw", full)
    with pytest.raises(MemoryError):
        ganzoo.train(resolve([Layer("test", SMALL | {"out": tmp_path})]))
    assert not list(tmp_path.iterdir())


def test_what_happens_in_our_own_code_is_nobodys_fault() -> None:
    for fails in (lambda: resolve(3), lambda: ganzoo.create("gen", "mlp", 3)):  # type: ignore[arg-type]
        with pytest.raises((TypeError, AttributeError, GanzooError)) as caught:
            fails()
        assert blamed(caught.value) is None
    assert blamed(torch.OutOfMemoryError("full")) is None


def test_looking_at_a_run_first_changes_nothing_of_it(tmp_path: Path) -> None:
    """A batch norm's statistics and the random numbers of the first step are as without the look."""
    from ganzoo.testing import take_steps

    settings = SMALL | {"gen": "dcgan", "disc": "dcgan", "gen.width": 4, "disc.width": 4, "disc.dropout": 0.5}
    config = resolve([Layer("test", settings | {"out": tmp_path, "data.size": 16})])
    bundle, _ = take_steps(config)  # which does not look
    run = ganzoo.train(config)
    from ganzoo.training import checkpoint

    saved = checkpoint.load(checkpoint.newest_good(run.path)).model
    expected = {f"gen.{name}": value for name, value in bundle.gen.state_dict().items()}
    assert {name for name in expected if "running" in name}
    assert all(torch.equal(saved[name], value) for name, value in expected.items())


LABELLED = Spec((1, 8, 8), 4)


def configured(**choices: str) -> RunConfig:
    return resolve([Layer("test", choices)])


@pytest.mark.parametrize(
    ("gen", "disc", "words"),
    [
        ("reed", "heron", ["generator reed cannot learn", "--disc cgan or --disc faulty_parts/lark", "such as --gen"]),
        ("reed", "mlp", ["generator reed cannot learn from the discriminator mlp"]),
        ("mlp", "lark", ["discriminator lark cannot judge", "--gen cgan or --gen faulty_parts/reed", "such as --disc"]),
        ("reed", "lark", []),
        ("reed", "cgan", []),
        ("cgan", "lark", []),
        ("mlp", "heron", []),
    ],
)
def test_both_networks_use_labels_or_neither_whoever_brings_them(gen: str, disc: str, words: list[str]) -> None:
    config = configured(gen=gen, disc=disc)
    said = config.plan(LABELLED).broken_rules()
    assert len(said) == bool(words)
    assert all(word in said[0] for word in words), said
    if "cgan" not in (gen, disc):
        assert config.plan(PLAIN).broken_rules() == [], "without labels there is nothing to disagree about"
        assert configured(gen=gen, disc=disc, cond="off").plan().broken_rules() == []


def test_a_critic_without_a_choice_of_norms_is_not_told_to_choose_one() -> None:
    (said,) = configured(gen="mlp", disc="crowd", loss="wgan-gp").plan(PLAIN).broken_rules()
    assert said.startswith(
        "The discriminator crowd, which mixes the samples of a batch, cannot have a gradient penalty"
    )
    assert "--disc.norm" not in said


def test_cond_on_offers_every_generator_that_uses_labels() -> None:
    with pytest.raises(UsageError, match="choose --gen cgan, --gen faulty_parts/reed, or --cond off"):
        configured(gen="dcgan", cond="on").plan()
