"""Runs and exports whose networks are of a plugin that is not here: the sentence says how it comes here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from installing import installed

from ganzoo.errors import MissingError
from ganzoo.outputs.source import open_source

PIP = "if you trust its author, install it with 'pip install {}', or add -p FILE if it is a file of yours."
FILE = "add -p FILE with the file that it is in."


def sentence(folder: Path, **record: Any) -> str:
    text = json.dumps({"spec": {"shape": [2], "num_classes": None}, **record})
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(MissingError) as caught:
        open_source(folder)
    return str(caught.value)


def of_run(folder: Path, versions: Any) -> str:
    config = {"gen": {"name": "acme/net", "width": 4}, "disc": None}
    return sentence(folder, format="ganzoo-run/1", config=config, versions=versions)


@pytest.mark.parametrize(
    ("versions", "whose", "remedy"),
    [
        ({"torch": "2", "ganzoo-acme": "1.2"}, "ganzoo-acme", PIP.format("ganzoo-acme")),
        ({"acme": "1.2"}, "acme", PIP.format("acme")),
        ({"acme": "sha256:0123456789ab"}, "acme", FILE),
        ({"acme": "unknown"}, "acme", FILE),
        ({}, "ganzoo-acme", PIP.format("ganzoo-acme")),
        ("torn", "ganzoo-acme", PIP.format("ganzoo-acme")),
    ],
)
def test_a_run_says_how_its_plugin_is_had(tmp_path: Path, versions: Any, whose: str, remedy: str) -> None:
    with installed():
        assert of_run(tmp_path, versions).endswith(f"of the plugin {whose!r}, which is not installed; {remedy}")


def test_an_export_that_tells_nothing_of_its_plugin_says_how_it_may_be_had(tmp_path: Path) -> None:
    with installed():
        said = sentence(tmp_path, format="ganzoo-export/1", generator={"id": "acme/net", "options": {}})
    assert said.endswith(f"of the plugin 'ganzoo-acme', which is not installed; {PIP.format('ganzoo-acme')}")


def test_a_plugin_that_is_here_and_broken_or_switched_off_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    with installed(str(tmp_path / "acme.py")):
        assert of_run(tmp_path, {}).endswith("of the plugin 'acme', which is broken; see 'ganzoo plugins'.")
    monkeypatch.setenv("GANZOO_DISABLE_PLUGINS", "acme")
    with installed(str(tmp_path / "acme.py")):
        assert of_run(tmp_path, {}).endswith("of the plugin 'acme', which is disabled; see 'ganzoo plugins'.")
