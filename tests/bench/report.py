"""Report: rows as a table for people and as JSON for machines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.options import Options

COLUMNS = (
    ("server", "server", ""),
    ("workload", "workload", ""),
    ("accounts", "accounts", ",d"),
    ("workers", "workers", "d"),
    ("connections", "conn", "d"),
    ("cpu_us", "CPU µs", ",.0f"),
    ("times_bare", "× bare", ".1f"),
    ("per_second", "per s", ",.0f"),
    ("p50_ms", "p50 ms", ".1f"),
    ("p99_ms", "p99 ms", ".1f"),
    ("memory_mb", "MB", ".0f"),
    ("of_peer", "of peer", ".2f"),
    ("of_small", "of small", ".2f"),
    ("wrong", "wrong", ""),
)
_WIDTHS = (6, 18, 10, 7, 5, 9, 7, 9, 8, 8, 5, 8, 8, 5)


def line(row: Mapping[str, Any]) -> str:
    """A row as a line of text."""
    cells = [format(row[name], form) if name in row else "" for name, _, form in COLUMNS]
    return "  ".join(
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """All rows as a table in Markdown, without the columns that are empty."""
    columns = [column for column in COLUMNS if any(row.get(column[0]) for row in rows)]
    lines = ["| " + " | ".join(title for _, title, _ in columns) + " |", "|---|---|" + "--:|" * (len(columns) - 2)]
    for row in rows:
        cells = [format(row[name], form) if name in row else "" for name, _, form in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compare(rows: Sequence[dict[str, Any]]) -> None:
    """Add to our rows their CPU time as a part of the peer's (`of_peer`) and of that of the smallest installation
    (`of_small`), where the same workload was measured there with as many connections."""
    for row in rows:
        if row["server"] == "peer" or "cpu_us" not in row:
            continue
        same = [
            other
            for other in rows
            if "cpu_us" in other and all(other[name] == row[name] for name in ("workload", "connections", "workers"))
        ]
        for other in same:
            if other["server"] == "peer":
                row["of_peer"] = row["cpu_us"] / other["cpu_us"]
            elif other["accounts"] < row["accounts"]:
                row["of_small"] = row["cpu_us"] / other["cpu_us"]


def write(path: Path, chosen: Options, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows with the options of the run as one JSON document."""
    run = {"seconds": chosen.seconds, "store": chosen.store, "people": chosen.people}
    path.write_text(json.dumps({"run": run, "rows": list(rows)}, indent=1, ensure_ascii=False) + "\n")
