"""``ganzoo doctor``: is this machine sound?"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress

import click

from ganzoo.cli import terminal
from ganzoo.cli.loading import hearing_signals
from ganzoo.cli.shared import json_option, plugin_option


@click.command("doctor")
@click.option("--device", default="auto", help="Check this one: auto, cpu, cuda, cuda:1, mps or xpu. [default: auto]")
@click.option(
    "--parity/--no-parity",
    default=True,
    help="Compare the device's arithmetic with the CPU's, for every network and loss. [default: --parity]",
)
@plugin_option
@json_option
def command(*, device: str, parity: bool, as_json: bool) -> None:
    """Check this machine: versions, devices, plugins and arithmetic.

    Each generator, discriminator, regularizer and loss is built small and computed twice, on the device in float32 and
    on the CPU in float64: its output, its derivatives, and the second derivatives on which gradient penalties rest.

    The exit code is 0 if all is sound and 1 if anything is bad.
    """
    from ganzoo.training.doctor import Finding, examine, verdict

    progress = _Progress()
    found: list[Finding] = []
    try:
        progress.say("torch")
        with hearing_signals(), suppress(Exception):  # what is wrong with it is a finding
            importlib.import_module("torch")
        for finding in examine(device, parity=parity, say=progress.say):
            progress.clear()
            if not as_json:
                if not found or found[-1].topic != finding.topic:
                    terminal.say(finding.topic)
                terminal.say(f"  {finding.status:<5} {finding.name}: {finding.text}")
            found.append(finding)
    finally:
        progress.clear()
    sound, sentence = verdict(found)
    if as_json:
        listed = [{"topic": f.topic, "name": f.name, "status": f.status, "text": f.text, **f.data} for f in found]
        terminal.dump({"ok": sound, "verdict": sentence, "findings": listed})
    else:
        terminal.say(sentence)
    if not sound:
        raise click.exceptions.Exit(1)


class _Progress:
    """What is being looked at, in one line of standard error that the next one replaces; nothing without a terminal."""

    def __init__(self) -> None:
        self._shown = 0
        self._wanted = sys.stderr.isatty()

    def say(self, text: str) -> None:
        if self._wanted:
            self.clear()
            line = f"Looking at {text} ..."
            click.echo(line, nl=False, err=True)
            self._shown = len(line)

    def clear(self) -> None:
        if self._shown:
            click.echo("\r" + " " * self._shown + "\r", nl=False, err=True)
            self._shown = 0
