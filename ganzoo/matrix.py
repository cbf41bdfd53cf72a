"""Which components go together: the rules, asked about every combination. Free of torch.

A cell is a generator, a discriminator, a loss, a trainer, a regularizer or none, and a kind of data. It *works*; or it
is *adapted*, when the recipe of one component changed an option of another; or a rule *refuses* it, in a sentence.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from ganzoo import options
from ganzoo.api import Choice
from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.options import options_of
from ganzoo.registry import registry

AXES: Final = ("gen", "disc", "loss", "trainer", "reg", "data")
DATA: Final[Mapping[str, Mapping[str, Any]]] = {
    "labelled images": {"data": "digits"},
    "images": {"data": "celeba"},
    "labelled points": {"data": "ring"},
    "points": {"data": "swissroll"},
}
"""A data set of each kind."""
NO_REG: Final = "none"
AUTO: Final = "auto"
_RECIPE: Final = "recipe of "

Status = Literal["works", "adapted", "refused"]


@dataclass(frozen=True)
class Cell:
    """One combination.

    Attributes:
        gen, disc, loss, trainer, reg, data: names; the regularizer may be ``none``, the data are a kind of data.
        status: whether it works, is adapted, or is refused.
        changes: options that the recipe of another component changed, as ``disc.norm: batch -> none (...)``.
        sentences: of the rules that refuse it.
    """

    gen: str
    disc: str
    loss: str
    trainer: str
    reg: str
    data: str
    status: Status
    changes: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), "changes": list(self.changes), "sentences": list(self.sentences)}


def axes(*, builtin: bool = False) -> dict[str, list[str]]:
    """Name of an axis -> what stands on it; with ``builtin``, what ships with ganzoo only."""

    def names(kind: str) -> list[str]:
        entries = registry().entries(kind)
        return [
            entry.component.name if entry.plugin.builtin else entry.id
            for entry in entries
            if entry.plugin.builtin or not builtin
        ]

    return {
        **{axis: names(axis) for axis in ("gen", "disc", "loss", "trainer")},
        "reg": [NO_REG, *names("reg")],
        "data": list(DATA),
    }


def settings(gen: str, disc: str, loss: str, trainer: str, reg: str) -> dict[str, Any]:
    """The configuration of a cell, without its data."""
    return {"gen": gen, "disc": disc, "loss": loss, "trainer": trainer, "reg": () if reg == NO_REG else (reg,)}


def cells(*, builtin: bool = False) -> Iterator[Cell]:
    """Every cell."""
    for *parts, kind in itertools.product(*axes(builtin=builtin).values()):
        yield judge(resolve([Layer("matrix", {**settings(*parts), **DATA[kind]})]), (*parts, kind))


def judge(config: RunConfig, names: Sequence[str]) -> Cell:
    """The cell of a configuration; ``names`` are those of :data:`AXES`."""
    kind = names[AXES.index("data")]
    # A cell stands for every data set of its kind.
    sentences = tuple(text.replace(f"the data set {kind}", kind) for text in config.plan().broken_rules(data=kind))
    changes = () if sentences else tuple(_changes(config))
    status: Status = "refused" if sentences else "adapted" if changes else "works"
    return Cell(**dict(zip(AXES, names, strict=True)), status=status, changes=changes, sentences=sentences)


def _changes(config: RunConfig) -> Iterator[str]:
    """Options of a component that another component's recipe set to something else than it was."""
    for section, choice, values in config.sections():
        if choice is None:
            continue
        for opt in options_of(type(values)):
            path = f"{section}.{opt.name}"
            origin = config.origins[path]
            if not origin.startswith(_RECIPE) or origin in (_recipe_of(choice), _recipe_of(config.data)):
                continue
            before = config.data.component.recipe.get(path, opt.default)
            before, after = choice.component.recipe.get(path, before), getattr(values, opt.name)
            if before != after and not (before == AUTO and _same(choice, config, opt.name)):
                yield f"{path}: {options.show(before)} -> {options.show(after)} ({origin})"


def _same(choice: Choice, config: RunConfig, name: str) -> bool:
    """Whether a component is what it would be with the option left to itself, as far as rules can tell."""
    spec, part = config.spec(), choice.component
    return part.traits_of(choice.config, spec) == part.traits_of(replace(choice.config, **{name: AUTO}), spec)


def _recipe_of(choice: Choice) -> str:
    return f"{_RECIPE}{choice.component.kind} {choice.name}"


@dataclass(frozen=True)
class Row:
    """What is true of a generator and a discriminator on some kinds of data, with every loss, trainer and regularizer.

    Attributes:
        data: the kinds of data of which it is true.
        status: works, adapted or refused where that is true of every cell; partly if only some are refused.
        changes, sentences: numbers of the notes, from 1.
        refused: what is refused, in words, if only some cells are.
    """

    gen: str
    disc: str
    data: tuple[str, ...]
    status: str
    changes: tuple[int, ...]
    sentences: tuple[int, ...]
    refused: str = ""


@dataclass(frozen=True)
class Summary:
    """The matrix on a page.

    Attributes:
        rows: a line for each generator, discriminator and group of kinds of data.
        changes: the notes on adapted cells.
        sentences: the notes on refused cells.
        counts: status -> number of cells.
    """

    rows: tuple[Row, ...]
    changes: tuple[str, ...]
    sentences: tuple[str, ...]
    counts: Mapping[str, int]


