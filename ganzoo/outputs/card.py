"""The model card of an export: what it is, how to use it, how it was trained, and what nobody measured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ganzoo.errors import printable
from ganzoo.evaluation.result import Result
from ganzoo.options import show
from ganzoo.plugins import HOME

CARD: Final = "README.md"
_LONGEST: Final = 300
_CARD: Final = """\
---
library_name: ganzoo
{pipeline}tags:
{tags}
---

# {title}

{what}

![Samples](samples.png)

## Use

```sh
pip install {packages}
ganzoo sample path/to/this/folder --out samples.png
```

```python
{python}
```
{local}
Latents have {dim} numbers from the {prior} prior; `gen.latent(n)` draws them.

## Training

{training}

## Evaluation

{scores}

{picture}

## Licence

Not stated. Whoever publishes these weights chooses a licence, minding that of the data they were trained on, and names
it here and as `license` at the top.
"""
_LOCAL: Final = """
The generator comes from the unpackaged plugin `{file}`, which is needed too: name it with `-p` or `GANZOO_PLUGINS`.
"""
_UNCHOSEN: Final = "The picture shows samples of consecutive latents, not chosen ones."
_EVALUATION: Final = "## Evaluation"
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_DISTRIBUTION: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_PLAIN: Final = """\
import ganzoo
gen = ganzoo.load("path/to/this/folder")
{samples} = gen(gen.latent(16))  # {result}"""
_PER_CLASS: Final = """\
import ganzoo, torch
gen = ganzoo.load("path/to/this/folder", device="cpu")
{samples} = gen(gen.latent(16), torch.arange(16) % {classes})  # {result}"""
_SECTIONS: Final = {
    "data": "data set",
    "gen": "generator",
    "disc": "discriminator",
    "loss": "loss",
    "reg": "regularizers",
    "trainer": "trainer",
}


def card(record: Mapping[str, Any], *, conditional: bool, results: Sequence[Result] = ()) -> str:
    """The card in Markdown, with the front matter that Hugging Face reads.

    Args:
        record: the ``config.json`` of the export.
        conditional: whether the generator takes labels.
        results: of evaluations, each told with its protocol.
    """
    spec, run, plugin = record["spec"], _tables(record.get("run")), _table(record["generator"], "plugin")
    name = _short(record["generator"]["id"])
    data = _name_in(run, "data") if run else None
    image = len(spec["shape"]) == 3
    tags = dict.fromkeys(["gan", "generative-adversarial-network", "pytorch", name, *([data] if data else [])])
    size = ", ".join(map(str, [16, *spec["shape"]]))
    prior = _table(record, "latent").get("prior")
    return _CARD.format(
        pipeline="pipeline_tag: unconditional-image-generation\n" if image and not conditional else "",
        tags="\n".join(f"- {tag}" for tag in tags),
        title=f"{name} trained on {data}" if data else name,
        what=_what(record, conditional=conditional),
        packages=" ".join(dict.fromkeys([HOME, *_packages(plugin)])),
        local=_local(plugin),
        python=(_PER_CLASS if conditional else _PLAIN).format(
            samples="images" if image else "points",
            classes=spec["num_classes"],
            result=f"[{size}]" + (" in [-1, 1]" if image else ""),
        ),
        dim=_word(_table(record, "latent").get("dim", "some")),
        prior="generator's own" if prior in (None, "own") else _word(prior),
        scores=_told(results),
        picture=_UNCHOSEN,
        training="\n".join(_training(record) if run else _imported(_table(record, "imported_from"))),
    )


def rescored(text: str, before: Sequence[Result], after: Sequence[Result]) -> str:
    """A card that tells the results ``after`` in place of ``before``; what people wrote into it stays.

    Where what it told of ``before`` was altered, the section on evaluation is written anew; it is added where it is
    missing.
    """
    end = "\r\n" if "\r\n" in text else "\n"
    old, new = (_told(results).replace("\n", end) for results in (before, after))
    if old in text:
        return text.replace(old, new, 1)
    lines = text.splitlines(keepends=True)
    heads = _headings(lines)
    start = next((at for at in heads if lines[at].rstrip() == _EVALUATION), None)
    if start is None:
        return f"{text.rstrip()}{end * 2}{_EVALUATION}{end * 2}{new}{end}"
    stop = next((at for at in heads if at > start), len(lines))
    rest = [f"{end}{_UNCHOSEN}{end}"] if any(_UNCHOSEN in line for line in lines[start:stop]) else []
    rest += [end, *lines[stop:]] if stop < len(lines) else []
    return "".join([*lines[:start], f"{_EVALUATION}{end * 2}{new}{end}", *rest])


