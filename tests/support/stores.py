"""Fresh stores for tests: an empty or an upgraded database, and an empty Redis database."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import psycopg
import redis

from idp.database import Database
from migrations import schema
from tests.support.services import REDIS_DATABASES


class SqliteFiles:
    """Database files with the schema at head, copied from one that was upgraded once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _template(self) -> Path:
        path = self._folder / "template.db"
        upgrade(f"sqlite:///{path}")
        return path

    def create(self, path: Path) -> str:
        """Write the file; its URL."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(self._template, path)
        return f"sqlite:///{path}"


class PostgresDatabases:
    """Databases on one PostgreSQL, named by the URL of its superuser."""

    def __init__(self, url: str) -> None:
        self._url = url

    @cached_property
    def _template(self) -> str:
        url = self.create()
        upgrade(url)
        return name_of(url)

    def create(self) -> str:
        """The URL of a new empty database."""
        return self._create("template0")

    def create_upgraded(self) -> str:
        """The URL of a new database with the schema at head."""
        return self._create(self._template)

    def drop(self, url: str) -> None:
        self._execute(f'drop database "{name_of(url)}" with (force)')

    def _create(self, template: str) -> str:
        name = f"test_{uuid.uuid4().hex}"
        self._execute(f'create database "{name}" template "{template}"')
        return f"{self._url.rpartition('/')[0]}/{name}"

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._url.replace("+psycopg", "", 1), autocommit=True) as connection:
            connection.execute(statement)


class RedisDatabases:
    """The numbered databases of one Redis; each is empty when it is taken."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free = list(range(REDIS_DATABASES))

    def take(self) -> str:
        url = f"{self._url}/{self._free.pop()}"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url

    def give_back(self, url: str) -> None:
        self._free.append(int(name_of(url)))


class Stores:
    """Makes the environment of one installation for `kind` "sqlite" or "postgres"."""

    def __init__(self, files: SqliteFiles, databases: PostgresDatabases, redises: RedisDatabases):
        self._files, self._databases, self._redises = files, databases, redises

    @contextmanager
    def environment(self, kind: str, data_dir: Path) -> Iterator[dict[str, str]]:
        common = {
            "YIMEN_DATA_DIR": str(data_dir),
            "YIMEN_OUTBOUND_ALLOW": "127.0.0.1",
            "YIMEN_RATE_LIMITS": "off",  # all tests share one address; those about limits switch them on
        }
        if kind == "sqlite":
            yield common | {"YIMEN_DATABASE_URL": self._files.create(data_dir / "yimen.db"), "YIMEN_REDIS_URL": ""}
            return
        database, numbered = self._databases.create_upgraded(), self._redises.take()
        try:
            yield common | {"YIMEN_DATABASE_URL": database, "YIMEN_REDIS_URL": numbered}
        finally:
            self._databases.drop(database)
            self._redises.give_back(numbered)


def upgrade(url: str) -> None:
    """Bring a database to the newest schema."""
    database = Database(url)
    schema.upgrade(database.engine)
    database.engine.dispose()


def name_of(url: str) -> str:
    """The last part of the URL: the name or number of the database."""
    return url.rpartition("/")[2]
