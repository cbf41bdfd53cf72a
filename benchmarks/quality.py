"""Quality per minute: ganzoo's presets and the common scripts, all given the same time, scored the same way.

``GANZOO_DATA=... python benchmarks/quality.py --seconds 300 --seeds 3 --json quality.json`` trains every contender with
every seed, one after the other. What is done is in the file; the same command goes on with what is missing, and notes
the machine where that is another than the file began on. Time is that of training, data included, without imports and
starts; a preset whose steps are done earlier takes no more. Samples are 10,000 and are scored by the Frechet distance
of ``digit-cnn`` to the reference of the data: MNIST's test set, or the digits.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from measure import machine
from measure.asked import device, positive, several
from tutorials.contenders import SCRIPTS

from ganzoo.files import json_digest, write_text
from ganzoo.registry import registry

FORMAT: Final = "ganzoo-quality/1"
HERE: Final = Path(__file__).parent
REFERENCE: Final = {"mnist": "mnist:test", "digits": "digits"}
_NO_LABELS: Final = ("--gen", "dcgan", "--disc", "dcgan")
OURS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "mnist": {"ganzoo": ("--preset", "mnist-5min"), "ganzoo-unlabelled": ("--preset", "mnist-5min", *_NO_LABELS)},
    "digits": {"ganzoo": ("--preset", "digits-5min"), "ganzoo-unlabelled": ("--preset", "digits-5min", *_NO_LABELS)},
}
"""Command lines of ours by data; a preset that is added to one of them competes, too."""


@dataclass(frozen=True)
class Asked:
    """What is the same for all contenders.

    Attributes:
        data: ``mnist`` or ``digits``.
        seconds: of training.
        samples: that are scored.
        device: what to compute on.
    """

    data: str
    seconds: float
    samples: int
    device: str


def contenders(data: str) -> dict[str, str]:
    """Names of those who compete, with what they are; ours first."""
    ours = {name: " ".join(("ganzoo run", *words)) for name, words in OURS[data].items()}
    return ours | {name: script.summary for name, script in SCRIPTS.items()}


def settings_of(name: str, data: str) -> str:
    """What a contender is trained with, in short, so that nobody gets the scores of what once had its name."""
    words = OURS[data].get(name)
    if words is None:
        return SCRIPTS[name].summary
    presets = [registry().preset(word) for before, word in pairwise(words) if before == "--preset"]
    return json_digest([words, *(dict(preset.settings) for preset in presets)])[:16]


def compete(name: str, seed: int, asked: Asked, folder: Path) -> dict[str, Any]:
    """Train a contender and score it."""
    begun = time.perf_counter()
    if name in OURS[asked.data]:
        said = train_ours(OURS[asked.data][name], seed, asked, folder)
        subject = folder / "run"
    else:
        subject = folder / "samples.npz"
        options = {"data": asked.data, "seconds": asked.seconds, "seed": seed, "samples": asked.samples}
        flags = [f"--{key}={value}" for key, value in options.items()]
        script = [sys.executable, str(HERE / "tutorial.py"), name, *flags, "--device", asked.device]
        said = json.loads(run([*script, "--out", str(subject)]))
    trained = time.perf_counter() - begun
    who = {"contender": name, "settings": settings_of(name, asked.data), "seed": seed}
    return {**who, "whole_seconds": round(trained, 1), **said, **score(subject, asked)}


def train_ours(words: Sequence[str], seed: int, asked: Asked, folder: Path) -> dict[str, Any]:
    """A run of the command line, and how far it came."""
    more = ["--max-time", str(asked.seconds), "--seed", str(seed), "--device", asked.device]
    command = [sys.executable, "-m", "ganzoo", "run", *words, *more, "--out", str(folder), "--name", "run"]
    run(command)
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    last = [line for line in lines if "seconds" in line][-1]
    return {"steps": last["step"], "seconds": last["seconds"]}


def score(subject: Path, asked: Asked) -> dict[str, Any]:
    """FID[digit-cnn] of a run or of images, with its protocol."""
    words = ["--against", REFERENCE[asked.data], "--metric", "fid", "--features", "digit-cnn"]
    more = ["--samples", str(asked.samples), "--device", asked.device, "--json"]
    found = json.loads(run([sys.executable, "-m", "ganzoo", "eval", str(subject), *words, *more]))
    (fid,) = (each for each in found["scores"] if each["name"] == "fid")
    return {"fid": fid["value"], "label": fid["label"], "protocol": found["protocol"]}


def run(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        SystemExit: it fails; what it said is shown.
    """
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=os.environ, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def table(found: Sequence[Mapping[str, Any]], data: str) -> list[dict[str, Any]]:
    """Each contender's mean and standard deviation over seeds, its ratio to the best script's mean, and the seeds that
    were trained on another machine than that of the file, with what that is.
    """
    rows = []
    for name, what in contenders(data).items():
        mine = [each for each in found if (each["contender"], each["settings"]) == (name, settings_of(name, data))]
        if mine:
            values = [each["fid"] for each in mine]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            steps = round(statistics.mean(each["steps"] for each in mine))
            rows.append(
                {
                    "contender": name,
                    "what": what,
                    "seeds": len(values),
                    "steps": steps,
                    "mean": statistics.mean(values),
                    "std": deviation,
                    "elsewhere": [(each["seed"], each["machine"]) for each in mine if "machine" in each],
                }
            )
    best = min((row["mean"] for row in rows if row["contender"] in SCRIPTS), default=None)
    for row in rows:
        row["ratio"] = None if best is None else row["mean"] / best
    return rows


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table."""
    print(f"{'contender':<18} {'FID':>8} {'std':>7} {'by the best script':>19} {'steps':>8} {'seeds':>6}  what it is")
    for row in rows:
        deviation = "" if row["std"] is None else f"{row['std']:.3f}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        counts = f"{row['steps']:8} {row['seeds']:6}"
        print(f"{row['contender']:<18} {row['mean']:8.3f} {deviation:>7} {ratio:>19} {counts}  {row['what']}")


def opened(file: Path | None, asked: Asked) -> dict[str, Any]:
    """What the file holds, if that was asked the same way, or a new beginning.

    Raises:
        SystemExit: it holds something else.
    """
    settings = {"data": asked.data, "seconds": asked.seconds, "samples": asked.samples, "device": asked.device}
    if file is not None and file.exists():
        saved: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if saved.get("format") != FORMAT or saved.get("asked") != settings:
            raise SystemExit(f"{file} is of other settings ({saved.get('asked')}); name another file.")
        return saved
    return {"format": FORMAT, "machine": machine.facts(torch.device(asked.device)), "asked": settings, "results": []}


def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", choices=REFERENCE, default="mnist", help="what to train on (mnist)")
    parser.add_argument("--seconds", type=positive, default=300.0, help="of training for each (300)")
    parser.add_argument("--seeds", type=several, default=3, help="how many, from 0 on (3)")
    parser.add_argument("--samples", type=several, default=10_000, help="that are scored (10,000)")
    parser.add_argument("--only", help="contenders, separated by commas (all)")
    parser.add_argument("--device", type=device, default="cpu", help="auto, cpu, cuda, ... (cpu)")
    parser.add_argument("--json", type=Path, help="file that keeps what is done; go on with the same command")
    parsed = parser.parse_args(arguments)
    asked = Asked(parsed.data, parsed.seconds, parsed.samples, str(parsed.device))
    known = contenders(asked.data)
    wanted = parsed.only.split(",") if parsed.only else list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"there is no contender {unknown[0]!r}; there are {', '.join(known)}")
    kept, here = opened(parsed.json, asked), machine.facts(parsed.device)
    done = {(each["contender"], each["settings"], each["seed"]) for each in kept["results"]}
    for seed in range(parsed.seeds):  # by seed, so that an early end leaves whole rounds
        for name in wanted:
            if (name, settings_of(name, asked.data), seed) in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                result = compete(name, seed, asked, Path(folder))
            kept["results"].append(result if here == kept["machine"] else {**result, "machine": here})
            print(
                f"{name}, seed {seed}: {result['label']} {result['fid']:.4f} after {result['steps']} steps", flush=True
            )
            if parsed.json:
                write_text(parsed.json, json.dumps(kept, indent=1) + "\n")
    show(table(kept["results"], asked.data))


if __name__ == "__main__":
    main()