def _headings(lines: Sequence[str]) -> list[int]:
    """The numbers of the lines that are headings of the first two levels, which no line of a listing is."""
    found, fence = [], ""
    for at, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark is None:
            found += [at] if not fence and line.startswith(("# ", "## ")) else []
        elif not fence:
            fence = mark[1]
        elif mark[1].startswith(fence):
            fence = ""
    return found


def _told(results: Sequence[Result]) -> str:
    return "\n".join(_scores(results)) if results else "No score was computed for this export."


def _what(record: Mapping[str, Any], *, conditional: bool) -> str:
    shape, classes = record["spec"]["shape"], record["spec"]["num_classes"]
    kind = f"{'x'.join(map(str, shape))} images" if len(shape) == 3 else f"points of {shape[0]} numbers"
    weights = "the moving average of its weights" if record.get("weights") == "ema" else "its weights as last trained"
    per_class = f", of a wanted one of {classes} classes" if conditional else ""
    return f"The generator of a GAN that draws {kind}{per_class}: {weights}."


def _imported(origin: Mapping[str, Any]) -> Iterator[str]:
    if not origin:
        yield "Nothing is known of it."
        return
    file, digest = (_code(str(origin.get(name, "unknown"))) for name in ("file", "sha256"))
    yield f"Trained elsewhere; imported from `{file}` (SHA-256 `{digest}`)."


def _training(record: Mapping[str, Any]) -> Iterator[str]:
    """Every setting in a table, and the versions."""
    yield "| setting | value |"
    yield "| --- | --- |"
    yield _row("steps done", record.get("steps", "unknown"))
    for path, value in _settings(_tables(record.get("run"))):
        yield _row(path, value)
    yield ""
    for words, versions in (("Trained", record.get("trained_with")), ("Exported", record.get("versions"))):
        if versions and isinstance(versions, dict):
            yield f"{words} with " + ", ".join(f"{_word(name)} {_word(of)}" for name, of in versions.items()) + "."


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    regs = _tables(config.get("reg"))
    for section, words in _SECTIONS.items():
        yield words, (", ".join(regs) or "none") if section == "reg" else _name_in(config, section, whole=True)
    tables = {section: table for section, table in config.items() if section != "reg"}
    for section, table in (tables | {f"reg.{_short(name)}": table for name, table in regs.items()}).items():
        for key, value in table.items():
            if key != "name" or section not in _SECTIONS:  # the component's name; an optimiser's is a setting
                yield f"{section}.{key}", value


def _scores(results: Sequence[Result]) -> Iterator[str]:
    """Every score in a table, and how it was measured."""
    for number, result in enumerate(results):
        if number:
            yield ""
        yield "| score | value | note |"
        yield "| --- | --- | --- |"
        for score in result.scores:
            spread = "" if score.std is None else f" (std {score.std:.2g})"
            yield f"| `{_code(score.label)}` | {score.value:.5g}{spread} | {_note(score.note)} |"
        yield ""
        known = [f"{name} {value}" for name, value in result.protocol.items() if value is not None]
        yield f"Measured with `{_code(', '.join(known))}`."


def _row(name: str, value: Any) -> str:
    return f"| {_word(name)} | `{_code(show(value))}` |"


def _table(record: Any, name: str) -> dict[str, Any]:
    """A table of a record, which may be a stranger's; empty if there is none."""
    found = record.get(name) if isinstance(record, Mapping) else None
    return found if isinstance(found, dict) else {}


def _packages(plugin: Mapping[str, Any]) -> list[str]:
    """The package that brings the generator; none if that is a file, whose name somebody else's package may have."""
    name = str(plugin.get("distribution", ""))
    return [name] if plugin.get("version") and _DISTRIBUTION.fullmatch(name) else []


def _local(plugin: Mapping[str, Any]) -> str:
    return _LOCAL.format(file=_code(str(plugin["distribution"]))) if plugin.get("version") == "" else ""


def _tables(value: Any) -> dict[str, Any]:
    """The tables of a configuration, which may be a stranger's."""
    return {key: table for key, table in value.items() if isinstance(table, dict)} if isinstance(value, dict) else {}


def _name_in(config: Mapping[str, Any], section: str, *, whole: bool = False) -> str:
    name = str(config.get(section, {}).get("name", "unknown"))
    return _word(name if whole else _short(name))


def _word(text: Any) -> str:
    """A name that means nothing in Markdown, HTML and YAML, whoever chose it."""
    return re.sub(r"[^\w ./+~-]", "_", printable(str(text)))[:_LONGEST].strip() or "_"


def _note(text: str) -> str:
    return f"`{_code(text)}`" if text else ""


def _code(text: str) -> str:
    """Text between backticks within a table."""
    plain = printable(" ".join(text.split())).replace("\\", "/").replace("|", "\\|").replace("`", "'")
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]} ..."


def _short(name: str) -> str:
    return name.rpartition("/")[2]
