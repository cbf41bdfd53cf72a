"""Which value wins, where it came from, and what is refused."""

from __future__ import annotations

import contextlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganzoo.config import COMMAND_LINE, Layer, RunConfig, changed, flatten, read_file, resolve
from ganzoo.errors import UsageError


def file(**values: Any) -> Layer:
    return Layer("file x.toml", values)


def flags(values: dict[str, Any]) -> Layer:
    return Layer(COMMAND_LINE, values, textual=True)


def test_defaults_alone_make_a_whole_configuration() -> None:
    config = resolve()
    assert (config.data.id, config.gen.id, config.loss.id) == ("ganzoo/digits", "ganzoo/dcgan", "ganzoo/ns")
    assert config.plan().broken_rules() == []


def test_each_layer_is_over_the_one_before() -> None:
    layers = [
        Layer("preset p", {"gen.width": 1, "run.steps": 1, "run.seed": 1}, optional=True),
        Layer("file f", {"gen.width": 2, "run.steps": 2}),
        flags({"gen.width": "3"}),
    ]
    config = resolve(layers)
    assert (config.gen.config.width, config.run.steps, config.run.seed) == (3, 2, 1)
    paths = ("gen.width", "run.steps", "run.seed", "run.batch_size", "run.samples")
    assert [config.origins[path] for path in paths[:3]] == [COMMAND_LINE, "file f", "preset p"]
    assert config.origins["run.samples"] == "default"


def test_the_loss_has_the_last_word_among_recipes_and_the_user_over_it() -> None:
    recipe = resolve([flags({"loss": "wgan-gp"})])
    assert recipe.gen_optim.lr == 1e-4
    assert recipe.gen_optim.betas == (0.0, 0.9)
    assert recipe.trainer.config.critic_steps == 5
    assert recipe.origins["gen_optim.lr"] == "recipe of loss wgan-gp"
    mine = resolve([flags({"loss": "wgan-gp", "gen_optim.lr": "0.5"})])
    assert (mine.gen_optim.lr, mine.disc_optim.lr) == (0.5, 1e-4)


def test_a_recipe_may_choose_components() -> None:
    config = resolve([flags({"data": "ring"})])
    assert (config.gen.name, config.disc.name) == ("mlp", "mlp")
    assert config.origins["gen"] == "recipe of dataset ring"
    assert resolve([flags({"data": "ring", "gen": "dcgan"})]).gen.name == "dcgan"


def test_auto_leaves_the_choice_to_the_layer_below() -> None:
    config = resolve([file(**{"loss": "wgan-gp", "gen_optim.lr": 0.3}), flags({"gen_optim.lr": "auto", "gen": "auto"})])
    assert (config.gen_optim.lr, config.gen.name) == (0.3, "dcgan")
    assert config.origins["gen_optim.lr"] == "file x.toml"


def test_optim_sets_both_sides_below_what_names_one() -> None:
    config = resolve([flags({"disc_optim.lr": "0.1", "optim.lr": "0.2"})])
    assert (config.gen_optim.lr, config.disc_optim.lr) == (0.2, 0.1)
    config = resolve([file(**{"disc_optim.lr": 0.1}), flags({"optim.lr": "0.2"})])
    assert (config.gen_optim.lr, config.disc_optim.lr) == (0.2, 0.2)


def test_settings_of_the_run_need_no_prefix() -> None:
    assert resolve([file(steps=7)]) == resolve([file(**{"run.steps": 7})])


