"""What the system says about a running server: its processes, which of them serve, and their memory."""

from pathlib import Path

from tests.support.servers import YimenServer

MIB = 1 << 20


def serving(server: YimenServer) -> list[int]:
    """The ids of the processes that answer requests: the workers, or the one process."""
    main = server._process.pid if server._process is not None else 0
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    workers = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return workers or [main]


def memory_of(processes: list[int]) -> int:
    """Resident memory without what is shared with files, in bytes."""
    return sum(_anonymous(process) for process in processes)


def _anonymous(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
