"""Puts what was measured where it is read: the tables of ``docs/performance.md``, the picture, and the README.

``python benchmarks/report.py`` takes every JSON file in ``benchmarks/results``, those of ``bench.py`` (one a machine)
and of ``quality.py``; with files it first copies them there, named after their machine. ``--check`` writes nothing and
exits with 1 where something is stale.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cluster
import figures
import picture
from measure.names import PART_NAMES

from ganzoo.files import write_text

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = Path("benchmarks/results")
PAGE: Final = Path("docs/performance.md")
PICTURE: Final = Path("docs/images/speed.svg")
README: Final = Path("README.md")
BENCH, QUALITY = "ganzoo-bench/1", "ganzoo-quality/1"


@dataclass
class Found:
    """What the results hold."""

    bench: list[dict[str, Any]] = field(default_factory=list)
    quality: list[dict[str, Any]] = field(default_factory=list)


def read(folder: Path) -> Found:
    """All results in a folder, the CPU's first.

    Raises:
        SystemExit: a file is neither of ``bench.py`` nor of ``quality.py``.
    """
    found = Found()
    for file in sorted(folder.glob("*.json")):
        saved = parse(file)
        (found.bench if saved["format"] == BENCH else found.quality).append(saved)
    found.bench.sort(key=lambda each: str(each["machine"]["device"]))
    return found


def parse(file: Path) -> dict[str, Any]:
    """One file.

    Raises:
        SystemExit: it is neither of ``bench.py`` nor of ``quality.py``, or a trial with tiny networks.
    """
    try:
        saved: dict[str, Any] = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as err:
        raise SystemExit(f"{file} cannot be read: {err}") from None
    if saved.get("format") not in (BENCH, QUALITY):
        raise SystemExit(f"{file} is no result of bench.py or quality.py")
    if saved.get("small"):
        raise SystemExit(f"{file} was made with --small, which measures nothing")
    return saved


def name_for(saved: dict[str, Any]) -> str:
    """File name of a result: what it is and the machine."""
    machine = saved["machine"]
    parts = [machine.get("device_name") or f"{machine['cpu']} {machine['threads']} threads"]
    if saved["format"] == QUALITY:
        parts = ["quality", saved["asked"]["data"], f"{saved['asked']['seconds']:g}s", *parts]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-") + ".json"


def add(file: Path, folder: Path) -> Path:
    """Copy a result into the folder; parts of a bench that were measured before and not now are kept."""
    saved = parse(file)
    target = folder / name_for(saved)
    if saved["format"] == BENCH and target.exists():
        parts = {row["part"] for row in saved["results"]}
        kept = [row for row in parse(target)["results"] if row["part"] not in parts]
        order = {name: i for i, name in enumerate(PART_NAMES)}
        saved["results"] = sorted([*kept, *saved["results"]], key=lambda row: order.get(row["part"], len(order)))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(target, json.dumps(saved, indent=1) + "\n")
    return target


def blocks(found: Found) -> dict[str, str]:
    """The marked blocks of the page by name."""
    made = {f"measured {part}": figures.tables(part, found.bench) for part in PART_NAMES}
    made["goals"] = figures.goal_tables(found.bench, found.quality)
    made["quality"] = figures.quality_tables(found.quality)
    made["cluster"] = cluster.tables()
    return {name: "\n".join(lines).strip("\n") for name, lines in made.items()}


def speed(found: Found) -> tuple[str | None, str]:
    """The picture, and the README's block that shows it; no picture where nothing was measured."""
    drawn = [(each, bars) for each in found.bench if (bars := picture.bars(each))]
    if not drawn:
        return None, ""
    measured, groups = drawn[0]
    words = "Images per second against the tutorial way, same networks, data included"
    caption = f"{words} ({figures.name_of(measured['machine'])})"
    shown = f"![{words}]({PICTURE.as_posix()})\n\n*{words}: [Performance]({PAGE.as_posix()}).*"
    return picture.draw(groups, caption), shown


def filled(text: str, made: dict[str, str], page: Path) -> str:
    """A page with its marked blocks written anew.

    Raises:
        SystemExit: the page has lost a block's markers.
    """
    for name, block in made.items():
        begin, end = f"<!-- {name}: written by benchmarks/report.py -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SystemExit(f"{page} has lost its markers {begin!r} and {end!r}")
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        inside = f"\n{block}\n" if block else "\n"
        text = f"{before}{begin}{inside}{end}{after}"
    return text


def pages(root: Path) -> dict[Path, str]:
    """Every file that follows from the results, with what it must hold."""
    found = read(root / RESULTS)
    for each in found.quality:
        each["table"] = quality_table(each)
    drawing, shown = speed(found)
    wanted = {
        PAGE: filled((root / PAGE).read_text(encoding="utf-8"), blocks(found), PAGE),
        README: filled((root / README).read_text(encoding="utf-8"), {"speed": shown}, README),
    }
    return wanted if drawing is None else {**wanted, PICTURE: drawing}


def quality_table(saved: dict[str, Any]) -> list[dict[str, Any]]:
    """Means and deviations of a file of ``quality.py``."""
    import quality

    return quality.table(saved["results"], saved["asked"]["data"])


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="results to add to benchmarks/results first")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where something is stale")
    asked = parser.parse_args(arguments)
    if asked.check and asked.files:
        parser.error("--check writes nothing, so it adds no files")
    for file in asked.files:
        print(f"added: {add(file, root / RESULTS).relative_to(root)}")
    stale = []
    for path, text in pages(root).items():
        target = root / path
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            stale.append(path)
            if not asked.check:
                write_text(target, text)
            print(f"{'stale' if asked.check else 'written'}: {path}")
    if not asked.check:
        print("\n".join(figures.goal_tables(*_measured(root))))
    return int(asked.check and bool(stale))


def _measured(root: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    found = read(root / RESULTS)
    return found.bench, [{**each, "table": quality_table(each)} for each in found.quality]


if __name__ == "__main__":
    sys.exit(main())