def test_regularizers_are_named_in_a_list_or_with_commas() -> None:
    listed = resolve([file(reg=["r1", "r2"], **{"reg.r1.gamma": 3.0})])
    assert [reg.name for reg in listed.regs] == ["r1", "r2"]
    assert listed == resolve([flags({"reg": "r1,r2", "reg.r1.gamma": "3"})])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"gen": "dcgna"}, r"There is no generator 'dcgna'\. Did you mean dcgan"),
        ({"gen": 3}, r"gen \(.*\) must be a name, not 3"),
        ({"reg": ["nope"]}, r"There is no regularizer 'nope'"),
        ({"reg": ["r1", "r1"]}, r"The regularizer 'r1' is asked for twice"),
        ({"gen.widht": 3}, r"There is no setting 'gen\.widht' \(file x\.toml\)\. Did you mean gen\.width"),
        ({"gen.width": "wide"}, r"gen\.width \(file x\.toml\) must be int >= 1, not 'wide'"),
        ({"gen.width": "64"}, r"gen\.width \(file x\.toml\) must be int >= 1, not '64'"),
        ({"gen.width": 0}, r"gen\.width \(file x\.toml\) must be int >= 1, not 0"),
        ({"run.steps": -1}, r"steps \(file x\.toml\) must be int >= 0, not -1"),
        ({"steps": True}, r"steps \(file x\.toml\) must be int >= 0, not true"),
        ({"run.stepz": 3}, r"There is no setting 'stepz' \(file x\.toml\)\. Did you mean steps"),
        ({"batchsize": 3}, r"There is no setting 'batchsize' .*Did you mean batch_size"),
        ({"optim.lr": 0}, r"gen_optim\.lr \(file x\.toml\) must be float > 0, not 0"),
        ({"optim.learning": 1}, r"There is no setting 'gen_optim\.learning'"),
        ({"gen_optim.betas": [0.5]}, r"gen_optim\.betas .* must be float,float from 0 to 1, not \[0\.5\]"),
        (
            {"gen_optim.betas": [0.5, 2.0]},
            r"gen_optim\.betas .* must be float,float from 0 to 1, not \[0\.5, 2\.0\]",
        ),
        ({"disc_optim.name": "lion"}, r"disc_optim\.name .* must be adam\|adamw\|rmsprop\|sgd, not 'lion'"),
        ({"reg.r1.gamma": 1.0}, r"'reg\.r1\.gamma' .* is not used; add --reg r1"),
        ({"reg": ["r1"], "reg.r1.gama": 1.0}, r"There is no setting 'reg\.r1\.gama'.*Did you mean reg\.r1\.gamma"),
        (
            {"loss": "hinge", "loss.weight": 1.0},
            r"'loss\.weight' \(file x\.toml\) is unknown: loss hinge has no options",
        ),
        ({"generator.width": 1}, r"There is no setting 'generator\.width'"),
        ({"seed": 2**63}, r"seed .* must be int from 0 to 9223372036854775807"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolve([file(**values)])


def test_a_recipe_or_preset_may_speak_of_what_was_not_chosen() -> None:
    resolve([Layer("preset p", {"gen.no_such_option": 1, "reg.r1.gamma": 2}, optional=True)])


OUT = st.sampled_from(["runs", "/tmp/x y", "ü"])
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "data": st.sampled_from(["digits", "ring", "mnist", "grid"]),
        "gen": st.sampled_from(["mlp", "dcgan", "ganzoo/cgan"]),
        "disc": st.sampled_from(["mlp", "dcgan"]),
        "loss": st.sampled_from(["ns", "minimax", "wgan-gp", "wgan-clip", "hinge"]),
        "reg": st.lists(st.sampled_from(["r1", "r2", "gp"]), unique=True),
        "trainer": st.sampled_from(["alternating", "unrolled"]),
        "gen.width": st.integers(1, 512),
        "run.seed": st.integers(0, 2**63 - 1),
        "run.name": st.none() | st.from_regex(r"[a-z]+", fullmatch=True).filter(lambda name: name != "auto"),
        "run.out": OUT,
        "run.deterministic": st.booleans(),
        "optim.lr": st.floats(1e-9, 1e9),
        "optim.betas": st.tuples(st.floats(0, 1), st.floats(0, 1)).map(list),
    },
)


@given(CHOICES)
def test_a_saved_configuration_replays_itself(values: dict[str, Any]) -> None:
    config = resolve([file(**values)])
    saved = json.loads(json.dumps(config.to_dict()))
    again = resolve([Layer("file config.json", flatten(saved, "config.json"))])
    assert again == config
    assert changed(config, again) == []


