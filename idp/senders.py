"""Senders of messages to people: a file in development, an SMS and mail gateway over HTTP in production.

The gateway's interface is one request, answered 2xx when the gateway took the message over:

    POST <YIMEN_CODE_SENDER>            Content-Type: application/json
    {"id": "<uuid>", "to": "+86…" or a mail address, "channel": "sms" or "email",
     "purpose": "login_locked", "code": "" or the one-time code, "text": "…", "at": epoch seconds}

The same `id` comes again when an answer was lost: the gateway sends it once. 4xx other than 408 and 429 is final.
"""

import asyncio
import fcntl
import json
import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from idp.context import Context
from idp.outgoing import OutgoingFailed, OutgoingRefused

OUTBOX = "outbox.jsonl"


class Outgone(NamedTuple):
    """What came of one attempt; `final` is whether trying again is useless."""

    result: str
    done: bool
    final: bool


class Sender(Protocol):
    async def send(self, id: UUID, to: str, channel: str, purpose: str, code: str, text: str) -> Outgone: ...


def open_sender(context: Context) -> Sender:
    """The sender that YIMEN_CODE_SENDER names."""
    if context.config.code_sender == "outbox":
        return OutboxSender(context, context.config.data_dir / OUTBOX)
    return GatewaySender(context, context.config.code_sender)


def _document(context: Context, to: str, channel: str, purpose: str, code: str, text: str) -> dict[str, Any]:
    return {"to": to, "channel": channel, "purpose": purpose, "code": code, "text": text, "at": context.now()}


class OutboxSender:
    """Appends to a file that only its owner reads: development, and tests that want to see what was sent."""

    def __init__(self, context: Context, path: Path) -> None:
        self._context, self._path = context, path

    async def send(self, id: UUID, to: str, channel: str, purpose: str, code: str, text: str) -> Outgone:
        document = _document(self._context, to, channel, purpose, code, text)
        await asyncio.to_thread(self._append, json.dumps(document, ensure_ascii=False))
        return Outgone("written", done=True, final=True)

    def _append(self, line: str) -> None:
        with open(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{line}\n")


class GatewaySender:
    """A gateway behind HTTP, reached through the one guarded client."""

    def __init__(self, context: Context, url: str) -> None:
        self._context, self._url = context, url

    async def send(self, id: UUID, to: str, channel: str, purpose: str, code: str, text: str) -> Outgone:
        document = {"id": str(id), **_document(self._context, to, channel, purpose, code, text)}
        body, headers = json.dumps(document, ensure_ascii=False).encode(), {"Content-Type": "application/json"}
        try:
            answer = await self._context.outgoing.request("POST", self._url, content=body, headers=headers)
        except OutgoingRefused as error:
            return Outgone(f"refused: {error.message}", done=False, final=True)
        except OutgoingFailed as error:
            return Outgone(f"failed: {error.message}", done=False, final=False)
        done = 200 <= answer.status < 300
        final = 300 <= answer.status < 500 and answer.status not in (408, 429)
        return Outgone(f"status {answer.status}", done, final)
