"""Meter: CPU time and memory of a server's processes from /proc, and the cores that things run on."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def family(root: int) -> list[int]:
    """A process and all that it started, in no order."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int(_fields(int(entry.name))[1])
    found = [root]
    for pid in found:  # grows while it is read
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_seconds(root: int) -> float:
    """User and system time that a process family has used so far."""
    return sum(sum(map(int, _fields(pid)[11:13])) for pid in family(root)) / _TICKS


def memory(root: int) -> int:
    """Resident bytes of the largest process of a family: with several workers, of one worker."""
    sizes = []
    for pid in family(root):
        status = Path(f"/proc/{pid}/status").read_text()
        sizes += [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")]
    return max(sizes, default=0)


def _fields(pid: int) -> list[str]:
    """/proc/PID/stat from the state on (proc(5)): the name before it may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextlib.contextmanager
def on_cores(*cores: int) -> Iterator[None]:
    """What is started inside runs on these cores, where the machine has them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before & set(cores) or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
