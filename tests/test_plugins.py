"""Plugins that are broken, quarrelsome or switched off never stand in the way of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ganzoo.api import Component
from ganzoo.config import Layer, resolve
from ganzoo.errors import UsageError
from ganzoo.plugins import Plugin, add_local, loaded
from ganzoo.registry import Registry, list_components, registry

HEAD = """
from dataclasses import dataclass
from ganzoo.api import Component, Preset, Spec, hookimpl, option
"""
GOOD = (
    HEAD
    + """
@dataclass(frozen=True)
class Config:
    width: int = option({width}, min=1, help="Width.")

@hookimpl
def ganzoo_components():
    yield Component("generator", "{name}", target="{module}:Net", config=Config, aliases=("{alias}",))
    yield Component("generator", "dcgan", target="{module}:Net", config=Config)
"""
)
HOOK = HEAD + "\n@hookimpl\ndef ganzoo_components():\n    "
MODULES = {
    "ganzoo-acme": ("acme_gan", GOOD.format(name="shared", module="acme_gan", alias="acme", width=7)),
    "ganzoo_Bolt": ("bolt_gan", GOOD.format(name="shared", module="bolt_gan", alias="bolt", width=8)),
    "bad-import": ("bad_import", "import module_that_is_not_there"),
    "bad-exit": ("bad_exit", "import sys\nsys.exit(3)"),
    "bad-syntax": ("bad_syntax", "def"),
    "bad-hook": ("bad_hook", HEAD + "\n@hookimpl\ndef ganzoo_componets():\n    yield"),
    "bad-record": ("bad_record", HOOK + "yield {'kind': 'generator'}"),
    "bad-kind": ("bad_kind", HOOK + "yield Component('genrator', 'x', target='a:B')"),
    "bad-name": ("bad_name", HOOK + "yield Component('generator', 'Big Name', target='a:B')"),
    "bad-config": ("bad_config", HOOK + "yield Component('generator', 'x', target='a:B', config=int)"),
    "bad-data": ("bad_data", HOOK + "yield Component('dataset', 'x', target='a:B')"),
    "bad-body": ("bad_body", HOOK + "raise RuntimeError('two\\nlines')"),
    "bad-twice": ("bad_twice", HOOK + "for _ in 'ab': yield Component('loss', 'twice', target='json:loads')"),
    "bad-none": ("bad_none", HOOK + "return None"),
    "bad-watch": ("bad_watch", HEAD + "\n@hookimpl\ndef ganzoo_run_end(run, steps):\n    pass"),
    "bad-argument": ("bad_argument", HEAD + "\n@hookimpl\ndef ganzoo_components(registry):\n    return []"),
    "watcher": ("watcher", HEAD + "\n@hookimpl\ndef ganzoo_run_end(run, error):\n    pass"),
    "unmarked": ("unmarked", HEAD + "\ndef ganzoo_components():\n    return []"),
    "ganzoo-Ganzoo": ("greedy", GOOD.format(name="ns", module="greedy", alias="greedy", width=9)),
    "off-by-name": ("off_by_name", "import pathlib\npathlib.Path('imported').touch()"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed distributions, most of them broken."""
    root = tmp_path_factory.mktemp("site")
    for dist, (module, source) in MODULES.items():
        (root / f"{module}.py").write_text(source)
        info = root / f"{dist.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[ganzoo.plugins]\n{module} = {module}\n")
    half = root / "half_gone-1.0.dist-info"
    half.mkdir()
    (half / "entry_points.txt").write_text("[ganzoo.plugins]\nhalf = half_gone\n")
    return root


def ganzoo(*args: str, at: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(at), *sys.path]))
    settings = {"GANZOO_DISABLE_PLUGINS": "off-by-name", "PYTHONPATH": path, **env}
    return subprocess.run(
        [sys.executable, "-m", "ganzoo", *args],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
        cwd=at,
        check=False,
    )


