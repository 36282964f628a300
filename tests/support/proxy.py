"""A TCP proxy that a test makes behave badly: in front of a store it is a bad network, in front of a server too."""

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Self

from tests.support.processes import free_port


class Proxy:
    """Passes bytes between its own port and a target, as `mode` says.

    pass: as they are · refuse: no connection · silent: connections are taken, nothing ever goes through ·
    late: each piece of an answer waits `delay` seconds · deaf: what is asked goes through, and when the answer
    comes the connection is cut, so that the answer is lost.
    """

    def __init__(self, target: int) -> None:
        self.port, self.target = free_port(), target
        self.delay, self.lost = 0.0, 0
        self._mode = "pass"
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def set(self, mode: str, *, cut: bool = False, delay: float = 0.0) -> None:
        """Change the behaviour, of living connections too; `cut` ends these first."""
        asyncio.run_coroutine_threadsafe(self._set(mode, cut, delay), self._loop).result(10)

    async def _set(self, mode: str, cut: bool, delay: float) -> None:
        self._mode, self.delay = mode, delay
        if cut or mode == "refuse":
            for writer in list(self._writers):
                writer.transport.abort()
        if mode == "refuse":
            await self._close()
        elif self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(target_writer)
        ways = [
            asyncio.create_task(self._pass(reader, target_writer, answers=False)),
            asyncio.create_task(self._pass(target_reader, writer, answers=True)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for one in (writer, target_writer):
            one.transport.abort()
            self._writers.discard(one)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                while self._mode == "silent":
                    await asyncio.sleep(0.05)
                if answers and self._mode == "late":
                    await asyncio.sleep(self.delay)
                if answers and self._mode == "deaf":
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()

    def __enter__(self) -> Self:
        self._thread.start()
        self.set("pass")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.set("refuse")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
