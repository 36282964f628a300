"""Report: rows as a table for people and as JSON for machines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.options import Options

COLUMNS = (
    ("server", "server", ""),
    ("workload", "workload", ""),
    ("workers", "workers", "d"),
    ("connections", "conn", "d"),
    ("cpu_us", "CPU µs", ",.0f"),
    ("times_bare", "× bare", ".1f"),
    ("per_second", "per s", ",.0f"),
    ("p50_ms", "p50 ms", ".1f"),
    ("p99_ms", "p99 ms", ".1f"),
    ("memory_mb", "MB", ".0f"),
)
_WIDTHS = (9, 18, 7, 5, 9, 7, 9, 8, 8, 5)


def line(row: Mapping[str, Any]) -> str:
    """A row as a line of text."""
    cells = [format(row[name], form) if name in row else "" for name, _, form in COLUMNS]
    return "  ".join(
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """All rows as a table in Markdown."""
    head = [title for _, title, _ in COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "--:|" * (len(head) - 2)]
    for row in rows:
        cells = [format(row[name], form) if name in row else "" for name, _, form in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(path: Path, chosen: Options, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows with the options of the run as one JSON document."""
    run = {"seconds": chosen.seconds, "store": chosen.store, "people": chosen.people}
    path.write_text(json.dumps({"run": run, "rows": list(rows)}, indent=1, ensure_ascii=False) + "\n")