def test_changes_that_a_resumed_run_may_have_are_not_listed() -> None:
    old = resolve()
    assert changed(old, resolve([file(steps=1, name="other", log_every=1)])) == []
    assert changed(old, resolve([file(seed=1, **{"gen.width": 8})])) == ["gen.width", "run.seed"]
    assert "gen" in changed(old, resolve([file(gen="mlp")]))


TOML = """
gen = "dcgan"
steps = 9
[disc]
name = "mlp"
width = 16
[reg.r1]
gamma = 2
[optim]
lr = 1e-3
[run]
seed = 4
"""


def test_a_toml_file_says_the_same_as_flags(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(TOML)
    typed = {"gen": "dcgan", "steps": "9", "disc": "mlp", "disc.width": "16", "reg": "r1", "reg.r1.gamma": "2"}
    assert resolve([read_file(path)]) == resolve([flags({**typed, "optim.lr": "1e-3", "seed": "4"})])
    assert resolve([read_file(path)]).origins["run.seed"] == "file x.toml"
    assert tomllib.loads(TOML)["run"] == {"seed": 4}


def test_the_config_of_a_run_is_read_with_what_stands_around_it(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config: RunConfig = resolve([file(steps=3)])
    path.write_text(json.dumps({"format": "ganzoo-run/1", "config": config.to_dict(), "versions": {}}))
    assert resolve([read_file(path)]) == config


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.toml", b"steps = ", r"x\.toml is not valid TOML"),
        ("x.toml", b"\xff\xfe", r"x\.toml cannot be read"),
        ("x.json", b"{", r"x\.json is not valid JSON"),
        ("x.json", b"[" * 100_000, r"x\.json is nested absurdly deep"),
        ("x.json", b'{"gen": ' + b"[" * 40 + b"]" * 40 + b"}", r"x\.json is nested absurdly deep"),
        ("x.json", b'{"gen": "\\ud800"}', r"x\.json holds text that is no Unicode"),
        ("x.json", b'{"steps": 1, "steps": 2}', r"x\.json is not valid JSON: it says 'steps' twice"),
        ("x.toml", b"steps = 0x" + b"f" * 5000, r"steps \(file x\.toml\) must be int"),
        ("x.toml", b"#" * (2**20 + 1), r"x\.toml is absurdly long"),
        ("x.toml", b'gen = ["dcgan"]', r'gen \(file x\.toml\) must be a name, not \["dcgan"\]'),
        ("x.json", b"[1]", r"must hold a table of settings, not a list"),
        ("x.json", b"3", r"must hold a table of settings, not a int"),
        ("x.toml", b"[reg]\nr1 = 3", r"reg\.r1 \(x\.toml\) must be a table of options"),
        ("x.toml", b"[gen.deep]\nx = 3", r"There is no setting 'gen\.deep'"),
        ("x.toml", b"[gen]\nwidth = {a = 1}", r"gen\.width \(file x\.toml\) must be int >= 1"),
        ("x.toml", b"reg = 3", r"reg \(file x\.toml\) must be a name, not 3"),
        ("x.toml", b"[run]\nsteps = inf", r"steps \(file x\.toml\) must be int"),
        ("x.toml", b"optim = 3", r"There is no setting"),
        ("x.toml", b"gen = []", r"gen \(file x\.toml\) must be a name"),
        ("x.json", b'{"gen": {"name": null}}', r"gen \(file x\.json\) must be a name"),
        ("x.toml", b"steps = 2020-01-01", r"steps \(file x\.toml\) must be int"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        resolve([read_file(path)])


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no configuration file"):
        read_file(tmp_path / "nope.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_file(tmp_path)


@given(
    st.dictionaries(
        st.sampled_from(["gen", "reg", "run", "optim", "data", "steps", "reg.r1", ""]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "r1", "width"]), inner)
            ),
            max_leaves=5,
        ),
    )
)
def test_no_file_whatever_it_holds_ends_in_a_traceback(nested: dict[str, Any]) -> None:
    with contextlib.suppress(UsageError):
        resolve([Layer("file x", flatten(nested, "x"))])


