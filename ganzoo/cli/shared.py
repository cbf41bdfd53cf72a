"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

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
