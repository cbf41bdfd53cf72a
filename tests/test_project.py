"""The project's own files agree with each other: packaging, versions, constraints, README and CI."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

import ganzoo

ROOT = Path(__file__).parent.parent
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name != "__pycache__")
COMMAND_ONE = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt . && .venv/bin/ganzoo run"
COMMAND_TWO = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt nox && .venv/bin/nox"


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads(text("pyproject.toml"))


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~ ;\[]", requirement)[0]).lower()


def test_every_plugin_is_packaged_has_an_entry_point_and_is_typed(pyproject: dict[str, Any]) -> None:
    packages = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted(["ganzoo", *(f"plugins/{name}" for name in PLUGINS)])
    entries = pyproject["project"]["entry-points"]["ganzoo.plugins"]
    assert sorted(entries.values()) == PLUGINS
    assert all(module == f"ganzoo_{name}" for name, module in entries.items())
    assert [
        name for name in ("ganzoo", *(f"plugins/{p}" for p in PLUGINS)) if not (ROOT / name / "py.typed").exists()
    ] == []


def test_the_installed_entry_points_are_those_of_pyproject(pyproject: dict[str, Any]) -> None:
    installed = {
        entry.name: entry.value
        for entry in entry_points(group="ganzoo.plugins")
        if entry.dist is not None and entry.dist.name == "ganzoo"
    }
    assert installed == pyproject["project"]["entry-points"]["ganzoo.plugins"], "install again: pip install -e ."


def test_there_is_one_version(pyproject: dict[str, Any]) -> None:
    citation = re.search(r"^version: (\S+)$", text("CITATION.cff"), re.MULTILINE)
    assert citation is not None
    assert citation[1] == ganzoo.__version__ == pyproject["project"]["version"]
    assert f"## [{ganzoo.__version__}]" in text("CHANGELOG.md")


def test_constraints_pin_every_direct_dependency_within_its_bounds(pyproject: dict[str, Any]) -> None:
    pins = dict(line.split("==") for line in text("constraints.txt").splitlines() if line and not line.startswith("#"))
    pinned = {name_of(name): version for name, version in pins.items()}
    groups = pyproject["dependency-groups"].values()
    wanted = [
        *pyproject["project"]["dependencies"],
        *(line for group in groups for line in group if isinstance(line, str)),
    ]
    for requirement in wanted:
        assert name_of(requirement) in pinned, requirement
        minimum = re.search(r">=([\d.]+)", requirement)
        assert minimum is not None, f"{requirement} has no lower bound"
        assert _numbers(pinned[name_of(requirement)]) >= _numbers(minimum[1]), requirement


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def test_the_readme_has_the_two_commands_and_ci_runs_the_second() -> None:
    readme = text("README.md")
    assert COMMAND_ONE in readme
    assert COMMAND_TWO in readme
    script = [re.sub(r" -q\b", "", line) for line in text(".ci/run").splitlines()]
    assert [part for part in COMMAND_TWO.split(" && ") if part not in script] == []
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_requirements_name_no_registry() -> None:
    for name in ("pyproject.toml", "constraints.txt", "noxfile.py", ".ci/run", "README.md"):
        assert not re.search(r"index-url\s*=?\s*http|https?://\S*(pypi|/simple|/whl)", text(name)), name


def test_the_licence_is_named_alike(pyproject: dict[str, Any]) -> None:
    assert pyproject["project"]["license"] == "MIT"
    assert text("LICENSE").startswith("MIT License")
    assert "license: MIT" in text("CITATION.cff")


def test_the_digits_say_whose_they_are() -> None:
    for page in (text("README.md"), text("plugins/ganzoo_datasets/digits.txt")):
        assert all(word in page for word in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0"))


def test_a_disabled_built_in_really_disappears() -> None:
    program = (
        "import json, sys, ganzoo; from ganzoo.plugins import loaded; "
        "print(json.dumps([ganzoo.list_components('loss'), [p.name for p in loaded() if p.status == 'disabled'], "
        "'ganzoo_wgan' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "GANZOO_DISABLE_PLUGINS": "wgan"},
        capture_output=True,
        text=True,
        check=True,
    )
    losses, disabled, imported = json.loads(done.stdout)
    assert "ns" in losses
    assert not {"wgan-gp", "wgan-clip"} & set(losses)
    assert disabled == ["wgan"]
    assert not imported
