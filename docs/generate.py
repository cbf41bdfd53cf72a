"""Write the pages that follow from the code: components, matrix, presets, commands, names, hooks, README.

``python docs/generate.py`` writes them; ``--check`` compares only, names what is stale and exits with 1. What ships
with ganzoo is documented, whatever else is installed. Free of torch.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import click
from signatures import signatures

from ganzoo import hookspecs, matrix, options
from ganzoo.api import KINDS, Preset
from ganzoo.cli import COMMANDS, cli
from ganzoo.cli.axes import LAUNCHER
from ganzoo.config import DEFAULTS, SECTIONS, Layer, resolve
from ganzoo.errors import GanzooError
from ganzoo.plugins import loaded
from ganzoo.registry import Entry, registry

DOCS: Final = Path(__file__).parent
ROOT: Final = DOCS.parent
WIDTH: Final = 100
NOTICE: Final = "<!-- Written by docs/generate.py from the code; do not edit. -->\n"
PRESETS_INTRODUCED: Final = (
    "Settings by name: `ganzoo run --preset NAME`. What you set yourself wins. Options belong to a component: where",
    "you choose another one than the preset, what that says of its own does not apply, and the other's defaults do.",
)
SECTION_OF: Final = {kind: section for section, kind in SECTIONS.items()} | {"extractor": "features"}
OF_SWEEPS: Final = {"launcher": ("launcher", LAUNCHER)}
"""Kind that ``ganzoo sweep`` alone chooses -> its option, and what is chosen by default."""
PLURALS: Final = {
    "generator": "Generators",
    "discriminator": "Discriminators",
    "loss": "Losses",
    "regularizer": "Regularizers",
    "trainer": "Trainers",
    "dataset": "Data sets",
    "extractor": "Extractors",
    "launcher": "Launchers",
}
REFERENCE: Final = {
    "ganzoo": "What the command line does, from Python.",
    "ganzoo.api": "What the light module of a plugin imports. Free of torch.",
    "ganzoo.nn": "The contracts on torch's side, and what networks, losses and trainers are built from.",
    "ganzoo.data": "Sources of real samples.",
    "ganzoo.testing": "The conformance kit, for the tests of a plugin.",
}
"""Public module -> what it is for, in the order of the reference."""
WORDS: Final = {word: f"`{word.upper()}`" for word in ("gen", "disc", "loss", "reg", "trainer", "data", "spec")}


def entries() -> list[Entry]:
    """The built-in components, by kind and name."""
    return [entry for entry in registry().entries() if entry.plugin.builtin]


def presets() -> list[Preset]:
    """The built-in presets, by name."""
    ours = {preset.name for plugin in loaded() if plugin.builtin for preset in plugin.presets}
    return [preset for preset in registry().presets() if preset.name in ours]


def pages() -> dict[Path, str]:
    """Path -> text of every page that is written as a whole."""
    found = {DOCS / "components" / "index.md": index(), DOCS / "cli.md": command_line(), DOCS / "matrix.md": together()}
    for entry in entries():
        found[DOCS / "components" / entry.component.kind / f"{entry.component.name}.md"] = component(entry)
    if presets():
        found[DOCS / "presets.md"] = preset_page()
    return found | reference()


def parts() -> dict[Path, dict[str, str]]:
    """Path -> name of a marked part -> its text, of pages of which only a part is written."""
    return {ROOT / "README.md": {"components": overview()}, DOCS / "plugins.md": {"hooks": hooks()}}


def index() -> str:
    """Every component in one line, a table for each kind."""
    lines = [NOTICE, "# Components", "", "What ships with ganzoo; `ganzoo list` shows this and what you installed.", ""]
    tree = []
    for kind in KINDS:
        found = [entry for entry in entries() if entry.component.kind == kind]
        if not found:
            continue
        rows = [
            (f"[`{e.component.name}`]({kind}/{e.component.name}.md)", e.component.summary, paper(e.component.paper))
            for e in found
        ]
        lines += [f"## {PLURALS[kind]}", "", *table(("name", "what it is", "paper"), rows), ""]
        tree += [f"{kind}/{e.component.name}" for e in found]
    return "\n".join([*lines, *toctree(tree)])


def component(entry: Entry) -> str:
    """All about one component."""
    part = entry.component
    facts = [
        ("Paper", paper(part.paper)),
        ("Aliases", ", ".join(f"`{alias}`" for alias in part.aliases)),
        ("Samples", samples(entry)),
        ("Plugin", f"`{entry.plugin.name}`, of {entry.plugin.dist}"),
        ("Class", f"`{part.target}`"),
    ]
    lines = [
        NOTICE,
        f"# {part.kind.capitalize()} `{part.name}`",
        "",
        part.summary,
        "",
        *table(("", ""), [row for row in facts if row[1]]),
        "",
    ]
    lines += ["## Use", "", "```console", f"$ ganzoo {use(entry)}", "```", ""]
    lines += ["## Options", ""]
    if entry.options:
        section = OF_SWEEPS[part.kind][0] if part.kind in OF_SWEEPS else SECTION_OF[part.kind]
        prefix = f"--{section}." + (f"{part.name}." if part.kind == "regularizer" else "")
        flags = [f"`{prefix}{opt.name.replace('_', '-')}`" for opt in entry.options]
        values = [f"`{options.show(opt.default) or 'empty'}`" for opt in entry.options]
        described = [
            (flag, f"`{opt.type_name}`", value, opt.help)
            for opt, flag, value in zip(entry.options, flags, values, strict=True)
        ]
        lines += [*table(("option", "type", "default", "meaning"), described), ""]
    else:
        lines += ["None.", ""]
    if part.recipe:
        rows = [(f"`{path}`", f"`{options.show(value)}`") for path, value in part.recipe.items()]
        lines += ["## Recipe", "", "Settings it brings, unless you set them yourself.", ""]
        lines += [*table(("setting", "value"), rows), ""]
    if part.rules:
        lines += ["## Rules", "", "It refuses some combinations, in these words.", ""]
        for rule in part.rules:
            sentence = f"{rule.what}: {rule.why}; {rule.instead}.".format_map(WORDS)
            lines.append(f"- {sentence}")
        lines.append("")
    return "\n".join(lines)


def use(entry: Entry) -> str:
    """A command with options that choose the component and are refused by no rule."""
    part = entry.component
    if part.kind in OF_SWEEPS:
        return f"sweep --out DIR --seed 0,1,2 --{OF_SWEEPS[part.kind][0]} {part.name}"
    section, name = SECTION_OF[part.kind], part.name
    if part.kind == "extractor":
        return f"eval RUN --{section} {name}"
    if any(opt.name == "path" and opt.default is None for opt in entry.options):
        return f"run --data {name} --data.path PATH"
    for also in ((), ("gen",), ("disc",)):
        chosen = dict.fromkeys([*also, section], name)
        try:
            if not resolve([Layer("docs", chosen)]).plan().broken_rules():
                return " ".join(["run", *(f"--{key} {value}" for key, value in chosen.items())])
        except GanzooError:
            continue
    raise SystemExit(f"{part.kind}/{name} is refused with the defaults; teach docs/generate.py how it is used")


def samples(entry: Entry) -> str:
    """What a data set holds with its defaults, as far as that is known without looking."""
    if entry.component.spec is None:
        return ""
    try:
        return str(entry.component.spec(entry.component.config()))
    except GanzooError:
        return "what your files hold"


def preset_page() -> str:
    """Every preset with its settings."""
    lines = [NOTICE, "# Presets", "", *PRESETS_INTRODUCED, ""]
    for preset in presets():
        rows = [(f"`{path}`", f"`{options.show(value)}`") for path, value in preset.settings.items()]
        lines += [f"## {preset.name}", "", preset.summary, "", *table(("setting", "value"), rows), ""]
    return "\n".join(lines)


@cache
def together() -> str:
    """Which components go together: thousands of combinations, so once is enough."""
    return f"{NOTICE}\n{matrix.to_markdown()}"


def command_line() -> str:
    """The help page of every command, as printed."""
    lines = [NOTICE, "# The command line", ""]
    lines += [
        "The help pages as ganzoo prints them. The options of `run` and `export` depend on the components they name:",
        "`ganzoo run --gen mlp --loss wgan-gp --help` shows those of the two.",
        "",
    ]
    top = cli.make_context("ganzoo", [], resilient_parsing=True, terminal_width=WIDTH)
    found = [("ganzoo", cli.get_help(top))]
    for name in COMMANDS:
        found += helps(name, cli, top)
    for title, text in found:
        lines += [f"## {title}", "", "```text", *(line.rstrip() for line in text.splitlines()), "```", ""]
    return "\n".join(lines)


def helps(name: str, group: click.Group, above: click.Context) -> Iterator[tuple[str, str]]:
    """``(title, help page)`` of a command with its default components, and of those below it."""
    command = group.get_command(above, name)
    assert command is not None
    context = command.make_context(name, [], parent=above, resilient_parsing=True, terminal_width=WIDTH)
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from helps(below, command, context)


def reference() -> dict[Path, str]:
    """Path -> text of the pages of public names: signatures, and what Sphinx fills with docstrings.

    A name that two modules offer is told in the one it belongs to; ``ganzoo`` itself comes last.
    """
    lines = [
        NOTICE,
        "# Python",
        "",
        "Every public name; [What you can rely on](../stability.md) says what that means.",
        "",
    ]
    owners: dict[str, str] = {}
    for module in sorted(REFERENCE, key="ganzoo".__eq__):
        for name in public(module):
            owners.setdefault(name, module)
    found: dict[Path, str] = {}
    for module, about in REFERENCE.items():
        names = public(module)
        elsewhere = {name: owners[name] for name in names if owners[name] != module}
        lines += [f"## [`{module}`]({module}.md)", "", about, "", ", ".join(f"`{name}`" for name in names) + ".", ""]
        body = [NOTICE, f"# `{module}`", ""]
        body += [f"- `{name}` is that of [`{other}`]({other}.md)." for name, other in elsewhere.items()]
        body += [""] if elsewhere else []
        body += signatures(module, [name for name in names if name not in elsewhere])
        body += ["", "## In full", "", "On the site that `nox -s docs` builds, the docstrings follow.", ""]
        body += ["```{eval-rst}", f".. automodule:: {module}", "   :members:"]
        body += [f"   :exclude-members: {', '.join(elsewhere)}"] if elsewhere else []
        found[DOCS / "reference" / f"{module}.md"] = "\n".join([*body, "```", ""])
    found[DOCS / "reference" / "index.md"] = "\n".join([*lines, *toctree(REFERENCE)])
    return found


def public(module: str) -> list[str]:
    """The names in a module's ``__all__``, read from its source, because importing it may import torch."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise SystemExit(f"{module} has no __all__")


