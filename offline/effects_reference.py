"""Keeps the table in docs/placement.md of what a change of a RayService does, from `workloads.effects`."""

from __future__ import annotations

import re
from itertools import groupby

from offline.errors import OfflineError
from workloads.effects import TABLE

_BEGIN, _END = "<!-- make docs: effects -->", "<!-- end -->"


def renewed(page: str) -> str:
    """The page with today's table between its marks. Raises `OfflineError` where they are missing."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise OfflineError(f"the marks {_BEGIN} and {_END} are missing; put them where the table is to stand")
    return f"{before}{_BEGIN}\n{table()}{_END}{after}"


def table() -> str:
    """Markdown: for each part of the spec and each effect, its fields."""
    rows = ["| in | a change of | does this |", "|---|---|---|"]
    for (parent, effect), places in groupby(TABLE.items(), key=lambda item: (_parent(item[0]), item[1])):
        fields = ", ".join(f"`{place.removeprefix(f'{parent}.')}`" for place, _ in places)
        rows.append(f"| {_where(parent)} | {fields} | {effect.value} |")
    return "\n".join(rows) + "\n"


def _parent(place: str) -> str:
    """The longest part of a place that other fields stand in, too."""
    found = re.match(r"serveConfigV2\.applications\.\*\.deployments\.\*|.*(?=\.)|", place)
    return found[0] if found else ""


def _where(parent: str) -> str:
    return f"`{parent.replace('.*', '[*]')}`" if parent else "`spec`"
