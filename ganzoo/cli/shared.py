"""What several commands have: options, and the way to list and clear a folder of the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ganzoo.cli import terminal

if TYPE_CHECKING:
    from ganzoo.data.cache import CacheEntry, CacheFolder

F = TypeVar("F", bound=Callable[..., Any])

PLUGIN_HELP: Final = "Use this plugin too: a module's name, or a file that ends in .py. May be repeated."


def _load(ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> None:
    if value and not ctx.resilient_parsing:
        from ganzoo.plugins import add_local

        add_local(value)


plugin_option: Final = click.option(
    "-p",
    "--plugin",
    "plugin",
    metavar="MODULE_OR_FILE",
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_load,
    help=PLUGIN_HELP,
)

best_option: Final = click.option(
    "--best",
    is_flag=True,
    default=False,
    help="The run's best checkpoint, by the scores of --eval-every; not the newest.",
)

json_option: Final = click.option(
    "--json", "as_json", is_flag=True, default=False, help="Print JSON to standard output."
)


class ComponentName(click.ParamType):  # type: ignore[type-arg]  # generic in new click only
    """The name of a component; shells complete it."""

    name = "name"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from ganzoo.registry import registry

        return [
            CompletionItem(name, help=entry.component.summary)
            for entry in registry().entries(self.kind)
            for name in (entry.component.name, *entry.component.aliases)
            if name.startswith(incomplete)
        ]


def tend_cache(
    cache: CacheFolder, what: str, name: str, title: str, tell: Callable[[CacheEntry], str], *, as_json: bool
) -> None:
    """List a folder of the cache, or clear it.

    Args:
        cache: the folder.
        what: ``list`` or ``clear``.
        name, title: of what is told of a file beside its kind and size, in JSON and in the table.
        tell: finds it out.
        as_json: whether to tell it in JSON.
    """
    if what == "clear":
        freed = cache.clear()
        if as_json:
            terminal.dump({"folder": str(cache.root), "freed": freed})
        else:
            terminal.status(f"{freed:,} bytes were removed from {cache.root}.")
        return
    entries = cache.entries()
    if as_json:
        told = [{"kind": e.kind, name: tell(e), "bytes": e.size, "path": str(e.path)} for e in entries]
        terminal.dump({"folder": str(cache.root), "entries": told})
        return
    terminal.table(("kind", title, "bytes"), [(e.kind, tell(e), f"{e.size:,}") for e in entries])
    terminal.status(f"{len(entries)} files, {sum(e.size for e in entries):,} bytes, in {cache.root}.")