def toctree(names: Iterable[str]) -> list[str]:
    """Lines of what Sphinx needs to know which pages lie below this one."""
    return ["```{toctree}", ":hidden:", "", *names, "```", ""]


def hooks() -> str:
    """Every hook with its arguments, its meaning and an example."""
    lines = []
    for name, function in vars(hookspecs).items():
        if name.startswith("ganzoo_"):
            arguments = str(inspect.signature(function)).partition(" -> ")[0].strip("()").replace("'", "")
            about, _, example = inspect.cleandoc(function.__doc__ or "").partition("Example::")
            lines += [f"### `{name}({arguments})`", "", " ".join(about.split()).replace("``", "`"), ""]
            lines += ["```python", textwrap.dedent(example).strip(), "```", ""]
    # The examples stay as they are in the code, where they are indented and so have shorter lines.
    return "\n".join(["<!-- fmt: off -->", "", *lines, "<!-- fmt: on -->"])


def overview() -> str:
    """Names of all components, a line for each kind."""
    rows = []
    for kind in KINDS:
        found = [entry.component for entry in entries() if entry.component.kind == kind]
        names = ", ".join(f"[{part.name}](docs/components/{kind}/{part.name}.md)" for part in found)
        if names:
            section, default = OF_SWEEPS.get(kind) or (SECTION_OF[kind], DEFAULTS.get(SECTION_OF[kind], "by the data"))
            rows.append((f"`--{section}`", names, f"`{options.show(default) or 'none'}`"))
    return "\n".join(table(("option", "there is", "default"), rows))


