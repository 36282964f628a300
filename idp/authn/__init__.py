"""Ways to sign in: one file each, and what each of them proves."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Method(NamedTuple):
    """`amr` holds RFC 8176 values; `level` is the assurance level that the method proves at most.

    What a stranger can guess is `guessable`: its failures count and lock (lockout.py). What is not stays open.
    """

    amr: tuple[str, ...]
    level: int
    guessable: bool


METHODS: Mapping[str, Method] = MappingProxyType({"password": Method(("pwd",), 3, guessable=True)})
