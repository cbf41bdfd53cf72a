"""The command line: what it prints, where, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from commands import Ganzoo

from ganzoo import cli
from ganzoo.errors import DivergedError, Interrupted, MissingError
from ganzoo.registry import list_components


def test_help_names_every_command(ganzoo: Ganzoo) -> None:
    for args in (["--help"], ["-h"], []):
        done = ganzoo(*args)
        assert done.code == 0
        assert [line.split()[0] for line in done.out.split("Commands:\n")[1].splitlines()] == list(cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_help_and_the_table_repeats_its_first_line(ganzoo: Ganzoo, name: str) -> None:
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert command is not None
    assert command.get_short_help_str(200) == cli.COMMANDS[name][1]
    assert ganzoo(name, "-h").out == ganzoo(name, "--help").out


def test_version(ganzoo: Ganzoo) -> None:
    assert ganzoo("--version").out.startswith("ganzoo 0.")


BAD = [
    ("nonsense", "There is no command 'nonsense'. There is compare, "),
    ("rnu", "There is no command 'rnu'. Did you mean run?"),
    ("--nonsense", "No such option"),
    ("run x", "unexpected extra argument (x)"),
    ("run --gen nope", "There is no generator 'nope'."),
    ("run --gen dcgna", "Did you mean dcgan"),
    ("run --gen", "requires an argument"),
    ("run --disc nope", "There is no discriminator 'nope'."),
    ("run --loss wgna-gp", "Did you mean wgan-gp"),
    ("run --reg nope", "There is no regularizer 'nope'."),
    ("run --reg r1 --reg r1", "asked for twice"),
    ("run --trainer nope", "There is no trainer 'nope'."),
    ("run --data nope", "There is no dataset 'nope'."),
    ("run --data ./nope", "There is no data set, folder or file './nope'."),
    ("run --data acme/nope", "There is no data set, folder or file 'acme/nope'."),
    ("run --data ./words.txt", "--data takes a name, a folder, a .zip or an .npz file, not './words.txt'."),
    ("run --gen.widht 64", "No such option '--gen.widht'. Did you mean --gen.width?"),
    ("run --gen.widht=64", "No such option '--gen.widht'. Did you mean --gen.width?"),
    ("run --gen.width", "requires an argument"),
    ("run --gen.width wide", "Invalid value for '--gen.width': must be int >= 1, not 'wide'."),
    ("run --gen.width 0", "Invalid value for '--gen.width': must be int >= 1, not 0."),
    ("run --gen.width -5", "must be int >= 1"),
    ("run --gen.width 6.5", "must be int >= 1"),
    ("run --gen.norm Batch", "Invalid value for '--gen.norm': must be auto|batch|"),
    ("run --gen.critic-steps 3", "No such option '--gen.critic-steps'."),
    ("run --loss.gp-weight 3", "The loss 'ns' has no option --loss.gp-weight; wgan-gp has it."),
    ("run --data.radius 3", "has no option"),
    ("run --reg.r1.gamma 3", "sets an option of the regularizer 'r1', which is not used; add --reg r1."),
    ("run --reg.nope.gamma 3", "There is no regularizer 'nope'."),
    ("run --reg r1 --reg.r1.gama 3", "--reg.r1.gamma"),
    ("run --reg r1 --reg.r1.gamma -1", "Invalid value for '--reg.r1.gamma': must be float >= 0"),
    ("run --steps -1", "Invalid value for '--steps': must be int >= 0"),
    ("run --stepz 3", "--steps"),
    ("run --batchsize 3", "--batch-size"),
    ("run --batch-size 0", "must be int >= 1"),
    ("run --seed 99999999999999999999", "Invalid value for '--seed'"),
    ("run --precision fp8", "must be auto|fp32|bf16|fp16"),
    ("run --optim.lr 0", "Invalid value for '--optim.lr': must be float > 0"),
    ("run --optim.lr nan", "Invalid value for '--optim.lr'"),
    ("run --gen-optim.betas 0.5", "must be float,float from 0 to 1"),
    ("run --gen-optim.betas 0.5,2", "must be float,float from 0 to 1"),
    ("run --disc-optim.name lion", "must be adam|adamw|rmsprop|sgd"),
    ("run --config nope.toml", "There is no configuration file nope.toml."),
    ("run --config broken.toml", "broken.toml is not valid TOML"),
    ("run --config unknown.toml", "There is no setting 'gen.widht' (file unknown.toml). Did you mean gen.width"),
    ("run --config wrong.toml", "gen.width (file wrong.toml) must be int >= 1, not 'wide'."),
    ("run --config .", "cannot be read"),
    ("run --preset nope", "There is no preset 'nope'."),
    ("run --data ring --gen dcgan --dry-run", "choose --gen mlp"),
    ("run --data ring --loss wgan-gp --disc.norm batch --dry-run", "batch norm"),
    ("list nope", "There is no kind 'nope'."),
    ("list gen x y", "unexpected extra argument (y)"),
    ("show", "Missing argument '[KIND/]NAME'."),
    ("show dcgna", "There is no component or preset 'dcgna'. Did you mean dcgan"),
    ("show gen/nope", "There is no generator 'nope'."),
    ("show nope/dcgan", "There is no kind 'nope'."),
    ("show preset/nope", "There is no preset 'nope'."),
    ("plugins --chekc", "--check"),
    ("sample", "Missing argument 'RUN_OR_EXPORT'."),
    ("sample . -n 0", "Invalid value for '-n'"),
    ("sample . -n many", "Invalid value for '-n'"),
    ("sample . --label -1", "Invalid value for '--label'"),
    ("sample . --seed x", "Invalid value for '--seed'"),
    ("export", "Missing argument 'RUN_OR_WEIGHTS'."),
    ("export . --gen dcgan", "A run says itself what it holds; leave out --gen."),
    ("export . --shape 3,64,64", "leave out --shape."),
    ("export words.txt", "add --gen, --shape and --out."),
    ("export words.txt --shape 3x64", "Invalid value for '--shape': must be the shape of one sample"),
    ("export words.txt --shape a,b,c", "Invalid value for '--shape'"),
    ("export words.txt --gen dcgan --gen.widht 3", "Did you mean --gen.width?"),
    ("export words.txt --gen dcgan --gen.width 0", "Invalid value for '--gen.width'"),
]


@pytest.mark.parametrize(("line", "sentence"), BAD, ids=[line for line, _ in BAD])
def test_a_bad_request_is_one_sentence_and_exit_code_2(
    ganzoo: Ganzoo, tmp_path: Path, line: str, sentence: str
) -> None:
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "broken.toml").write_text("steps = ")
    (tmp_path / "unknown.toml").write_text("[gen]\nwidht = 3")
    (tmp_path / "wrong.toml").write_text('[gen]\nwidth = "wide"')
    done = ganzoo(*line.split())
    assert done.code == 2
    first, *rest = done.err.splitlines()
    assert first.startswith("Error: ")
    assert sentence in first
    assert not rest or (len(rest) == 1 and rest[0].startswith("Try 'ganzoo"))
    assert not list(tmp_path.glob("runs*"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DivergedError("It diverged."), (3, "Error: It diverged.")),
        (MissingError("No GPU."), (4, "Error: No GPU.")),
        (Interrupted("Saved.", 15), (143, "Error: Saved.")),
        (KeyboardInterrupt(), (130, "Interrupted.")),
        (KeyError("x\ny"), (1, "Error: this should not have happened: KeyError: 'x\\ny' (set GANZOO_DEBUG=1")),
        (AssertionError(), (1, "Error: this should not have happened: AssertionError (set GANZOO_DEBUG=1")),
    ],
)
@pytest.mark.parametrize("debug", ["", "1"])
def test_each_error_has_its_exit_code_and_a_traceback_only_on_request(
    ganzoo: Ganzoo, monkeypatch: pytest.MonkeyPatch, error: BaseException, expected: tuple[int, str], debug: str
) -> None:
    def fail(_self: object, _ctx: click.Context) -> None:
        raise error

    monkeypatch.setenv("GANZOO_DEBUG", debug)
    monkeypatch.setattr(click.Command, "invoke", fail)
    done = ganzoo("list")
    assert done.code == expected[0]
    assert done.err.strip().splitlines()[-1].startswith(expected[1])
    assert ("Traceback" in done.err) == bool(debug)


_FULL = "take a smaller batch or smaller networks, or end other programs."
_CUDA = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 11.90 GiB of which 1.33 GiB"


@pytest.mark.parametrize(
    ("fail", "sentence"),
    [
        (lambda: torch.empty(2**60), f"when 4611686018427387904 bytes more were asked for; {_FULL}"),
        (lambda: np.empty(2**60, np.uint8), f"Memory ran out when 1.00 EiB more were asked for; {_FULL}"),
        (lambda: bytearray(2**62), f"Memory ran out; {_FULL}"),
        (lambda: _raise(torch.OutOfMemoryError(_CUDA)), f"Memory ran out when 2.50 GiB more were asked for; {_FULL}"),
        (lambda: _raise(RuntimeError("CUDA error: out of memory")), f"Memory ran out; {_FULL}"),
        (lambda: _put(deterministic=True), "put_ has no deterministic form on this device; leave --deterministic away"),
    ],
    ids=["torch", "numpy", "python", "cuda", "cuda-async", "deterministic"],
)
def test_what_any_code_may_meet_on_a_machine_is_no_fault_of_code(
    ganzoo: Ganzoo, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], object], sentence: str
) -> None:
    monkeypatch.setattr(click.Command, "invoke", lambda _self, _ctx: fail())
    done = ganzoo("list")
    assert done.code == 1
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1
    assert "should not have happened" not in done.err


def _raise(error: Exception) -> None:
    raise error


def _put(*, deterministic: bool) -> None:
    torch.use_deterministic_algorithms(deterministic)
    try:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
    finally:
        torch.use_deterministic_algorithms(False)


def test_list_filters_by_kind_and_glob(ganzoo: Ganzoo) -> None:
    assert [item["name"] for item in ganzoo("list", "losses", "wgan*", "--json").json] == ["wgan-clip", "wgan-gp"]
    assert {item["kind"] for item in ganzoo("list", "*dcgan*", "--json").json} == {
        "generator",
        "discriminator",
        "preset",
    }
    assert ganzoo("list", "gen", "zzz", "--json").json == []
    assert ganzoo("list", "gen", "zzz").err == "Nothing has such a name.\n"
    assert {item["kind"] for item in ganzoo("list", "presets", "--json").json} <= {"preset"}


def test_lists_are_not_wrapped_when_nobody_looks(ganzoo: Ganzoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # test runners may set it
    lines = ganzoo("list", "datasets").out.splitlines()
    assert len(lines) == 2 + len(list_components("dataset"))


@pytest.mark.parametrize("name", ["gen/dcgan", "generator/dcgan", "generators/ganzoo/dcgan", "generator/ganzoo/dcgan"])
def test_show_takes_every_way_to_write_a_name(ganzoo: Ganzoo, name: str) -> None:
    assert ganzoo("show", name, "--json").json["id"] == "ganzoo/dcgan"
    text = ganzoo("show", name).out
    assert text.startswith("generator/dcgan\n")
    assert "--gen.latent-dim" in text


def test_show_of_a_bare_name_searches_all_kinds(ganzoo: Ganzoo) -> None:
    assert [item["kind"] for item in ganzoo("show", "dcgan", "--json").json] == ["generator", "discriminator"]
    assert [item["kind"] for item in ganzoo("show", "ganzoo/dcgan", "--json").json] == ["generator", "discriminator"]
    assert "--reg.r1.gamma" in ganzoo("show", "r1").out


def test_plugins_lists_all_built_ins_as_active(ganzoo: Ganzoo) -> None:
    built_in = [plugin for plugin in ganzoo("plugins", "--json").json if plugin["distribution"] == "ganzoo"]
    assert {plugin["status"] for plugin in built_in} == {"active"}
    assert "generator/dcgan" in ganzoo("plugins").out


def test_run_help_has_a_section_for_each_chosen_component(ganzoo: Ganzoo) -> None:
    text = ganzoo("run", "--data", "ring", "--loss", "wgan-gp", "--reg", "r1", "--help").out
    headings = [line.removesuffix(":") for line in text.splitlines() if line and not line.startswith(" ")]
    assert headings[1:5] == ["Components", "Run", "Optimisers", "Dataset ring"]
    assert {"Generator mlp", "Discriminator mlp", "Loss wgan-gp", "Regularizer r1", "Options"} <= set(headings)
    flat = " ".join(text.split())
    assert "--gen-optim.lr FLOAT Learning rate. [> 0; default: 0.0001 (recipe of loss wgan-gp)]" in flat
    assert "--deterministic / --no-deterministic" in flat
    assert "Generator; see 'ganzoo list generator'. [recipe of dataset ring: mlp]" in flat


def dry(ganzoo: Ganzoo, *args: str) -> Any:
    done = ganzoo("run", *args, "--dry-run", "--json")
    assert done.code == 0, done.err
    return done.json


def test_only_what_is_given_comes_from_the_command_line(ganzoo: Ganzoo) -> None:
    line = ["--gen.latent-dim", "7", "--optim.lr", "0.1", "--deterministic", "--reg", "r1,r2", "--batch-size=9"]
    printed = dry(ganzoo, *line)
    mine = {path for path, origin in printed["origins"].items() if origin == "command line"}
    optim = {"gen_optim.lr", "disc_optim.lr"}
    assert mine == {"gen.latent_dim", "run.deterministic", "run.batch_size", "reg", *optim}
    assert printed["config"]["run"]["deterministic"] is True
    assert dry(ganzoo, "--no-deterministic")["origins"]["run.deterministic"] == "command line"


def test_a_dry_run_replays_as_a_configuration_file(ganzoo: Ganzoo, tmp_path: Path) -> None:
    first = dry(ganzoo, "--loss", "wgan-gp", "--gen.width", "8", "--reg", "r1")
    (tmp_path / "again.json").write_text(json.dumps(first))
    again = dry(ganzoo, "--config", "again.json", "--gen.width", "9")
    assert again["origins"]["gen.width"] == "command line"
    again["config"]["gen"]["width"] = 8
    assert again["config"] == first["config"]


def test_a_file_chooses_components_and_so_their_options(ganzoo: Ganzoo, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('gen = "mlp"\ndata = "ring"\n')
    assert dry(ganzoo, "--config", "x.toml", "--gen.depth", "3")["config"]["gen"]["depth"] == 3


def test_reg_none_takes_away_what_a_file_asks_for(ganzoo: Ganzoo, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('reg = ["r1"]\n')
    assert list(dry(ganzoo, "--config", "x.toml")["config"]["reg"]) == ["ganzoo/r1"]
    assert dry(ganzoo, "--config", "x.toml", "--reg", "none")["config"]["reg"] == {}


def test_data_may_be_a_path(ganzoo: Ganzoo, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "digits").mkdir()
    for name in ("photos", "./photos", str(tmp_path / "photos")):
        assert dry(ganzoo, "--data", name)["config"]["data"]["path"] == name.removeprefix("./")
    assert dry(ganzoo, "--data", "digits")["config"]["data"]["name"] == "ganzoo/digits"


def test_the_table_of_a_dry_run_tells_each_origin(ganzoo: Ganzoo) -> None:
    done = ganzoo("run", "--loss", "wgan-gp", "--steps", "5", "--dry-run")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.out.splitlines()[2:]}
    assert rows["run.steps"][:1] == ["5"]
    assert rows["run.steps"][1].strip() == "command line"
    assert rows["gen_optim.lr"][1].strip() == "recipe of loss wgan-gp"
    assert rows["loss"][0] == "ganzoo/wgan-gp"


def test_a_refused_combination_may_be_tried_on_request(ganzoo: Ganzoo) -> None:
    done = ganzoo(
        "run", "--data", "ring", "--loss", "wgan-gp", "--disc.norm", "batch", "--allow-incompatible", "--dry-run"
    )
    assert done.code == 0
    assert done.err.startswith("Warning: ")


def test_a_run_from_start_to_export(ganzoo: Ganzoo, tmp_path: Path) -> None:
    small = ["--data", "ring", "--gen.width", "8", "--disc.width", "8", "--samples", "4", "--device", "cpu"]
    done = ganzoo("run", *small, "--steps", "2", "--name", "mine", "--json")
    assert done.code == 0, done.err
    assert (done.json["run"], done.json["metrics"]["step"]) == (str(Path("runs/mine")), 2)
    assert "step 2/2" in done.err

    again = ganzoo("run", *small, "--steps", "2", "--name", "mine")
    assert again.code == 2
    assert "--resume" in again.err

    longer = ganzoo("run", "--resume", "runs/mine", "--steps", "3")
    assert longer.code == 0, longer.err
    assert f"ganzoo sample {Path('runs/mine')}" in longer.out
    other = ganzoo("run", "--resume", "runs/mine", "--gen.width", "9")
    assert other.code == 2
    assert "gen.width from 8 to 9" in other.err
    quiet = ganzoo("run", "--resume", "auto", *small, "--steps", "4", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, f"{Path('runs/mine')}\n", "")

    drawn = ganzoo("sample", "runs/mine", "-n", "4", "--out", "x.png", "--device", "cpu")
    assert (drawn.code, drawn.out) == (0, "x.png\n"), drawn.err
    exported = ganzoo("export", "runs/mine", "--out", "mine")
    assert (exported.code, exported.out) == (0, "mine\n"), exported.err
    from_weights = ["--gen", "mlp", "--gen.width", "8", "--shape", "2", "--out", "other", "--json"]
    weights = ganzoo("export", str(Path("mine/model.safetensors")), *from_weights)
    assert weights.code == 0, weights.err
    assert weights.json == {"export": "other"}


def test_output_survives_a_narrow_encoding_and_a_closed_pipe() -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "GANZOO_DEBUG": ""}
    line = [sys.executable, "-m", "ganzoo"]
    done = subprocess.run([*line, "show", "dcgan"], capture_output=True, env=env, check=True)
    assert done.stdout.isascii()
    with subprocess.Popen([*line, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


TYPOS = """
from ganzoo.api import Component, Preset, hookimpl
@hookimpl
def ganzoo_components():
    recipe = {"run.stepz": 3, "gen_optim.lrr": 1.0, "optim.lr": 1.0, "gen.other_plugins_option": 1, "stepz": 3}
    yield Component("loss", "typo", target="typos:Loss", recipe=recipe, summary="A loss.")
