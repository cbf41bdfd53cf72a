"""Signatures of public names with the first lines of their docstrings, for those who read the pages as they lie.

Read from the source, because importing it may import torch.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import ganzoo

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign
PACKAGE: Final = Path(ganzoo.__file__).parent


def signatures(module: str, names: list[str]) -> list[str]:
    """Lines of Markdown: an item for each name, below it one for each public method, field or attribute."""
    lines = []
    for name in names:
        node, said = _find(module, name)
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in node.bases if ast.unparse(base) != "ABC")
            lines.append(_item(f"class {name}({bases})" if bases else f"class {name}", said))
            lines += [f"  {_item(*member)}" for member in _members(node)]
        elif isinstance(node, ast.FunctionDef):
            lines.append(_item(f"{name}{_call(node)}", said))
        else:
            lines.append(_item(name, said))
    return lines


def _find(module: str, name: str) -> tuple[Definition | None, str]:
    """The definition of a name, and the first line of what is said of it."""
    body = _parse(module)
    for at, node in enumerate(body):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return node, _first(ast.get_docstring(node))
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and name in _targets(node):
            return node, _first(_after(body, at))
    for inner in ast.walk(ast.Module(body, [])):
        if isinstance(inner, ast.ImportFrom) and (inner.module or "").startswith("ganzoo"):  # noqa: SIM102
            if inner.module and name in [alias.name for alias in inner.names]:
                return _find(inner.module, name)
    return None, ""


def _members(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """What a class offers: text and first line of what is said of it."""
    told = _told(ast.get_docstring(node))
    for at, member in enumerate(node.body):
        if isinstance(member, ast.FunctionDef):
            marks = {ast.unparse(mark) for mark in member.decorator_list}
            if member.name == "__init__":
                yield f"{node.name}{_call(member)}", _first(ast.get_docstring(member))
            elif not member.name.startswith("_"):
                call = "" if "property" in marks else _call(member)
                yield f"{member.name}{call}", _first(ast.get_docstring(member))
        elif isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
            yield ast.unparse(member), _first(_after(node.body, at)) or told.get(ast.unparse(member.target), "")


def _call(node: ast.FunctionDef) -> str:
    arguments = [
        argument for argument in (*node.args.posonlyargs, *node.args.args) if argument.arg not in ("self", "cls")
    ]
    bare = ast.arguments(
        [],
        arguments,
        node.args.vararg,
        node.args.kwonlyargs,
        node.args.kw_defaults,
        node.args.kwarg,
        node.args.defaults,
    )
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"({ast.unparse(bare)}){returns}"


def _item(code: str, said: str) -> str:
    return f"- `{code}`" + (f": {said}" if said else "")


def _first(docstring: str | None) -> str:
    """The first paragraph's first sentence, in Markdown."""
    text = " ".join((docstring or "").strip().partition("\n\n")[0].split()).replace("``", "`")
    for role in (":class:", ":meth:", ":attr:", ":data:", ":func:", ":mod:"):
        text = text.replace(role, "")
    return text.replace("`~", "`").removesuffix("::")


def _after(body: list[ast.stmt], at: int) -> str | None:
    """The text that stands below a statement as its docstring."""
    below = body[at + 1] if at + 1 < len(body) else None
    fits = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    return below.value.value if fits else None  # type: ignore[union-attr]


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    return [ast.unparse(target) for target in (node.targets if isinstance(node, ast.Assign) else [node.target])]


def _told(docstring: str | None) -> dict[str, str]:
    """Name -> text of the attributes that a class's docstring lists."""
    _, _, listed = inspect.cleandoc(docstring or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in listed.splitlines():
        if line and not line.startswith(" "):
            break
        start = re.match(r" {4}(\w+(?:, \w+)*): (.*)", line)
        if start:
            names = start[1].split(", ")
            found |= dict.fromkeys(names, start[2])
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return {name: _first(text) for name, text in found.items()}


def _parse(module: str) -> list[ast.stmt]:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8")).body
