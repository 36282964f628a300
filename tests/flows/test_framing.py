"""R07 and Z11: one framing for each message. Whatever is ambiguous gets 400 and a closed connection."""

import pytest

from tests.support.raw import Raw, count_answers, exchange, status_of
from tests.support.servers import YimenServer

FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
SMUGGLED = "GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"

POST, GET = "POST /token HTTP/1.1\r\nHost: {host}\r\n" + FORM, "GET /jwks HTTP/1.1\r\nHost: {host}\r\n"

BAD = {
    "length and chunks": POST + f"Content-Length: 5\r\n{CHUNKED}\r\n0\r\n\r\n",
    "chunks and length": POST + f"{CHUNKED}Content-Length: 5\r\n\r\n0\r\n\r\n",
    "length and chunks with GET": GET + f"Content-Length: 5\r\n{CHUNKED}\r\n0\r\n\r\n",
    "two lengths": POST + "Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "the same length twice": GET + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": POST + "Content-Length: 5, 5\r\n\r\nabcde",
    "a negative length": POST + "Content-Length: -5\r\n\r\nabcde",
    "a length with a sign": POST + "Content-Length: +5\r\n\r\nabcde",
    "a length of 2^64": POST + "Content-Length: 18446744073709551616\r\n\r\n",
    "gzip as framing": POST + "Transfer-Encoding: gzip\r\n\r\nabcde",
    "framing that looks like chunks": (POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "chunks, then identity": (POST + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "chunks twice": POST + f"{CHUNKED}{CHUNKED}\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": f"POST /token HTTP/1.0\r\nHost: {{host}}\r\n{FORM}{CHUNKED}\r\n0\r\n\r\n",
    "chunk extensions of 30 KB": (POST + f"{CHUNKED}\r\n5;" + "x" * 30_000 + "\r\nabcde\r\n"),
    "trailers of 30 KB": (POST + f"{CHUNKED}\r\n5\r\nabcde\r\n0\r\nX: " + "x" * 30_000),
    "a chunk size that overflows": (POST + f"{CHUNKED}\r\nfffffffffffffffff\r\nabcde\r\n"),
    "a chunk longer than it says": (POST + f"{CHUNKED}\r\n5\r\nabcdefg\r\n0\r\n\r\n"),
    "chunks that end with LF": POST + f"{CHUNKED}\r\n5\nabcde\n0\n\n",
    "a folded header": GET + "X-A: b\r\n c: d\r\n\r\n",
    "a folded framing": POST + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "lines that end with LF": "GET /jwks HTTP/1.1\nHost: {host}\n\n",
    "one line that ends with LF": "GET /jwks HTTP/1.1\r\nHost: {host}\nX-A: b\r\n\r\n",
    "one line that ends with CR": "GET /jwks HTTP/1.1\r\nHost: {host}\rX-A: b\r\n\r\n",
    "a space before the colon": POST + "Content-Length : 5\r\n\r\nabcde",
    "NUL in a header": GET + "X-A: b\0c\r\n\r\n",
    "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 by name": "GET /jwks HTTP/2.0\r\nHost: {host}\r\n\r\n",
    "an unknown version": "GET /jwks HTTP/9.9\r\nHost: {host}\r\n\r\n",
    "no HTTP at all": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
}


@pytest.mark.parametrize("request_text", BAD.values(), ids=BAD.keys())
def test_ambiguous_message_is_400_and_closed(server: YimenServer, request_text: str) -> None:
    host = server.url.partition("://")[2]
    text = request_text.format(host=host) + SMUGGLED.format(host=host)
    answer = exchange(server.url, text.encode("latin-1"))
    assert status_of(answer) == 400, answer
    assert count_answers(answer) == 1, "what follows the bad message was taken for a request"
    assert b"connection: close" in answer.lower()
    assert b'"error": "invalid_request"' in answer


@pytest.mark.parametrize(
    "words", ["Connection: Upgrade\r\nUpgrade: h2c\r\n", "Connection: Upgrade\r\nUpgrade: websocket\r\n"]
)
def test_upgrade_is_not_taken_and_nothing_may_follow(server: YimenServer, words: str) -> None:
    host = server.url.partition("://")[2]
    answer = exchange(
        server.url, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n{words}\r\n{SMUGGLED.format(host=host)}".encode()
    )
    assert (status_of(answer), count_answers(answer)) == (200, 1)


def test_trailer_never_passes_for_a_header(server: YimenServer) -> None:
    host = server.url.partition("://")[2]
    head = f"POST /userinfo HTTP/1.1\r\nHost: {host}\r\n{FORM}{CHUNKED}Connection: close\r\n\r\n"
    answer = exchange(server.url, f"{head}3\r\na=b\r\n0\r\nAuthorization: Bearer x\r\n\r\n".encode())
    assert status_of(answer) == 401
    assert b"invalid_token" not in answer, "the token of the trailer was looked at"


def test_chunked_body_and_pipelined_requests_work(server: YimenServer) -> None:
    host = server.url.partition("://")[2]
    post = f"POST /revoke HTTP/1.1\r\nHost: {host}\r\n{FORM}{CHUNKED}\r\n" + "1\r\na\r\n" * 100 + "0\r\n\r\n"
    last = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    answer = exchange(server.url, (post + SMUGGLED.format(host=host) * 10 + last).encode())
    assert count_answers(answer) == 12
    assert answer.count(b"HTTP/1.1 200") == 11


def test_thousand_pipelined_requests_are_cut_off(server: YimenServer) -> None:
    host = server.url.partition("://")[2]
    answer = exchange(server.url, SMUGGLED.format(host=host).encode() * 1_000)
    assert count_answers(answer) < 1_000
    assert b" 500 " not in answer


def test_request_closed_at_any_byte_leaves_the_server_well(server: YimenServer) -> None:
    host = server.url.partition("://")[2]
    whole = f"POST /token HTTP/1.1\r\nHost: {host}\r\n{FORM}Content-Length: 10\r\n\r\nabcdefghij".encode()
    for length in range(0, len(whole), 7):
        with Raw(server.url) as raw:
            raw.send(whole[:length])
    assert (
        status_of(
            exchange(
                server.url, SMUGGLED.format(host=host).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode()
            )
        )
        == 200
    )
