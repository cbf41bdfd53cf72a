"""A launcher that runs the commands of a job within this process, which spares a test the start of others."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout

from ganzoo import cli
from ganzoo.api import Component, Job, Launcher, Outcome, hookimpl
from ganzoo.evaluation import cell
from ganzoo.launching import last_word


class InlineLauncher(Launcher):
    """One job after the other, here; ``started.txt`` in the working folder tells which process took which."""

    @property
    def threads(self) -> int | None:
        """Those of this process."""
        return None

    def launch(self, jobs: Iterator[Job], stop: Callable[[], int]) -> Iterator[Outcome]:
        """See :class:`ganzoo.api.Launcher`."""
        for job in jobs:
            with (job.cwd / "started.txt").open("a", encoding="utf-8") as file:
                file.write(f"{job.name} {os.getpid()}\n")
            started, code, done = time.monotonic(), 0, 0
            job.log.write_text("", encoding="utf-8")
            for command in job.commands:
                code = code or _call(job, command)
                done += code == 0
            said = "" if code == 0 else last_word(job.log)
            yield Outcome(job, code, time.monotonic() - started, said, done=done)
            if stop():
                return


def _call(job: Job, command: tuple[str, ...]) -> int:
    program, *flags = command[: command.index("-m")]
    assert program == sys.executable
    assert flags in ([], ["-P"])
    module, *args = command[command.index("-m") + 1 :]
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = cli.main(args) if module == "ganzoo" else cell.main(*args)
    with job.log.open("a", encoding="utf-8") as log:
        log.write(said.getvalue())
    return code


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The launcher."""
    yield Component("launcher", "inline", target="inline_launcher:InlineLauncher", summary="This process.")
