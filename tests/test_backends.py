"""torchvision and torch-fidelity are imported late, and repaired when torchvision is broken in the known way."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ganzoo import backends
from ganzoo.errors import MissingError

_BROKEN = "raise RuntimeError('operator torchvision::nms does not exist')\n"


def run(code: str, *path: Path) -> str:
    """What ``code`` prints in a new interpreter that finds modules in ``path`` first."""
    setup = f"import sys\nsys.path[:0] = {list(map(str, path))!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fake(folder: Path, source: str, name: str = "torchvision") -> Path:
    """A package ``name`` in ``folder`` whose import executes ``source``."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text(source)
    return folder


def test_importing_backends_imports_neither_torch_nor_them() -> None:
    code = "import ganzoo.backends; print([m for m in ('torch', 'torchvision', 'torch_fidelity') if m in sys.modules])"
    assert run(code) == "[]"


def test_the_installed_torchvision_works_broken_or_not() -> None:
    code = """
        from ganzoo import backends
        backends.torchvision().datasets.MNIST
        backends.torch_fidelity().calculate_metrics
        print(backends.torchvision_state())
    """
    assert run(code)[0].isdigit()


def test_the_known_failure_is_repaired_by_declaring_the_operators(tmp_path: Path) -> None:
    fake(
        tmp_path,
        "import torch, torchvision.half\n"
        "if not hasattr(torch.ops.torchvision, 'nms') or not hasattr(torch.ops.torchvision, 'qnms'):\n"
        f"    {_BROKEN}"
        "__version__ = '9.9'\n",
    )
    (tmp_path / "torchvision" / "half.py").write_text("")
    code = "from ganzoo import backends; print(backends.torchvision_state())"
    assert run(code, tmp_path).startswith("9.9, repaired")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise OSError('libcudart.so: cannot open')", "does not import (OSError: libcudart.so: cannot open)"),
        ("raise RuntimeError('something else')", "RuntimeError: something else"),
        ("import torchvision.half\n" + _BROKEN, "nms does not exist"),
        ("import no_such_module", "ModuleNotFoundError"),
    ],
)
def test_any_other_failure_is_a_sentence(tmp_path: Path, source: str, words: str) -> None:
    fake(tmp_path, source)
    (tmp_path / "torchvision" / "half.py").write_text("")
    code = """
        from ganzoo import backends
        from ganzoo.errors import MissingError
        try:
            backends.torchvision()
        except MissingError as err:
            print(err)
        print(backends.torchvision_state())
    """
    first, second = run(code, tmp_path).splitlines()
    assert words in first
    assert first == second
    assert "reinstall torch and torchvision together" in first


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    backends.torchvision.cache_clear()

    def refuse(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("ganzoo.backends.importlib.import_module", refuse)
    with pytest.raises(MissingError, match="torchvision is not installed: run 'pip install torchvision'"):
        backends.torchvision()
