"""The walls of the house: imports go down, libraries enter by their doors, nothing runs in circles."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("idp", "clients", "migrations", "admin", "server")

STOREYS = {
    1: "idp.config idp.errors idp.refusals idp.logs idp.identifiers idp.standard_claims",
    2: """idp.database idp.statements idp.batches idp.models idp.ephemeral idp.encryption idp.keys idp.context
        idp.audit idp.master_keys idp.sealed idp.outgoing idp.deliveries idp.metrics idp.tracing idp.jobs idp.leases
        idp.chain""",
    3: """idp.accounts idp.organizations idp.mandates idp.sessions idp.consents idp.epoch idp.purge idp.ratelimit
        idp.lockout idp.known_devices idp.messages idp.senders idp.proofing idp.cross_device idp.authn idp.reseal""",
    4: "idp.http idp.oidc",
    5: "idp.pages idp.cas idp.routes",
    6: "clients migrations.legacy",
    7: "admin migrations.schema",
    8: "server",
}
ROOMS = {room: storey for storey, rooms in STOREYS.items() for room in rooms.split()}
EMPTY = {"idp", "migrations"}  # packages whose own __init__ holds nothing
STRANGERS = ("clients.examples",)  # they know the provider by HTTP only, and use the libraries of their choice

ABOVE_3 = tuple(room for room, storey in ROOMS.items() if storey > 3)
DOORS = {
    "alembic": ("migrations.schema", "server"),
    "authlib": ("idp.oidc", "clients.registration"),
    "httpx2": ("idp.outgoing",),
    "prometheus_client": ("idp.metrics",),
    "passlib": ("idp.authn.password",),
    "redis": ("idp.ephemeral",),
    "starlette": ABOVE_3,
    "webauthn": ("idp.authn.passkey",),
}


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(module == room or module.startswith(room + ".") for room in rooms)


def room_of(module: str) -> str | None:
    """The room of the table that holds the module."""
    return next((room for room in ROOMS if within(module, (room,))), None)


def read_imports(root: Path) -> dict[str, set[str]]:
    """Each module of ours with all that it imports, wherever in the file: modules, and names out of packages."""
    files = [path for name in OURS for path in sorted(root.glob(f"{name}/**/*.py"))]
    modules = {".".join(path.relative_to(root).with_suffix("").parts): path for path in files}
    modules |= {path.stem: path for path in root.glob("*.py")}
    return {
        module.removesuffix(".__init__"): set(imported(ast.parse(path.read_text(encoding="utf-8"))))
        for module, path in modules.items()
        if "versions" not in path.parts  # revisions have numbers for names, nobody imports them
    }


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(root: Path) -> list[str]:
    """One sentence for each wall that the tree under `root` breaks."""
    imports = read_imports(root)
    graph = {
        module: {target for name in names if (target := ours(name, imports))} - {module}
        for module, names in imports.items()
    }
    return [
        *(f"{module} has no place in the house" for module in imports if not has_place(module)),
        *(fault for module, names in imports.items() for fault in wrong_doors(module, names)),
        *(fault for module, targets in graph.items() for fault in wrong_storeys(module, targets)),
        *circles(graph),
    ]


def has_place(module: str) -> bool:
    return room_of(module) is not None or module in EMPTY


def ours(name: str, modules: dict[str, set[str]]) -> str | None:
    """The module of ours that an imported name belongs to."""
    if name.split(".")[0] not in OURS:
        return None
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def wrong_doors(module: str, names: set[str]) -> Iterator[str]:
    if within(module, STRANGERS):
        return
    for library in sorted({name.split(".")[0] for name in names} & DOORS.keys()):
        if not within(module, DOORS[library]):
            yield f"{module} imports {library}"


def wrong_storeys(module: str, targets: set[str]) -> Iterator[str]:
    room = room_of(module)
    for target in sorted(targets):
        other = room_of(target)
        if within(module, STRANGERS) and not within(target, STRANGERS):
            yield f"{module}, a stranger, imports {target}"
        elif room is None or other is None:
            continue  # said already
        elif ROOMS[other] > ROOMS[room]:
            yield f"{module} imports {target}, which is above it"
        elif other != room and ROOMS[other] == ROOMS[room] >= 6:
            yield f"{module} imports {target}, its neighbour"


def circles(graph: dict[str, set[str]]) -> Iterator[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"a circle of imports: {' -> '.join(reversed(error.args[1]))}"


def test_house_has_no_broken_wall() -> None:
    assert faults(ROOT) == []


def test_house_reads_the_real_tree() -> None:
    imports = read_imports(ROOT)
    assert "idp.errors.ConfigError" in imports["idp.config"]
    assert "authlib" in {name.split(".")[0] for names in imports.values() for name in names}


BROKEN = [
    ({"idp/config.py": "from idp.models import Base"}, "idp.config imports idp.models, which is above it"),
    ({"idp/sessions.py": "def f():\n    from idp import http"}, "idp.sessions imports idp.http, which is above it"),
    ({"idp/pages/a.py": "import clients.registry"}, "idp.pages.a imports clients.registry, which is above it"),
    ({"clients/a.py": "import migrations.legacy"}, "clients.a imports migrations.legacy, its neighbour"),
    ({"migrations/legacy/a.py": "import clients"}, "migrations.legacy.a imports clients, its neighbour"),
    ({"admin/a.py": "from migrations import schema"}, "admin.a imports migrations.schema, its neighbour"),
    ({"clients/examples/a.py": "import idp.models"}, "clients.examples.a, a stranger, imports idp.models"),
    ({"idp/sessions.py": "import starlette.responses"}, "idp.sessions imports starlette"),
    ({"idp/pages/a.py": "from authlib.oauth2 import x"}, "idp.pages.a imports authlib"),
    ({"idp/outgoing.py": "import redis"}, "idp.outgoing imports redis"),
    ({"idp/authn/otp.py": "from passlib.hash import x"}, "idp.authn.otp imports passlib"),
    ({"idp/database.py": "import alembic"}, "idp.database imports alembic"),
    ({"idp/helpers.py": ""}, "idp.helpers has no place in the house"),
    ({"tools.py": ""}, "tools has no place in the house"),
    ({"idp/keys.py": "from idp import audit", "idp/audit.py": "import idp.keys"}, "a circle of imports:"),
]
SOUND = ["idp", "idp.models", "idp.http", "clients", "clients.registry", "migrations.legacy", "migrations.schema"]


@pytest.mark.parametrize(("files", "fault"), BROKEN, ids=[fault for _, fault in BROKEN])
def test_house_notices_a_broken_wall(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    for module in SOUND:
        write(tmp_path / module.replace(".", "/") / "__init__.py", "")
    assert faults(tmp_path) == []
    for name, text in files.items():
        write(tmp_path / name, text)
    found = faults(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(fault)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
