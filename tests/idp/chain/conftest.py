"""The fixtures of tests that call the subjects directly, without a server."""

from tests.support.context import context, db

__all__ = ["context", "db"]
