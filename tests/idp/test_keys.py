"""JWTs of our own: canonical, typed, signed by the key that their kid names."""

import json

import pytest

from idp.keys import Es256, Key, KeyRing, Rs256, b64, thumbprint, unb64


def ring() -> KeyRing:
    made = KeyRing()
    for signer, algorithm in ((Es256.generate(), "ES256"), (Rs256.generate(), "RS256")):
        jwk = signer.public_jwk()
        key = Key(thumbprint(jwk), algorithm, "active", signer, jwk, None)
        made._keys[key.kid] = made._active[algorithm] = key
    return made


RING = ring()


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_verify_own_token_returns_its_claims(algorithm: str) -> None:
    token = RING.sign({"sub": "x"}, typ="JWT", algorithm=algorithm)
    assert RING.verify(token, typ="JWT") == {"sub": "x"}


def test_verify_other_type_is_refused() -> None:
    assert RING.verify(RING.sign({"sub": "x"}, typ="logout+jwt", algorithm="ES256"), typ="JWT") is None


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "HS256", "RS256", None, 1, ["ES256"]])
def test_verify_forged_algorithm_is_refused(algorithm: object) -> None:
    token = RING.sign({"sub": "x"}, typ="JWT", algorithm="ES256")
    head, payload, signature = token.split(".")
    header = json.loads(unb64(head)) | {"alg": algorithm}
    forged = b64(json.dumps(header).encode())
    for last in (signature, "", b64(b"\0" * 64)):
        assert RING.verify(f"{forged}.{payload}.{last}", typ="JWT") is None


@pytest.mark.parametrize("change", [{"kid": "x"}, {"kid": None}, {"crit": ["x"]}, {"typ": "jwt"}])
def test_verify_changed_header_is_refused(change: dict[str, object]) -> None:
    signer = RING._active["ES256"].signer
    header = {"alg": "ES256", "kid": RING._active["ES256"].kid, "typ": "JWT"} | change
    signed = f"{b64(json.dumps(header).encode())}.{b64(b'{}')}"
    assert RING.verify(f"{signed}.{b64(signer.sign(signed.encode()))}", typ="JWT") is None


@pytest.mark.parametrize(
    "token", ["", "a", "a.b", "a.b.c.d", "..", "é.é.é", "." * 1_000_000, "e30.e30.e30", "W10.e30.e30"]
)
def test_verify_nonsense_is_refused(token: str) -> None:
    assert RING.verify(token, typ="JWT") is None


def test_verify_padded_or_uncanonical_signature_is_refused() -> None:
    token = RING.sign({"sub": "x"}, typ="JWT", algorithm="ES256")
    assert RING.verify(token + "==", typ="JWT") is None
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twisted = token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]  # other unused bits, same bytes
    assert RING.verify(twisted, typ="JWT") is None


def test_thumbprint_of_the_specification_is_equal() -> None:
    """RFC 7638 section 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA"
        "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-"
        "kEgU8awapJzKnqDKgw"
    )
    assert (
        thumbprint({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256"}) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    )
