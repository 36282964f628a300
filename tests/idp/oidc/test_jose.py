"""Keys and signatures of clients: what is passed over, what is refused, and that the key decides the algorithm."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from idp.oidc import jose
from idp.oidc.jose import Malformed
from tests.support.assertions import KeyPair, b64, es256_key, new_key

KEYS = {name: new_key(name, kid=name) for name in ("RS256", "PS256", "ES256", "EdDSA")}
SET = jose.read_set(json.dumps({"keys": [key.public for key in KEYS.values()]}))


def bare(header: bytes, payload: bytes) -> str:
    return f"{b64(header)}.{b64(payload)}.AAAA"


def accepted(token: str, keys: tuple[jose.PublicKey, ...] = SET) -> bool:
    try:
        signed = jose.take_apart(token)
    except Malformed:
        return False
    return jose.is_signed(signed, jose.choose(keys, signed))


@pytest.mark.parametrize("name", KEYS)
def test_signature_of_each_algorithm_is_verified(name: str) -> None:
    token = KEYS[name].jws({"iss": "c"})
    assert accepted(token)
    head, payload, signature = token.split(".")
    other = b64(json.dumps({"iss": "d"}).encode())
    assert not accepted(f"{head}.{other}.{signature}")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    raw[-1] ^= 1
    assert not accepted(f"{head}.{payload}.{b64(bytes(raw))}")
    assert not accepted(f"{head}.{payload}.")


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "HS256", "HS512", "RS512", "ES384", "RS1", 5, None])
def test_f08_g03_algorithm_that_is_not_allowed_is_refused(algorithm: Any) -> None:
    for key in KEYS.values():
        token = key.jws({"iss": "c"}, alg=algorithm)
        assert not accepted(token)
        assert not accepted(token.rpartition(".")[0] + ".")


def test_f08_algorithm_of_another_key_is_refused() -> None:
    for key in KEYS.values():
        for other in set(KEYS) - {key.algorithm}:
            assert not accepted(key.jws({"iss": "c"}, alg=other, kid=other))
            assert not accepted(key.jws({"iss": "c"}, kid=other))


def test_f08_g04_public_key_as_hmac_secret_is_refused() -> None:
    """HS256 keyed with the public key in six encodings."""
    public = KEYS["RS256"].private.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    modulus = KEYS["RS256"].public["n"].encode()
    for secret in (pem, b" " + pem, der, json.dumps(KEYS["RS256"].public).encode(), modulus, b""):
        data = bare(b'{"alg":"HS256","kid":"RS256"}', b'{"iss":"c"}').rpartition(".")[0]
        assert not accepted(f"{data}.{b64(hmac.new(secret, data.encode(), hashlib.sha256).digest())}")


def test_g03_zero_signature_is_refused() -> None:
    data = KEYS["ES256"].jws({"iss": "c"}).rpartition(".")[0]
    for size in (0, 1, 64, 70, 256):
        assert not accepted(f"{data}.{b64(bytes(size))}")


def test_f08_short_key_and_wrong_curve_are_passed_over() -> None:
    short = new_key("RS256", bits=1_024)
    wide = KeyPair("w", "ES256", ec.generate_private_key(ec.SECP384R1()))
    numbers = wide.private.public_key().public_numbers()
    x, y = b64(numbers.x.to_bytes(48, "big")), b64(numbers.y.to_bytes(48, "big"))
    disguised = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    off_curve = {"kty": "EC", "crv": "P-256", "x": b64(b"\1" * 32), "y": b64(b"\2" * 32)}
    for jwk in (short.public, {**disguised, "crv": "P-384"}, disguised, off_curve, {"kty": "oct", "k": "AAAA"}):
        assert jose.read_key(jwk) is None
    assert not accepted(short.jws({"iss": "c"}), jose.read_set(json.dumps({"keys": [short.public]})))


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"alg": "ES384"},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"d": "AAAA"},
        {"kid": 5},
        {"kid": "x" * 201},
        {"kid": "a\n"},
        {"crv": "secp256k1"},
        {"x": 5},
        {"x": "!!"},
        {"y": None},
        {"kty": "SM2"},
        {"kty": ["EC"]},
    ],
)
def test_key_of_no_use_is_passed_over_and_its_neighbours_are_kept(change: dict[str, Any]) -> None:
    odd, good = {**es256_key().public, **change}, es256_key("good").public
    try:
        found = jose.read_set(json.dumps({"keys": [odd, good, 5, None]}))
    except TypeError:
        pytest.fail("an odd key must not spoil the set")
    assert [key.kid for key in found] == ["good"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"keys": {}}', "5", '{"keys": NaN}', '{"keys": [], "keys": []}', "\ufeff{}", "[" * 100_000],
)
def test_key_set_malformed_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        jose.read_set(text)


def test_key_set_is_written_without_anything_else() -> None:
    kept = jose.read_set(json.dumps({"keys": [{**es256_key().public, "x5u": "http://evil.test", "comment": "\0"}]}))
    written = json.loads(jose.write_set(kept))
    assert set(written["keys"][0]) == {"kty", "crv", "x", "y", "kid", "use"}


def test_key_without_a_name_is_found_only_where_it_is_alone() -> None:
    one, two = es256_key("a"), es256_key("b")
    token = one.jws({"iss": "c"}, kid=None)
    assert accepted(token, jose.read_set(json.dumps({"keys": [one.public]})))
    assert not accepted(token, jose.read_set(json.dumps({"keys": [one.public, two.public]})))
    assert accepted(token, jose.read_set(json.dumps({"keys": [one.public, KEYS["RS256"].public]})))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b",
        "a.b.c.d",
        "." * 1_000_000,
        "\u4f60.a.b",
        "a" * 8_193,
        KEYS["ES256"].jws([1]),
        KEYS["ES256"].jws({"a": 1}, crit=["b64"], b64=False),
        bare(b"{", b"{}"),
        bare(b"[" * 3_000, b"{}"),
        bare(b'{"alg":"ES256","alg":"none"}', b"{}"),
        bare(b'{"alg":"ES256"}', b'{"n":' + b"9" * 5_000 + b"}"),
        bare(b'{"alg":"ES256"}', b"\xff"),
        bare(b'{"alg":"ES256"}', b"{}").replace(".", "=.", 1),
        bare(b"{}", b"{}"),
        f" {KEYS['ES256'].jws({})}",
    ],
)
def test_token_malformed_is_refused(token: str) -> None:
    with pytest.raises(Malformed):
        jose.take_apart(token)
