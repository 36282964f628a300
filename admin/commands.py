"""What all commands share: one JSON document on standard output, refusals, secrets from standard input."""

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec

import click
from sqlalchemy.orm import Session

from idp.context import Context
from idp.errors import InvalidInput, YimenError

Opener = Callable[[], AbstractContextManager[Context]]
P = ParamSpec("P")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SECRET_LIMIT = 65_536  # bytes read from standard input


def print_json(document: Mapping[str, Any]) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def refuse(error: YimenError) -> NoReturn:
    """The JSON of a refusal on standard output, one line for people on standard error, exit status 1."""
    reason = {"reason": error.reason} if hasattr(error, "reason") else {}
    print_json({"error": error.code, **reason, "message": error.message})
    detail = f" ({error.detail})" if error.detail else ""
    click.echo(f"yimen: {error.message}{detail}", err=True)
    sys.exit(1)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the product's errors into refusals."""
    try:
        yield
    except YimenError as error:
        refuse(error)


def answers(
    function: Callable[Concatenate[Context, Session, P], Mapping[str, Any]],
) -> Callable[P, None]:
    """A command that works in one transaction and prints what it returns once that is committed."""

    @functools.wraps(function)
    def command(*arguments: P.args, **options: P.kwargs) -> None:
        opener: Opener = click.get_current_context().obj
        with refusals():
            with opener() as context, context.database.session() as session:
                document = function(context, session, *arguments, **options)
            print_json(document)

    return command


def read_secret() -> str:
    """A secret from standard input, without the line end that a pipe adds."""
    raw = sys.stdin.buffer.read(SECRET_LIMIT)
    try:
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidInput("standard input is not UTF-8") from None


def read_object(path: Path | None) -> dict[str, Any]:
    """The JSON object of a file, {} without one. Raises InvalidInput."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise InvalidInput("the file holds no JSON") from None
    if not isinstance(found, dict):
        raise InvalidInput("the file holds no JSON object")
    return found
