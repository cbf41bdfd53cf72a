"""The long form of the faults: ``nox -s faults -- --hours 1``, or ``--kills 200 --flips 2000`` and so on.

It prints what it tried, and stops at the first promise that does not hold. POSIX only, since it forks.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults import campaign
from faults.faulty import fork, wait, warm_up


def main() -> None:
    """Try what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=0.0, help="go on with new random numbers for so long")
    parser.add_argument("--seed", type=int, default=0)
    for name, default in (("kills", 200), ("points", 0), ("disks", 200), ("signals", 50), ("flips", 2400)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"how many; [default: {default}]")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # forks of a process with threads, which wait
    warm_up()
    until, seed = time.monotonic() + 3600 * asked.hours, asked.seed
    while True:
        for name, tried in (
            ("kills", campaign.kills),
            ("points", campaign.kill_points),
            ("disks", campaign.disks),
            ("signals", campaign.signals),
        ):
            _try(name, tried, getattr(asked, name), seed)
        campaign_in_a_child(asked.flips, seed)
        seed += 1
        if time.monotonic() >= until:
            return


def _try(name: str, tried: object, count: int, seed: int) -> None:
    assert callable(tried)
    if name != "points" and count == 0:
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = tried(Path(folder), (count or None) if name == "points" else count, random.Random(seed))
    words = ", ".join(f"{key} {value}" for key, value in figures.items())
    print(f"seed {seed} {name}: {words}; {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201


def campaign_in_a_child(count: int, seed: int) -> None:
    """Flips train in their own process, so that later forks start from one that did not."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"

        def work() -> int:
            _try("flips", campaign.flips, count, seed)
            return 0

        code = wait(fork(work, log), 36000)
        print(log.read_text(encoding="utf-8"), end="", flush=True)  # noqa: T201
        if code:
            raise SystemExit(code)


if __name__ == "__main__":
    main()