@hookimpl
def ganzoo_presets():
    yield Preset("typo", "A preset.", {"disc_optim.betaz": 1})
class Loss: ...
"""


def test_a_check_names_settings_of_recipes_and_presets_that_nothing_has(ganzoo: Ganzoo, tmp_path: Path) -> None:
    (tmp_path / "typos.py").write_text(TYPOS, encoding="utf-8")
    done = ganzoo("plugins", "--check", "-p", "typos.py")
    assert done.code == 0
    warned = [line for line in done.err.splitlines() if line.startswith("Warning: ")]
    assert [path for line in warned for path in re.findall(r"sets '(.*?)'", line)] == [
        "run.stepz",
        "gen_optim.lrr",
        "stepz",
        "disc_optim.betaz",
    ]
    assert "the recipe of loss typo (typos) sets 'run.stepz', which does not exist" in warned[0]
    assert "Did you mean run.steps" in warned[0]


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\x9b2Jb", "\u202eevil", "bell\x07", "line\rover", "del\x7f"])
def test_what_a_terminal_obeys_is_shown_as_its_escape(ganzoo: Ganzoo, tmp_path: Path, text: str) -> None:
    done = ganzoo("run", "--gen", text)
    assert done.code == 2
    assert all(char.isprintable() or char == "\n" for char in done.err)
    done = ganzoo("run", "--config", f"{text}.toml")
    assert done.code == 2
    assert all(char.isprintable() or char == "\n" for char in done.err)