@pytest.fixture(scope="module")
def plugins(site: Path) -> dict[str, dict[str, Any]]:
    done = ganzoo("plugins", "--json", at=site)
    assert done.returncode == 0, done.stderr
    return {plugin["distribution"]: plugin for plugin in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("dist", "reason"),
    [
        ("bad-import", "No module named 'module_that_is_not_there'"),
        ("bad-exit", "SystemExit: 3"),
        ("bad-syntax", "SyntaxError"),
        ("bad-hook", "unknown hook 'ganzoo_componets'. Did you mean ganzoo_components"),
        ("bad-record", "must yield Component records, not dict"),
        ("bad-kind", "unknown kind 'genrator'"),
        ("bad-name", "'Big Name' is no component name"),
        ("bad-config", "int must be a frozen dataclass"),
        ("bad-data", "must tell its spec"),
        ("bad-body", "RuntimeError: two lines"),
        ("bad-argument", "the hook ganzoo_components has no argument registry: it takes none"),
        ("bad-watch", "the hook ganzoo_run_end has no argument steps: it may take run, error"),
        ("unknown", "No module named 'half_gone'"),
        ("ganzoo-ganzoo", "it would have the ids of ganzoo's own components; it must be renamed"),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason(plugins: dict[str, dict[str, Any]], dist: str, reason: str) -> None:
    assert plugins[dist]["status"] == "broken"
    assert reason in plugins[dist]["reason"]
    assert plugins[dist]["components"] == []


def test_what_observes_and_what_brings_nothing_is_told(plugins: dict[str, dict[str, Any]]) -> None:
    assert (plugins["watcher"]["hooks"], plugins["watcher"]["reason"]) == (["ganzoo_run_end"], "")
    assert plugins["ganzoo-acme"]["hooks"] == []
    assert "did you forget @hookimpl?" in plugins["unmarked"]["reason"]
    assert "its ganzoo_components yields nothing" in plugins["bad-none"]["reason"]
    assert plugins["unmarked"]["status"] == plugins["bad-none"]["status"] == "active"


def test_built_ins_come_first_and_are_untouched(site: Path, plugins: dict[str, dict[str, Any]]) -> None:
    assert plugins["ganzoo"]["status"] == "active"
    listed = json.loads(ganzoo("list", "generator", "--json", at=site).stdout)
    ids = [item["id"] for item in listed]
    assert {"ganzoo/dcgan", "ganzoo/mlp", "acme/dcgan", "bolt/dcgan", "acme/shared", "bolt/shared"} <= set(ids)


def test_a_disabled_plugin_is_not_even_imported(site: Path, plugins: dict[str, dict[str, Any]]) -> None:
    assert plugins["off-by-name"]["status"] == "disabled"
    assert not (site / "imported").exists()


def test_a_built_in_name_always_means_the_built_in(site: Path) -> None:
    shown = json.loads(ganzoo("show", "gen/dcgan", "--json", at=site).stdout)
    assert (shown["id"], shown["plugin"]["distribution"]) == ("ganzoo/dcgan", "ganzoo")
    other = json.loads(ganzoo("show", "gen/acme/dcgan", "--json", at=site).stdout)
    assert other["options"][0]["default"] == 7


def test_a_name_of_two_third_parties_is_an_error_that_names_both(site: Path) -> None:
    done = ganzoo("run", "--gen", "shared", "--dry-run", at=site)
    assert done.returncode == 2
    assert "say acme/shared (of ganzoo-acme 1.2) or bolt/shared (of ganzoo-bolt 1.2)" in done.stderr
    own = ganzoo("run", "--gen", "ganzoo/dcgan", "--dry-run", "--json", at=site)
    assert json.loads(own.stdout)["config"]["gen"]["name"] == "ganzoo/dcgan"
    clear = ganzoo("run", "--gen", "bolt", "--gen.width", "9", "--dry-run", "--json", at=site)
    assert json.loads(clear.stdout)["config"]["gen"] == {"name": "bolt/shared", "width": 9}


def test_an_unknown_name_points_at_broken_plugins(site: Path) -> None:
    done = ganzoo("show", "gen/nonesuch", at=site)
    assert done.returncode == 2
    assert "Plugins that failed to load may have it" in done.stderr
    assert "bad-import 1.2" in done.stderr


def test_no_plugins_leaves_only_what_ships_with_ganzoo(site: Path) -> None:
    done = ganzoo("--no-plugins", "plugins", "--json", at=site)
    status = {(plugin["distribution"] == "ganzoo", plugin["status"]) for plugin in json.loads(done.stdout)}
    assert status == {(True, "active"), (False, "disabled")}


def test_a_built_in_can_be_disabled_by_name(site: Path) -> None:
    done = ganzoo("show", "gen/ganzoo/dcgan", at=site, GANZOO_DISABLE_PLUGINS="dcgan,off-by-name")
    assert done.returncode == 2
    assert "There is no generator 'ganzoo/dcgan'" in done.stderr


def test_check_imports_every_class_and_fails_if_one_is_broken(site: Path) -> None:
    broken = ",".join(dist for dist in MODULES if dist.startswith("bad"))
    done = ganzoo("plugins", "--check", "--json", at=site, GANZOO_DISABLE_PLUGINS=f"{broken},off-by-name,ganzoo,half")
    assert done.returncode == 1
    reasons = {plugin["distribution"]: plugin["reason"] for plugin in json.loads(done.stdout)}
    assert "generator/shared: AttributeError" in reasons["ganzoo-acme"]
    assert "2 of" in done.stderr
    assert "Checked " in done.stderr
    assert "The plugin acme_gan of ganzoo-acme 1.2 is broken: update it (pip install -U ganzoo-acme)" in done.stderr
    assert "GANZOO_DISABLE_PLUGINS=acme_gan" in done.stderr


def test_check_names_an_id_that_two_components_have(site: Path) -> None:
    others = ",".join({*MODULES, "ganzoo", "ganzoo-bolt", "half"} - {"bad-twice"})
    done = ganzoo("plugins", "--check", "--json", at=site, GANZOO_DISABLE_PLUGINS=others)
    assert done.returncode == 1
    (twice,) = (plugin for plugin in json.loads(done.stdout) if plugin["distribution"] == "bad-twice")
    assert twice["reason"] == "loss bad-twice/twice is brought twice, so nobody can choose it"


def test_a_missing_class_is_told_with_its_distribution_when_it_is_used(site: Path) -> None:
    done = ganzoo("run", "--gen", "acme/shared", "--disc", "mlp", "--steps", "1", at=site)
    assert done.returncode == 1
    assert "generator acme/shared cannot be built" in done.stderr
    assert "'acme_gan:Net' does not import" in done.stderr
    assert "Traceback" not in done.stderr


def test_broken_plugins_are_listed_with_the_next_step(site: Path) -> None:
    done = ganzoo("plugins", at=site)
    assert done.returncode == 0
    for dist, (module, _) in MODULES.items():
        if dist.startswith("bad") and dist not in ("bad-none", "bad-twice"):
            assert f"The plugin {module} of {dist} 1.2 is broken: update it (pip install -U {dist})" in done.stderr


def test_strict_mode_raises_what_would_only_be_recorded(site: Path) -> None:
    done = ganzoo("list", at=site, GANZOO_STRICT_PLUGINS="1")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


LOCAL = (
    HEAD
    + """
@hookimpl
def ganzoo_components():
    yield Component("loss", "mine", target="local_gan:Loss", summary="Mine.")

@hookimpl
def ganzoo_presets():
    yield Preset("small", "Small.", {"gen.width": 5, "steps": 7, "reg.r1.gamma": 3})
"""
)


def test_a_plugin_may_be_a_file_or_a_module_nearby(tmp_path: Path) -> None:
    (tmp_path / "local_gan.py").write_text(LOCAL)
    for named in ("local_gan.py", "./local_gan.py", str(tmp_path / "local_gan.py"), "local_gan"):
        done = ganzoo("show", "-p", named, "loss/mine", "--json", at=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["summary"] == "Mine."


def test_a_preset_is_over_recipes_and_under_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "local_gan.py").write_text(LOCAL)
    line = ["run", "-p", "local_gan.py", "--preset", "small", "--loss", "mine", "--steps", "9", "--dry-run", "--json"]
    printed = json.loads(ganzoo(*line, at=tmp_path).stdout)
    assert (printed["config"]["gen"]["width"], printed["config"]["run"]["steps"]) == (5, 9)
    assert (printed["origins"]["gen.width"], printed["origins"]["run.steps"]) == ("preset small", "command line")
    shown = ganzoo("show", "-p", "local_gan.py", "preset/small", at=tmp_path)
    assert "gen.width = 5" in shown.stdout


@pytest.mark.parametrize(
    ("named", "source", "sentence"),
    [
        ("nope.py", None, "there is no file"),
        ("nope_module", None, "No module named 'nope_module'"),
        ("local_gan.py", "1 / 0", "ZeroDivisionError"),
        ("local_gan.py", "def", "SyntaxError"),
        ("local_gan.py", HOOK + "yield Component('dataset', 'x', target='a:B')", "spec=<function of config>.\n"),
        ("local_gan.py", MODULES["bad-hook"][1], "Did you mean ganzoo_components"),
        (
            "local_gan.py",
            MODULES["unmarked"][1],
            "'local_gan' brings nothing: no component, no preset, no hook; did you",
        ),
        ("local_gan", MODULES["bad-none"][1], "'local_gan' brings nothing: its ganzoo_components yields nothing."),
        ("folder", None, "'folder' is a folder without __init__.py; name a file in it that ends in .py."),
        ("./folder", None, "'./folder' is neither the name of a module nor a file that ends in .py."),
        (
            "folder/numpy.py",
            MODULES["watcher"][1],
            "the name of the file numpy.py is that of a module that is installed",
        ),
        (
            "folder/torch.py",
            MODULES["watcher"][1],
            "the name of the file torch.py is that of a module that is installed",
        ),
        (
            "folder/ganzoo.py",
            MODULES["watcher"][1],
            "the name of the file ganzoo.py is that of a module that is installed",
        ),
        ("a,b/my_loss.py", None, "has a comma, which separates plugins: say -p for each, or rename it."),
    ],
)
@pytest.mark.parametrize("command", ["run --dry-run", "list"])
def test_a_plugin_that_is_asked_for_must_load(
    tmp_path: Path, named: str, source: str | None, sentence: str, command: str
) -> None:
    (tmp_path / "folder").mkdir()
    if source is not None:
        file = named if named.endswith(".py") else f"{named}.py"
        (tmp_path / file).write_text(source)
    done = ganzoo(*command.split(), "-p", named, at=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"could not be loaded: {sentence}" in done.stderr or sentence in done.stderr
    assert done.stderr.startswith("Error: The plugin ")
    assert not done.stderr.strip().endswith(("..", "?."))


COPIED = """
from ganzoo.nn import Loss
from ganzoo.api import Component, hookimpl

class {name}(Loss):
    "A loss."

@hookimpl
def ganzoo_components():
    yield Component("loss", "{alias}", target="{target}", summary="A loss.")
"""


def test_a_copied_file_does_not_train_the_class_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(COPIED.format(name="Mine", alias="one", target="first:Mine"))
    (tmp_path / "second.py").write_text(COPIED.format(name="Mine", alias="two", target="first:Mine"))
    done = ganzoo("list", "-p", "second.py", at=tmp_path)
    assert done.returncode == 2
    assert "the target 'first:Mine' of the loss two is in another file, and this one has a class Mine" in done.stderr
    assert done.stderr.endswith('say target="second:Mine".\n')


@pytest.mark.parametrize("target", ["second:Mine", "first:Other", "ganzoo_losses.losses:Mine"])
def test_a_target_may_be_elsewhere(tmp_path: Path, target: str) -> None:
    (tmp_path / "first.py").write_text("class Other: pass")
    (tmp_path / "second.py").write_text(COPIED.format(name="Mine", alias="two", target=target))
    assert ganzoo("list", "-p", "second.py", at=tmp_path).returncode == 0


def test_two_files_of_one_name_may_be_loaded_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    monkeypatch.delitem(sys.modules, "local_twin", raising=False)
    try:
        for place in ("one", "two"):
            (tmp_path / place).mkdir()
            (tmp_path / place / "local_twin.py").write_text(LOCAL.replace("local_gan", "local_twin"))
            monkeypatch.chdir(tmp_path / place)
            for _ in range(2):
                monkeypatch.setenv("GANZOO_PLUGINS", "")
                add_local(["local_twin.py"])
                assert registry().get("loss", "mine").plugin.source == str(tmp_path / place / "local_twin.py")
    finally:
        monkeypatch.undo()
        loaded.cache_clear()


def test_a_file_that_is_broken_is_to_be_edited(tmp_path: Path) -> None:
    (tmp_path / "local_gan.py").write_text(LOCAL)
    done = ganzoo("plugins", "-p", "local_gan.py", "--check", at=tmp_path, GANZOO_DISABLE_PLUGINS="ganzoo")
    assert done.returncode == 1
    assert f"The plugin local_gan is broken: edit {tmp_path / 'local_gan.py'}, or leave it out" in done.stderr


class Found(list[Plugin]):
    """Plugins that were never looked for."""

    def broken(self) -> list[Plugin]:
        return [plugin for plugin in self if plugin.status == "broken"]


def test_names_in_a_listing_are_those_that_create_takes() -> None:
    for kind in ("generator", "loss", "dataset"):
        for name in list_components(kind):
            assert registry().get(kind, name).component.kind == kind


def test_an_alias_finds_its_component_and_a_name_comes_before_an_alias() -> None:
    first = Component("loss", "alpha", target="a:A", aliases=("beta",))
    second = Component("loss", "beta", target="a:B")
    known = Registry(Found([Plugin("p", "acme", "1", "active", components=(first, second))]))  # type: ignore[arg-type]
    assert known.get("loss", "beta").component is second
    assert known.get("losses", "acme/alpha").component is first
    with pytest.raises(UsageError, match="There is no kind 'lossy'"):
        known.get("lossy", "alpha")


def test_an_id_of_ganzoo_always_means_ganzoos_own() -> None:
    own, other = (Component("loss", "ns", target=f"a:{name}") for name in "AB")
    parts = {"ganzoo": own, "ganzoo-ganzoo": other}
    plugins = [Plugin("p", dist, "1", "active", components=(part,)) for dist, part in parts.items()]
    assert Registry(Found(plugins)).get("loss", "ganzoo/ns").component is own  # type: ignore[arg-type]


def test_every_preset_that_ships_names_only_what_exists() -> None:
    for preset in registry().presets():
        resolve([Layer(f"preset {preset.name}", preset.settings)])
