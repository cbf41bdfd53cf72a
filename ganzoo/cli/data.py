"""``ganzoo data``: prepared copies of images, and what is kept of images for the next start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ganzoo.cli import Group, terminal
from ganzoo.cli.shared import json_option, plugin_option, tend_cache
from ganzoo.data.files import Channels, Fit, OnBadImage
from ganzoo.errors import UsageError, printable, quoted
from ganzoo.options import options_of

if TYPE_CHECKING:
    from ganzoo.data.copies import Copy
    from ganzoo.data.prepare import Original


@click.group("data", cls=Group)
def command() -> None:
    """Prepare copies of images that open at once, and check them.

    \b
    ganzoo data prepare photos photos-64 --size 64
    ganzoo run --data photos-64
    """


@command.command("prepare")
@click.argument("source", metavar="SRC")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--size", metavar="N", type=click.IntRange(min=4), help="Height and width. [default: what suits]")
@click.option("--channels", type=click.Choice(get_args(Channels)), help="One channel or three. [default: auto]")
@click.option("--fit", type=click.Choice(get_args(Fit)), help="Other proportions: cut, add black, or distort.")
@click.option(
    "--cond",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Labels: those there are, needed, or left out. [default: auto]",
)
@click.option("--split", metavar="NAME", help="Which part of a data set that has parts.")
@click.option("--on-bad-image", type=click.Choice(get_args(OnBadImage)), help="What to do about a broken image.")
@click.option("--workers", metavar="N", type=click.IntRange(min=0), help="Processes that decode. [default: by cores]")
@click.option(
    "--shard-size", metavar="MIB", type=click.IntRange(min=1), default=1024, help="Size of a file. [default: 1024]"
)
@plugin_option
@json_option
def prepare(source: str, out: Path, *, cond: str, shard_size: int, as_json: bool, **asked: Any) -> None:
    """Write a copy of SRC that opens at once: resized, decoded, in files that are mapped into memory.

    SRC is whatever --data takes: a folder, a zip, an npz, or the name of a data set. --data OUT uses the copy.
    """
    from ganzoo.cli.progress import progress_for
    from ganzoo.data.prepare import prepare as write
    from ganzoo.training.signals import StopSignals

    original = _original(source, cond, asked)
    kept = StopSignals("stopped; what is done is kept, and the same command goes on from there")
    with kept, progress_for(terminal.console(stderr=True)) as progress:
        advance = progress("Images", original.count)
        copy = write(original, out, shard_bytes=shard_size * 2**20, advance=advance)
    if as_json:
        terminal.dump(_told(copy))
    else:
        terminal.say(str(out))
        following = f"ganzoo run --data {quoted(_as_data(out))}"
        terminal.status(f"{copy.count:,} images of {copy.spec}, {copy.nbytes:,} bytes. Next: {following}")


@command.command("show")
@click.argument("path", metavar="COPY", type=click.Path(path_type=Path))
@json_option
def show(path: Path, as_json: bool) -> None:
    """Show what a prepared copy holds, and what it was made from."""
    from ganzoo.data.copies import read_copy

    copy = read_copy(path)
    if as_json:
        terminal.dump(_told(copy))
        return
    rows = [
        ("images", f"{copy.count:,}"),
        ("one image", "x".join(map(str, copy.spec.shape))),
        ("classes", _classes(copy)),
        ("bytes", f"{copy.nbytes:,}"),
        ("files", str(len(copy.shards))),
        ("digest", copy.digest[:16]),
        *((f"source: {k}", str(v)) for k, v in copy.source.items() if k != "key" and v is not None),
    ]
    terminal.table(("", ""), rows)


@command.command("check")
@click.argument("path", metavar="COPY", type=click.Path(path_type=Path))
def check(path: Path) -> None:
    """Read all of a prepared copy, and compare it with its hashes.

    Opening a copy does not do that: it would take as long as reading the copy.
    """
    from ganzoo.cli.progress import progress_for
    from ganzoo.data.copies import check_copy, read_copy

    copy = read_copy(path)
    with progress_for(terminal.console(stderr=True)) as progress:
        check_copy(copy, progress("Images", copy.count))
    terminal.say(f"{path} is what was prepared: {copy.count:,} images in {_files(copy)}.")


@command.command("cache")
@click.argument("what", type=click.Choice(["list", "clear"]), default="list")
@json_option
def cache(what: str, as_json: bool) -> None:
    """List or clear what is kept for a quick start.

    Of folders and zips, that is an index, and the pixels if they took long to decode. Features of images are listed by
    'ganzoo eval --cache list'.
    """
    from ganzoo.data.kept import ImageCache, source_of

    tend_cache(ImageCache(), what, "source", "made from", source_of, as_json=as_json)


def _original(source: str, cond: str, asked: dict[str, Any]) -> Original:
    """What is to be copied.

    Raises:
        UsageError: the data set has not the options that were asked for, or no labels.
    """
    from ganzoo.api import Spec
    from ganzoo.data.naming import data_settings
    from ganzoo.registry import build, registry

    settings = data_settings(source, "SRC")
    workers = asked.pop("workers")
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    record = {"data": printable(source), **options, "cond": cond}
    if "data.path" in settings:
        options["path"] = settings["data.path"]
    config = registry().get("dataset", settings["data"]).component.config
    if cond == "off" and any(option.name == "labels" and option.default is True for option in options_of(config)):
        options["labels"] = False
    choice = registry().choose("dataset", settings["data"], options)
    assert choice.component.spec is not None
    spec = choice.component.spec(choice.config)
    if cond == "on" and spec.num_classes is None:
        raise UsageError(f"cond is on, but {source} has no labels; put the images of each class into a folder.")
    spec = Spec(spec.shape) if cond == "off" else spec
    from ganzoo.data.prepare import from_dataset, from_files

    if choice.id != "ganzoo/folder":
        return from_dataset(build(choice, spec), record)
    from ganzoo.data.files import at_home, list_images
    from ganzoo.data.workers import Decoders, workers_wanted

    assert len(spec.shape) == 3
    files = list_images(at_home(Path(options["path"])).absolute(), labels=spec.num_classes is not None)
    decoders = Decoders(files, spec.shape, choice.config.fit, workers_wanted(workers))
    return from_files(files, spec, decoders, choice.config.on_bad_image, record)


def _as_data(out: Path) -> str:
    """What ``--data`` takes for this folder, which may have the name of a data set."""
    from ganzoo.data.naming import data_settings

    return str(out) if "data.path" in data_settings(str(out)) else f"./{out}"


def _told(copy: Copy) -> dict[str, Any]:
    return {"path": str(copy.path), **copy.to_dict(), "digest": copy.digest}


def _classes(copy: Copy) -> str:
    if copy.spec.num_classes is None:
        return "none"
    names = ", ".join(copy.classes[:8]) + ", ..." * (len(copy.classes) > 8)
    return f"{copy.spec.num_classes}" + (f": {names}" if names else "")


def _files(copy: Copy) -> str:
    count = len(copy.shards)
    return "1 file" if count == 1 else f"{count:,} files"
