"""Many images: the second start beside the first, a prepared copy, and what streaming costs.

Everything is a ratio of things measured in one run, because machines are shared and clocks drift. ``python
benchmarks/images.py`` takes some minutes; ``--count`` and ``--json FILE`` as you like. A start is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

SIDE: Final = 64
BATCH: Final = 64
START: Final = """
import json, sys, time
begun = time.perf_counter()
from ganzoo.data import DataStream
from ganzoo.registry import build, registry
import torch
loaded = time.perf_counter()
name, options, steps = json.loads(sys.argv[1])
choice = registry().choose("dataset", name, options)
data = build(choice, choice.component.spec(choice.config))
opened = time.perf_counter()
stream = DataStream(data, 64, 0)
stream.next()
first = time.perf_counter()
rounds = []
for _ in range(5):
    started = time.perf_counter()
    for _ in range(steps):
        stream.next()
    rounds.append(64 * steps / max(time.perf_counter() - started, 1e-9))
peak = 0
try:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
except ImportError:
    pass
print(json.dumps({"import_s": loaded - begun, "open_s": opened - loaded, "first_s": first - opened,
                  "images_per_s": sorted(rounds)[2], "peak_bytes": peak}))
"""


def make(folder: Path, count: int) -> None:
    """Small PNGs in ten folders, with some structure, as pictures have."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / str(number % 10) / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)


def start(cache: Path, name: str, steps: int, **options: Any) -> dict[str, Any]:
    """One process: how long until there are data, until the first batch, and how many images a second then."""
    done = subprocess.run(
        [sys.executable, "-c", START, json.dumps([name, options, steps])],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GANZOO_CACHE": str(cache)},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    found["data_s"] = found["open_s"] + found["first_s"]
    return found


def prepare(cache: Path, source: Path, out: Path, *more: str) -> float:
    """Seconds that the command takes."""
    begun = time.perf_counter()
    line = [sys.executable, "-m", "ganzoo", "data", "prepare", str(source), str(out), *more]
    subprocess.run(line, check=True, capture_output=True, env={**os.environ, "GANZOO_CACHE": str(cache)})
    return time.perf_counter() - begun


def measure(root: Path, count: int) -> list[dict[str, Any]]:
    """Every figure."""
    source, cache = root / "images", root / "cache"
    make(source, count)
    path = {"path": str(source)}
    first = start(cache, "folder", 100, **path)
    second = [start(cache, "folder", 100, **path) for _ in range(3)]
    found = [_ratio("second start, data", [each["data_s"] for each in second], first["data_s"], "s")]
    whole = [each["data_s"] + each["import_s"] for each in second]
    found.append(_ratio("second start, import of torch included", whole, first["data_s"] + first["import_s"], "s"))
    begun = start(cache, "folder", 2, memory="stream", workers=1, **path)
    again = start(cache, "folder", 2, memory="stream", workers=1, **path)
    found.append(_ratio("second streamed start, data", [again["data_s"]], begun["data_s"], "s"))
    held = statistics.median(each["images_per_s"] for each in second)
    peak = second[-1]["peak_bytes"]
    for workers in (0, 1, 2):
        streamed = start(cache, "folder", 20, memory="stream", workers=workers, **path)
        words = f"images a second, streamed with {workers} workers, beside in memory"
        found.append(_ratio(words, [streamed["images_per_s"]], held, "/s"))
        found.append(_ratio(f"peak memory, streamed with {workers} workers", [streamed["peak_bytes"]], peak, "bytes"))
    seconds = prepare(cache, source, root / "one")
    prepare(cache, source, root / "many", "--shard-size", "16")
    found.append({"measured": "data prepare, images a second", "value": count / seconds, "unit": "/s"})
    for name in ("one", "many"):
        copies = [start(cache, "prepared", 100, path=str(root / name)) for _ in range(3)]
        rates = [each["images_per_s"] for each in copies]
        found.append(_ratio(f"images a second, prepared ({name} file), beside in memory", rates, held, "/s"))
        opened = [each["open_s"] for each in copies]
        found.append(
            _ratio(f"opening a prepared copy ({name} file) beside the first start", opened, first["open_s"], "s")
        )
    return found


def _ratio(what: str, values: list[float], base: float, unit: str) -> dict[str, Any]:
    value = statistics.median(values)
    return {"measured": what, "ratio": value / base, "value": value, "beside": base, "unit": unit}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="how many images")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    shared = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="ganzoo-images-", dir=shared if shared.is_dir() else None))
    try:
        found = measure(root, args.count)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    for each in found:
        ratio = f"{each['ratio']:8.3f} x" if "ratio" in each else " " * 10
        beside = f"  (beside {each['beside']:,.4g})" if "beside" in each else ""
        print(f"{ratio}  {each['value']:>12,.4g} {each['unit']:5}  {each['measured']}{beside}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