def test_a_recipes_value_that_the_chosen_part_does_not_know_is_passed_over() -> None:
    odd = Layer("recipe of loss odd", {"disc.norm": "spectral", "gen.width": -3}, optional=True)
    config = resolve([odd, Layer("command line", {"disc": "torchvision", "data": "mnist"}, textual=True)])
    assert config.disc.config.norm == "auto"
    assert config.gen.config.width == 64


def test_a_file_with_another_component_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(
        json.dumps({"config": resolve([Layer("x", {"reg": ("r1",), "gen.width": 8})]).to_dict(), "format": 1})
    )
    changes = {"loss": "hinge", "gen": "mlp", "disc": "mlp", "reg": ()}
    config = resolve([read_file(file), Layer("command line", changes)])
    assert (config.loss.name, config.gen.name, config.regs) == ("hinge", "mlp", ())
    assert config.gen.config.width == 128, "the width of the other generator is not meant"


def test_a_recipe_may_speak_of_one_component_alone() -> None:
    assert resolve().gen.config.width == 48
    assert resolve().origins["gen.width"] == "recipe of dataset digits"
    assert resolve([Layer("command line", {"gen": "mlp", "disc": "mlp"})]).gen.config.width == 128


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.TOML", b"[gen]\nwidth = 32"),
        ("x.toml", b"\xef\xbb\xbf[gen]\nwidth = 32"),
        ("x.JSON", b'{"gen": {"width": 32}}'),
        ("x.json", b'\xef\xbb\xbf{"gen": {"width": 32}}'),
    ],
)
def test_suffixes_in_capitals_and_byte_order_marks_are_no_obstacle(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert resolve([read_file(tmp_path / name)]).gen.config.width == 32


def test_a_mapping_may_be_nested_as_files_are() -> None:
    nested = Layer("arguments", {"gen": {"name": "dcgan", "width": 32}, "reg": {"r1": {"gamma": 3.0}}, "steps": 7})
    flat = Layer("arguments", {"gen": "dcgan", "gen.width": 32, "reg": ["r1"], "reg.r1.gamma": 3.0, "steps": 7})
    assert resolve([nested]) == resolve([flat])
    wrong: Any = 5
    with pytest.raises(UsageError, match=r"The settings \(arguments\) must be a mapping"):
        resolve([Layer("arguments", wrong)])


def test_long_lists_and_long_words_make_no_long_sentences() -> None:
    with pytest.raises(UsageError, match=r"and \d+ more") as caught:
        resolve([Layer("arguments", {"qqqq": 3})])
    assert len(str(caught.value)) < 400
    with pytest.raises(UsageError) as caught:
        resolve([Layer("arguments", {"gen": "x" * 10**6})])
    assert len(str(caught.value)) < 2100


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("none", []),
        (["none"], []),
        (None, []),
        ([], []),
        ("r1", ["r1"]),
        ("r1,r2", ["r1", "r2"]),
        (["r1", "r2"], ["r1", "r2"]),
        (("ganzoo/gp",), ["gp"]),
        ({"r1": {"gamma": 2.0}, "r2": {}}, ["r1", "r2"]),
    ],
    ids=repr,
)
def test_regularizers_in_a_mapping_are_those_of_the_command_line(given: object, names: list[str]) -> None:
    assert [reg.name for reg in resolve([Layer("test", {"reg": given})]).regs] == names
    over = resolve([Layer("below", {"reg": ["dragan"]}), Layer("above", {"reg": given})])
    assert [reg.name for reg in over.regs] == names


def test_a_cell_of_the_matrix_is_a_configuration() -> None:
    cell = {"gen": "dcgan", "disc": "mlp", "loss": "ns", "trainer": "alternating", "reg": "none"}
    assert resolve([Layer("cell", cell)]).regs == ()


def test_no_regularizer_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('reg = "none"\n', encoding="utf-8")
    below = Layer("preset", {"reg": ["r1"]})
    assert resolve([below, read_file(tmp_path / "a.toml")]).regs == ()
