"""A bar chart of speed-ups over the tutorial way, drawn as an SVG by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

SHOWN: Final = {
    "tutorial, 0 workers": ("tutorial", "#9aa4af"),
    "tutorial, 2 workers": ("tutorial, 2 loader workers", "#7d8893"),
    "ganzoo fp32": ("ganzoo, fp32", "#2f81f7"),
    "ganzoo bf16": ("ganzoo, bf16", "#8250df"),
}
WIDTH, LEFT, RIGHT, BAR, GAP, HEAD = 760, 210, 60, 18, 5, 30
INK: Final = "#7d8590"
"""Grey that can be read on white and on black."""


def bars(measured: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Speed-ups of each workload, end to end, by contender."""
    found: dict[str, dict[str, float]] = {}
    for row in measured["results"]:
        workload, _, how = row["comparison"].rpartition(", ")
        if row["part"] == "tutorial" and how == "end to end" and row["contender"] in SHOWN and row["ratio"]:
            found.setdefault(workload, {})[row["contender"]] = 1 / row["ratio"]
    return found


def draw(groups: Mapping[str, Mapping[str, float]], caption: str) -> str:
    """The picture as text."""
    longest = max((value for group in groups.values() for value in group.values()), default=1.0)
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = HEAD + sum(len(group) * (BAR + GAP) + HEAD for group in groups.values()) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(caption)}</title>",
        f'<text x="0" y="16" fill="{INK}">{escape(caption)}</text>',
        *_groups(groups, scale),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _groups(groups: Mapping[str, Mapping[str, float]], scale: float) -> Iterator[str]:
    y = HEAD
    for name, group in groups.items():
        yield f'<text x="0" y="{y + 18}" fill="{INK}" font-weight="600">{escape(name)}</text>'
        y += HEAD - 4
        for contender, value in group.items():
            label, colour = SHOWN[contender]
            middle = y + BAR - 5
            yield f'<text x="{LEFT - 8}" y="{middle}" fill="{INK}" text-anchor="end">{escape(label)}</text>'
            yield f'<rect x="{LEFT}" y="{y}" width="{value * scale:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
            yield f'<text x="{LEFT + value * scale + 6:.1f}" y="{middle}" fill="{INK}">{value:.2f}x</text>'
            y += BAR + GAP
        y += 4
