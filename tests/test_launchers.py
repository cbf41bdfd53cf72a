"""Launchers: what their conformance checks leave open. Those run real jobs, too; see ``ganzoo.testing.launchers``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganzoo import cli
from ganzoo.errors import MissingError
from ganzoo.launching import Job, Launcher, Outcome, still_runs
from ganzoo.registry import build, registry


def launcher(name: str, **options: object) -> Launcher:
    found: Launcher = build(registry().choose("launcher", name, options), None)
    return found


def job(folder: Path, name: str, program: str, **env: str) -> Job:
    return Job(name, ((sys.executable, "-S", "-c", program),), folder / f"{name}.log", folder, env)


def ended(jobs: Iterator[Job], **options: object) -> dict[str, Outcome]:
    return {outcome.job.name: outcome for outcome in launcher("local", **options).launch(jobs, lambda: 0)}


def test_jobs_are_taken_only_when_there_is_room(tmp_path: Path) -> None:
    waits = (
        "import os, pathlib, time\npathlib.Path(f'{os.getpid()}.began').touch()\n"
        "while len(list(pathlib.Path('.').glob('*.began'))) < 2: time.sleep(0.01)"
    )
    taken: list[str] = []

    def jobs() -> Iterator[Job]:
        for name in "abcd":
            taken.append(name)
            yield job(tmp_path, name, waits)

    found = launcher("local", jobs=2).launch(jobs(), lambda: 0)
    assert next(found).code == 0, "two run at a time, or none would end"
    assert len(taken) < 4
    assert [outcome.code for outcome in found] == [0, 0, 0]
    assert not list(tmp_path.glob("*.process"))


def test_what_a_job_gets_and_what_it_leaves(tmp_path: Path) -> None:
    said = ended(iter([job(tmp_path, "env", "import os; print(os.environ['MINE'], os.getcwd())", MINE="yes")]))
    assert said["env"].code == 0
    assert (tmp_path / "env.log").read_text(encoding="utf-8").split() == ["yes", str(tmp_path)]
    missing = Job("none", ((str(tmp_path / "nothing"),),), tmp_path / "none.log", tmp_path)
    outcome = ended(iter([missing]))["none"]
    assert outcome.code == 1
    assert "cannot be started" in outcome.sentence


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_job_that_is_killed_has_the_code_of_a_shell(tmp_path: Path) -> None:
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    outcome = ended(iter([job(tmp_path, "killed", kill)]))["killed"]
    assert (outcome.code, outcome.stopped) == (128 + signal.SIGKILL, False)


def test_a_process_file_tells_of_the_living_alone(tmp_path: Path) -> None:
    file = tmp_path / "x.process"
    assert not still_runs(file)
    file.write_text(f'{{"pid": {os.getpid()}, "host": "elsewhere"}}', encoding="utf-8")
    assert not still_runs(file)
    file.write_text("torn", encoding="utf-8")
    assert not still_runs(file)


def test_several_jobs_share_the_cores() -> None:
    assert launcher("local").threads is None
    assert launcher("local", jobs=10_000).threads == 1
    assert launcher("ray", num_cpus=3.0).threads == 3


def test_without_ray_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingError, match=r"pip install 'ganzoo\[ray\]'"):
        list(launcher("ray").launch(iter([job(tmp_path, "a", "pass")]), lambda: 0))


@pytest.mark.ray
def test_a_sweep_on_a_ray_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.chdir(tmp_path)
    tiny = "--data ring --gen mlp --disc mlp --gen.width 4 --disc.width 4 --batch-size 8 --samples 4 --steps 2"
    line = f"sweep --out s --launcher ray --jobs 2 {tiny} --optim.name sgd --optim.lr 1e-3,1e30 --loss lsgan --seed 0"
    code = cli.main(line.split())
    out, err = capsys.readouterr()
    assert (code, "1 done, 1 failed." in err) == (1, True), err
    assert "lsgan" in out
    assert list(tmp_path.glob("s/*/checkpoints/step-00000002"))