def summarise(every: Iterable[Cell]) -> Summary:
    """Group the cells that say the same."""
    every = list(every)
    changes = _Notes(note for cell in every for note in cell.changes)
    sentences = _Notes(note for cell in every for note in cell.sentences)
    rows = []
    for (gen, disc), pair in _grouped(every, ("gen", "disc")).items():
        same: dict[Any, list[str]] = {}
        for (kind,), group in _grouped(pair, ("data",)).items():
            said = (
                _status(group),
                changes.numbers(note for cell in group for note in cell.changes),
                sentences.numbers(note for cell in group for note in cell.sentences),
                _refused(group),
            )
            same.setdefault(said, []).append(kind)
        rows += [Row(gen, disc, tuple(kinds), *said) for said, kinds in same.items()]
    counts = {status: sum(cell.status == status for cell in every) for status in ("works", "adapted", "refused")}
    return Summary(tuple(rows), tuple(changes.texts), tuple(sentences.texts), counts)


def to_markdown() -> str:
    """The page of the docs, of what ships with ganzoo."""
    found = summarise(cells(builtin=True))
    lines = [
        "# What goes together",
        "",
        "Every generator with every discriminator, loss, trainer and regularizer (or none) on every kind of data: "
        f"{sum(found.counts.values()):,} combinations. {found.counts['works']:,} work as they are; "
        f"{found.counts['adapted']:,} work because the recipe of one part changes an option of another, as its paper "
        f"prescribes; {found.counts['refused']:,} are refused by a rule. `nox -s matrix` trains each of the others "
        "for two steps.",
        "",
        "`ganzoo list --matrix` shows this with your plugins, and `ganzoo run ... --allow-incompatible` tries a "
        "refused combination. Under data stand kinds of data, not names: your own images count as labelled images or "
        f"as images. They are tried as {_tried()}; what a network asks of the size it says when you use another one.",
        "",
        *_JSON.splitlines(),
        "",
        "| generator | discriminator | data | verdict |",
        "| --- | --- | --- | --- |",
        *(f"| {row.gen} | {row.disc} | {', '.join(row.data)} | {verdict(row)} |" for row in found.rows),
        "",
    ]
    for title, mark, notes in (("Adapted", "a", found.changes), ("Refused", "r", found.sentences)):
        if notes:
            lines += [
                f"## {title}",
                "",
                *(f"- {mark}{number}: {_escaped(note)}" for number, note in enumerate(notes, 1)),
                "",
            ]
    return "\n".join(lines)


def _tried() -> str:
    """The data set that stands for each kind, with its samples."""
    configs = {kind: resolve([Layer("docs", values)]) for kind, values in DATA.items()}
    return ", ".join(f"`{config.data.name}` ({config.spec()}: {kind})" for kind, config in configs.items())


_JSON: Final = """\
`ganzoo list --matrix --json` prints an object: `format` (`ganzoo-matrix/1`), `axes` (the names of the six), `counts`
(how many cells work, are adapted, are refused) and `cells`, a list of objects. A cell has `gen`, `disc`, `loss`,
`trainer`, `reg` (a name, or `none`), `data` (a kind of data), `status` (`works`, `adapted` or `refused`), `changes`
(what a recipe changes, if adapted) and `sentences` (the reasons, if refused). With data of that kind it trains:

<!-- run -->
```python
import ganzoo

cell = {"gen": "dcgan", "disc": "mlp", "loss": "ns", "trainer": "alternating", "reg": "none", "data": "images"}
parts = {key: cell[key] for key in ("gen", "disc", "loss", "trainer", "reg")}
ganzoo.train({**parts, "data": "digits", "cond": "off"}, steps=100, samples=4, batch_size=8)
```"""


def verdict(row: Row) -> str:
    """A row in words, with the marks of its notes: ``a1`` is an adaptation, ``r1`` a refusal."""
    refusals = " ".join(f"r{number}" for number in row.sentences)
    adapted = f"adapted: {' '.join(f'a{number}' for number in row.changes)}" if row.changes else ""
    if row.status == "refused":
        return f"refused: {refusals}"
    return "; ".join(filter(None, ["works", adapted, f"refused {row.refused}: {refusals}" if row.refused else ""]))


class _Notes:
    """Sentences with numbers, from 1, in the order in which they first appear."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(dict.fromkeys(texts))
        self._numbers = {text: number for number, text in enumerate(self.texts, 1)}

    def numbers(self, texts: Iterable[str]) -> tuple[int, ...]:
        return tuple(sorted({self._numbers[text] for text in texts}))


def _grouped(every: Iterable[Cell], by: Sequence[str]) -> dict[tuple[str, ...], list[Cell]]:
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in every:
        groups.setdefault(tuple(getattr(cell, axis) for axis in by), []).append(cell)
    return groups


def _status(group: Sequence[Cell]) -> str:
    found = {cell.status for cell in group}
    return "refused" if found == {"refused"} else "partly" if "refused" in found else "works"


def _refused(group: Sequence[Cell]) -> str:
    """Which losses, trainers and regularizers are refused throughout, and how many cells this leaves unexplained."""
    left = [cell for cell in group if cell.status == "refused"]
    if len(left) in (0, len(group)):
        return ""
    words = []
    for axis in ("loss", "trainer", "reg"):
        names = [
            name for (name,), of_name in _grouped(group, (axis,)).items() if all(c.status == "refused" for c in of_name)
        ]
        if names:
            words.append(f"with {axis} {', '.join(names)}")
            left = [cell for cell in left if getattr(cell, axis) not in names]
    return " and ".join([*words, *([f"in {len(left)} more cell{'s' * (len(left) > 1)}"] if left else [])])


def _escaped(text: str) -> str:
    return text.replace("->", "→")
