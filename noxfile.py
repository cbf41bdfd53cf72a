#!/usr/bin/env -S python
# /// script
# dependencies = ["nox>=2025.5"]
# ///
"""Every chore of the project; ``nox`` alone runs what a change must pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
CONSTRAINTS = ROOT / "constraints.txt"
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")


def install(session: nox.Session, *packages: str) -> None:
    """Install within the versions that are known to work together; a no-op under ``--no-venv``."""
    if session.venv_backend != "none":
        session.install("-c", str(CONSTRAINTS), *packages)


def group(name: str) -> list[str]:
    """The requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format, and spelling. Installs no torch."""
    install(session, *group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("codespell")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Mypy, strict."""
    install(session, "-e", ".", *group("typecheck"))
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite, warnings as errors; ``nox -s tests -- -k losses`` passes arguments on."""
    install(session, "-e", ".", *group("test"))
    # One thread each: two processes of one thread finish a suite of small networks before one process of two does.
    session.run("pytest", "-n", "2", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def matrix(session: nox.Session) -> None:
    """Train every cell of the matrix that no rule refuses for two steps; ``-- --part 1/4`` trains a quarter of them."""
    install(session, "-e", ".", *group("test"))
    session.run("python", "tests/cells.py", *session.posargs)


@nox.session(default=False)
def ray(session: nox.Session) -> None:
    """Run sweeps on a Ray cluster of this machine; elsewhere these tests are skipped."""
    install(session, "-e", ".[ray]", *group("test"))
    session.run("pytest", "-m", "ray", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Kills, failing disks, signals and damaged files by the hundred; ``-- --hours 1`` goes on with new random ones."""
    install(session, "-e", ".", *group("test"))
    session.run("python", "tests/faults/long.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def hostile(session: nox.Session) -> None:
    """Files of strangers by the thousand: mutated configurations, weights, pictures and archives."""
    install(session, "-e", ".", *group("test"))
    session.run("python", "tests/faults/hostile.py", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Write the generated pages and build all into docs/_build, warnings as errors; ``-- --check`` only compares."""
    checks_only = "--check" in session.posargs
    install(session, "-e", ".", *([] if checks_only else group("docs")))
    session.run("python", "docs/generate.py", *session.posargs)
    if not checks_only:
        session.run("sphinx-build", "-n", "-W", "--keep-going", "-E", "docs", "docs/_build")


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build sdist and wheel, then install the wheel into this empty environment and train from a folder outside."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    install(session, "build", "twine")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *(str(path) for path in (ROOT / "dist").iterdir()))
    install(session, *(str(path) for path in (ROOT / "dist").glob("*.whl")))
    session.chdir(session.create_tmp())
    session.run("ganzoo", "plugins", "--check")
    session.run("ganzoo", "run", "--steps", "20", "--sample-every", "10", "--out", "runs")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Every figure of speed and of scores, side by side, as ratios; ``-- --parts overhead --json FILE`` chooses."""
    install(session, "-e", ".")
    session.run("python", "benchmarks/bench.py", *session.posargs)
    if not session.posargs:
        session.run("python", "benchmarks/evaluation.py")


if __name__ == "__main__":
    nox.main()
