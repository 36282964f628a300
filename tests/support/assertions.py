"""Keys and client assertions of relying parties, right ones and wrong ones, and a site that publishes key sets."""

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True)
class KeyPair:
    """A key of a relying party; `sign` knows the four algorithms."""

    kid: str
    algorithm: str
    private: Any

    @property
    def public(self) -> dict[str, str]:
        jwk = {"kid": self.kid, "use": "sig"}
        if self.algorithm == "ES256":
            numbers = self.private.public_key().public_numbers()
            x, y = b64(numbers.x.to_bytes(32, "big")), b64(numbers.y.to_bytes(32, "big"))
            return {**jwk, "kty": "EC", "crv": "P-256", "x": x, "y": y}
        if self.algorithm == "EdDSA":
            return {**jwk, "kty": "OKP", "crv": "Ed25519", "x": b64(self.private.public_key().public_bytes_raw())}
        numbers = self.private.public_key().public_numbers()
        return {**jwk, "kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}

    def sign(self, data: bytes) -> bytes:
        if self.algorithm == "ES256":
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        if self.algorithm == "EdDSA":
            signed: bytes = self.private.sign(data)
            return signed
        scheme = padding.PKCS1v15() if self.algorithm == "RS256" else padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        made: bytes = self.private.sign(data, scheme, hashes.SHA256())
        return made

    def jws(self, claims: Any, **header: Any) -> str:
        """A compact JWS; a header member that is None is left out."""
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "client-authentication+jwt", **header}
        kept = {name: value for name, value in head.items() if value is not None}
        data = f"{b64(json.dumps(kept).encode())}.{b64(json.dumps(claims).encode())}"
        return f"{data}.{b64(self.sign(data.encode()))}"


def es256_key(kid: str = "k1") -> KeyPair:
    return KeyPair(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))


def new_key(algorithm: str, kid: str = "k1", *, bits: int = 2_048) -> KeyPair:
    if algorithm == "ES256":
        return es256_key(kid)
    if algorithm == "EdDSA":
        return KeyPair(kid, "EdDSA", ed25519.Ed25519PrivateKey.generate())
    return KeyPair(kid, algorithm, rsa.generate_private_key(65_537, bits))


def claims_of_assertion(client_id: str, audience: Any, **changes: Any) -> dict[str, Any]:
    """The claims of a good assertion with changes; a claim that is None is left out."""
    now = int(time.time())
    claims = {"iss": client_id, "sub": client_id, "aud": audience, "jti": uuid.uuid4().hex, "iat": now, "exp": now + 60}
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


def assertion(key: KeyPair, client_id: str, audience: Any, **changes: Any) -> str:
    return key.jws(claims_of_assertion(client_id, audience, **changes))


def form_of(text: str, **more: str) -> dict[str, str]:
    """The form fields that carry an assertion."""
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": text, **more}


@dataclass
class KeySite:
    """A relying party's web site with a key set at /jwks. What it answers can be changed while it runs."""

    port: int
    keys: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0
    calls: int = 0
    url: str = ""


@contextmanager
def key_site() -> Iterator[KeySite]:
    """A running site on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.calls += 1
            time.sleep(site.delay)
            body = site.body if site.body is not None else json.dumps({"keys": site.keys}).encode()
            self.send_response(site.status)
            for name, value in {"Content-Length": str(len(body)), **site.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = KeySite(server.server_address[1])
    site.url = f"http://127.0.0.1:{site.port}/jwks"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
