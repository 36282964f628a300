"""The application: routes to handlers, errors to responses, one log line for each request."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import anyio
import anyio.to_thread
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from idp import metrics, tracing
from idp.context import Context, new_request_id
from idp.database import POOL_SIZE
from idp.errors import InvalidInput, MethodNotAllowed, NotFound, TooLarge, TooManyRequests, Unavailable, YimenError
from idp.http.limits import Guard, Limits
from idp.http.request import FORM_TYPE, Request, parse_cookies, parse_pairs
from idp.http.response import BASE_HEADERS, BROWSER_COOKIE, json_response, new_browser, set_cookie

log = logging.getLogger("yimen.http")

AsyncHandler = Callable[[Context, Request], Awaitable[Response]]
PageHandler = Callable[[Context, Request, Session], Response]
ErrorPage = Callable[[Context, Request, YimenError], Response]
BODY_LIMIT = {"protocol": 65_536, "page": 1_048_576}
ALWAYS = ("/healthz", "/readyz", "/metrics")  # answered by any Host, and however busy the worker is
PAGE_SECONDS = 10  # a database that says nothing holds a page; the visitor is told, and the other pages go on


@dataclass(frozen=True, slots=True)
class Route:
    """One address. `kind` is `protocol` (asynchronous, JSON errors) or `page` (in a thread, one transaction)."""

    path: str
    kind: str
    methods: Mapping[str, AsyncHandler | PageHandler]
    json_errors: bool = True
    writes: bool = False  # its GET changes something (a code is issued, a session ends), so there is no HEAD

    @property
    def allow(self) -> str:
        head = ["HEAD"] if "GET" in self.methods and not self.writes else []
        return ", ".join(sorted({*self.methods, *head}))


def protocol(path: str, *, json_errors: bool = True, writes: bool = False, **methods: AsyncHandler) -> Route:
    """An asynchronous address: load, decide, commit. `methods` is GET=handler, POST=handler."""
    return Route(path, "protocol", methods, json_errors, writes)


def page(path: str, *, writes: bool = False, **methods: PageHandler) -> Route:
    """A page: a plain function in the thread pool; returning commits its session, raising rolls back."""
    return Route(path, "page", methods, json_errors=False, writes=writes)


def create_application(
    context: Context,
    routes: Sequence[Route],
    background: Sequence[Callable[[], Awaitable[None]]],
    error_page: ErrorPage,
    spans: tracing.Spans | None = None,
) -> Starlette:
    """The ASGI application. `background` tasks run from start to stop; finished requests leave `spans`."""

    guard = Guard(Limits.of(context.config))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = POOL_SIZE
        tasks = [asyncio.ensure_future(start()) for start in (*background, guard.sweep_forever)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await context.outgoing.close()
        await context.ephemeral.close()
        await context.database.close()

    application = Starlette(lifespan=lifespan)
    application.router.redirect_slashes = False
    dispatcher = application.router.default = Dispatcher(
        context, routes, error_page, guard, tracing.Spans() if spans is None else spans
    )

    async def straight(scope: Scope, receive: Receive, send: Send) -> None:
        """Requests go to the dispatcher, which answers every error itself; Starlette keeps start and stop."""
        await (dispatcher if scope["type"] == "http" else application.router)(scope, receive, send)

    application.middleware_stack = straight
    application.state.guard = guard  # the wire asks it too
    return application


class Dispatcher:
    """Finds the route by its exact path and answers. The only place that turns errors into responses."""

    def __init__(
        self, context: Context, routes: Sequence[Route], error_page: ErrorPage, guard: Guard, spans: tracing.Spans
    ) -> None:
        self._context, self._error_page = context, error_page
        self._guard, self._spans = guard, spans
        self._routes = {route.path: route for route in routes if not route.path.endswith("/*")}
        self._below = [(route.path[:-1], route) for route in routes if route.path.endswith("/*")]
        self._host = context.config.issuer.partition("://")[2].partition("/")[0].lower()
        headers = dict(BASE_HEADERS)
        if context.config.issuer.startswith("https"):
            headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"
        self._base_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    def _find(self, path: str) -> Route | None:
        found = self._routes.get(path)
        return found or next((route for prefix, route in self._below if path.startswith(prefix)), None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        trace = tracing.begin(_header(scope, b"traceparent"))
        route = self._find(scope["path"])
        context = self._context.with_request(
            request_id=new_request_id(),
            channel="web_hall",
            address=client_address(self._context, scope),
            user_agent=_header(scope, b"user-agent")[:300],
            locale="zh-CN",
        )
        request = Request(method=scope["method"], path=scope["path"])
        try:
            request = await _read(scope, receive, route, context.config.body_seconds + 5)  # the wire is first
            with self._room(context, scope, route):
                response = await self._answer(context, request, route)
        except ClientDisconnect:
            return
        except YimenError as error:
            response = self._refuse(context, request, route, error)
        except Exception:  # the last resort: an unexpected error is logged whole and told as nothing but a reference
            log.exception("unexpected error", extra={"fields": {"request_id": context.request_id}})
            response = self._refuse(context, request, route, YimenError())
        present = {name for name, _ in response.raw_headers}
        response.raw_headers += [header for header in self._base_headers if header[0] not in present]
        response.raw_headers.append((b"x-request-id", context.request_id.encode()))
        self._note(context, request, route, response, trace, started)
        await response(scope, receive, _without_body(send) if request.method == "HEAD" else send)

    def _note(
        self,
        context: Context,
        request: Request,
        route: Route | None,
        response: Response,
        trace: tracing.Trace,
        started: float,
    ) -> None:
        """One log line, one observation and one span for each request: they name the route and never the address as
        typed, which may hold a code or a number."""
        seconds, known = time.perf_counter() - started, route.path if route else "-"
        method = request.method if request.method.isalpha() and len(request.method) < 10 else "?"
        metrics.observe_request(known, method, response.status_code, seconds)
        if context.config.traces:
            end = time.time_ns()
            self._spans.add(tracing.Span(trace, known, method, response.status_code, end - int(seconds * 1e9), end))
        fields = {
            "request_id": context.request_id,
            "trace_id": trace.trace_id,
            "route": known,
            "method": method,
            "status": response.status_code,
            "milliseconds": round(seconds * 1000, 1),
            "address": context.address,
        }
        log.info("request", extra={"fields": fields})

    def _room(self, context: Context, scope: Scope, route: Route | None) -> contextlib.AbstractContextManager[None]:
        """Room for this request. Who comes through a proxy is counted here, everybody else by connection."""
        if scope["path"] in ALWAYS:
            return contextlib.nullcontext()
        peer = str((scope.get("client") or ("",))[0])
        behind_proxy = context.address if context.address != peer else ""
        return self._guard.request(behind_proxy, page=route is not None and route.kind == "page")

    async def _answer(self, context: Context, request: Request, route: Route | None) -> Response:
        if not self._right_host(request):
            raise InvalidInput("wrong host")
        if route is None:
            raise NotFound()
        handler: Any = route.methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None or (request.method == "HEAD" and route.writes):
            raise MethodNotAllowed(route.allow)
        if route.kind == "protocol":
            response: Response = await handler(context, request)
            return response
        try:
            with anyio.fail_after(PAGE_SECONDS):
                return await anyio.to_thread.run_sync(
                    _run_page, handler, context, request, route.writes, abandon_on_cancel=True
                )
        except TimeoutError:  # its thread ends when the database speaks again; what it does then may still happen
            raise Unavailable(detail="the page took too long") from None

    def _right_host(self, request: Request) -> bool:
        """One Host header that names the issuer; a health check of a probe may come by address."""
        hosts = request.headers.get("host", [])
        return len(hosts) == 1 and (hosts[0].lower() == self._host or request.path in ALWAYS)

    def _refuse(self, context: Context, request: Request, route: Route | None, error: YimenError) -> Response:
        if error.detail or error.status >= 500:
            fields = {"request_id": context.request_id, "code": error.code, "detail": error.detail}
            log.warning("refused", extra={"fields": fields})
        if route is not None and route.json_errors:
            code = "invalid_request" if error.status in (400, 405, 413) else error.code
            response = json_response({"error": code, "error_description": error.message}, error.status)
        else:
            response = self._error_page(context, request, error)
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="yimen"'
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = error.allow
        if isinstance(error, Unavailable | TooManyRequests):
            response.headers["Retry-After"] = str(error.retry_after)
        return response


def _run_page(handler: PageHandler, context: Context, request: Request, writes: bool) -> Response:
    """A page in its own transaction. A visitor without a browser cookie gets one, which its forms are bound to."""
    fresh = "" if BROWSER_COOKIE in request.cookies or request.method == "POST" else new_browser()
    if fresh:
        request = dataclasses.replace(request, cookies={**request.cookies, BROWSER_COOKIE: fresh})
    with context.database.session(write=writes or request.method == "POST") as session:
        response = handler(context, request, session)
    if fresh:
        set_cookie(response, BROWSER_COOKIE, fresh)
    return response


async def _read(scope: Scope, receive: Receive, route: Route | None, seconds: float) -> Request:
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    body = b""
    if scope["method"] == "POST":
        limit = BODY_LIMIT[route.kind if route else "protocol"]
        body = await _read_body(StarletteRequest(scope, receive), headers, limit, seconds)
    kind = headers.get("content-type", [""])[0].partition(";")[0].strip().lower()
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=parse_pairs(scope["query_string"]),
        form=parse_pairs(body) if kind == FORM_TYPE else [],
        headers=headers,
        cookies=parse_cookies(headers.get("cookie", [])),
        body=body,
    )


async def _read_body(request: StarletteRequest, headers: Mapping[str, list[str]], limit: int, seconds: float) -> bytes:
    if "transfer-encoding" in headers and "content-length" in headers:
        raise InvalidInput("two framings in one message")
    declared = headers.get("content-length", ["0"])[0]
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge()
    chunks, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise TooLarge()
                chunks.append(chunk)
    except TimeoutError:
        raise InvalidInput("the body came too slowly") from None
    return b"".join(chunks)


def client_address(context: Context, scope: Scope) -> str:
    """The address of the caller; forwarding headers count only from YIMEN_TRUSTED_PROXIES, read from the right."""
    peer = str((scope.get("client") or ("",))[0])
    trusted = context.config.trusted_proxies
    forwarded = [
        part.strip()
        for name, value in scope["headers"]
        if name == b"x-forwarded-for"
        for part in value.decode("latin-1").split(",")
    ]
    while forwarded and is_in(peer, trusted):
        peer = forwarded.pop()
    return peer if _is_address(peer) else ""


@functools.lru_cache(maxsize=4_096)
def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_in(address: str, networks: Sequence[Any]) -> bool:
    """Whether the address is of one of the networks."""
    return _is_address(address) and any(ip_address(address) in network for network in networks)


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
