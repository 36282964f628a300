"""Master key files for tests: lines that are added and taken away."""

import base64
from pathlib import Path


def line(version: int, byte: int | None = None) -> str:
    """A line of the file; its key is 32 times one byte, that of the version unless told otherwise."""
    return f"{version} {base64.b64encode(bytes([byte or version]) * 32).decode()}\n"


def write(path: Path, *versions: int) -> Path:
    """The whole file."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text("".join(line(version) for version in versions))
    path.chmod(0o600)
    return path