def paper(name: str) -> str:
    """A link to where something was published."""
    for prefix, site in (("arXiv:", "https://arxiv.org/abs/"), ("doi:", "https://doi.org/")):
        if name.startswith(prefix):
            return f"[{name}]({site}{name.removeprefix(prefix)})"
    return f"<{name}>" if name.startswith("http") else name


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of a Markdown table; bars within a cell are escaped."""
    head = list(head)
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def with_parts(text: str, inside: dict[str, str], page: Path) -> str:
    """A page with its marked parts replaced."""
    for name, part in inside.items():
        begin, end = f"<!-- {name}: written by docs/generate.py -->", f"<!-- end of {name} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{page.relative_to(ROOT)} has lost its markers {begin!r} and {end!r}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{part}\n{end}{rest.partition(end)[2]}"
    return text


def everything() -> dict[Path, str]:
    """Path -> text of every page as it should be."""
    found = {page: with_parts(page.read_text(encoding="utf-8"), inside, page) for page, inside in parts().items()}
    return pages() | found


def main(arguments: list[str] | None = None) -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit with 1 and name stale pages")
    check: bool = parser.parse_args(arguments).check
    os.environ["GANZOO_DISABLE_PLUGINS"] = "*"
    os.environ.pop("GANZOO_PLUGINS", None)
    wanted: dict[Path, Any] = dict(everything())
    for page in [*(DOCS / "components").rglob("*.md"), *(DOCS / "reference").glob("*.md"), DOCS / "presets.md"]:
        if page.exists():
            wanted.setdefault(page, None)
    stale = 0
    for page, text in sorted(wanted.items()):
        if text is not None and page.exists() and page.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        sys.stdout.write(
            f"{'stale' if check else 'removed' if text is None else 'written'}: {page.relative_to(ROOT)}\n"
        )
        if check:
            continue
        if text is None:
            page.unlink()
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8", newline="\n")
    if check and stale:
        sys.stdout.write("Write them again with: nox -s docs\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
