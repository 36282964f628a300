"""Hostile values: the families of security.md section 7 as small grammars. Everything follows from a given chance."""

import base64
import json
import random
from collections.abc import Callable
from urllib.parse import quote_from_bytes

MARK = b"Zq7"  # begins what we plant: no refusal and no log may repeat it
LENGTHS = (0, 1, 2, 127, 128, 129, 200, 201, 255, 256, 1_023, 1_024, 1_025, 2_047, 2_048, 2_049, 4_096, 4_097, 8_192)


def mark(chance: random.Random) -> bytes:
    return MARK + b"%08x" % chance.getrandbits(32)


def _length(chance: random.Random) -> bytes:
    return mark(chance) + chance.choice([b"a", b"9", b"-", b"%41", b"%E4%B8%AD", b"."]) * chance.choice(LENGTHS)


SIGNS = [
    *(bytes([byte]) for byte in range(256)), b"\r\n", "\u2028".encode(), "\u2029".encode(), "\u202e".encode(),
    "\ufeff".encode(), "\ufffd".encode(), b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xc0\x80", b"\xe0\x80\x80",
    b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xff\xfe", b"\xfe\xff", b"\x81\x30\x84\x36", b"\x95\x32\x82\x36",
    "一门".encode("gb18030"), "一门".encode("utf-16"), "一门".encode("utf-16-be"), "𠮷".encode(), "ﷺ".encode(),
]  # fmt: skip


def _bytes(chance: random.Random) -> bytes:
    """Any byte and what no UTF-8 holds, at the beginning, in the middle or at the end."""
    sign, text = chance.choice(SIGNS), mark(chance)
    place = chance.choice([0, 4, len(text)])
    planted = text[:place] + sign + text[place:]
    return escape(planted) if chance.random() < 0.6 else planted


def escape(raw: bytes) -> bytes:
    return quote_from_bytes(raw, safe="").encode()


PERCENT = [b"%", b"%z", b"%2", b"%zz", b"%00", b"%25%30%30", b"%2500", b"%252500", b"%u0041", b"%e4%B8%aD", b"+",
b"%2B",
           b"%0d%0aSet-Cookie:%20x=1", b"%0a%0d", b"%26x=1", b"%3Dx", b"%C3%28", b"%7f"]  # fmt: skip
URLS = ["https://user@evil.test/", "https://rp.example.test:80@evil.test/", "https://rp.example.test\\@evil.test/",
        "https:///evil.test", "//evil.test/", "/\\evil.test", "ht\ttps://evil.test", "https://rp.example.test:0/cb",
        "https://rp.example.test:65536/cb", "https://rp.example.test:-1/cb", "http://[fe80::1%25eth0]/",
        "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://0x7f.1/", "http://0177.1/", "http://[::",
        "https://rp.example.test./cb", "https://xn--rp-exmple-e4a.test/cb", "https://rp.examplе.test/cb",
        "https://rp.example.test/cb#f", "https:///cb", "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x", "http://169.254.169.254/", "a." * 2_000 + "test"]  # fmt: skip
TIMES = ["0", "-1", "-0", "1e400", "NaN", "Infinity", "2147483648", "4294967296", "9007199254740993",
         "9223372036854775808", "253402300800", "9" * 400, "１２", "٣", "1.5", "0x10",
         "2026-11-25T08:00:00Z"]  # fmt: skip
IDENTIFIERS = ["44010119900101123", "4401011990010112345", "44010119900230001X", "44010119900101001x",
               "４４０１０１１９９００１０１００１Ｘ", "000000180001010010", "999999209901010010", "91449901MA0000IOSV",
               "+86 139 0000 0000", "0086-13900000000", "a" * 65 + "@example.test", '"q"@example.test',
               "例@例子.测试", "欧阳·阿卜杜拉", "𠀀𫝀𬸣", "🐼" * 200, "null", "undefined", "true"]  # fmt: skip
INJECTIONS = ["' or 1=1 --", "%' escape '!", "_%_", "*)(uid=*))(|(uid=*", "{{7*7}}", "${7*7}", "<%= 7*7 %>", "$(id)",
              ";id|id`id`", "=cmd|' /C calc'!A0", "<!ENTITY x SYSTEM 'file:///etc/passwd'>", "\x1b[31mred", "*[a-z]",
              "../../../../etc/passwd", '"><script>alert(1)</script>', "'><img src=x>", "__proto__", "\r\nX: y",
              "*1\r\n$4\r\nPING\r\n", "--", "${jndi:ldap://127.0.0.1/x}"]  # fmt: skip


def _jose(chance: random.Random) -> bytes:
    """Tokens in the compact form, of few and many parts, with odd headers."""
    heads: list[object] = [
        {"alg": "none"}, {"alg": "HS256"}, {"alg": None}, {"alg": "RS256", "kid": "../../x"}, [], "x", 1, None,
        {"alg": "RS256", "crit": ["x"]}, {"alg": "ES256", "jwk": {}}, {"alg": "PBES2-HS256+A128KW", "p2c": 10**9},
        {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}, {"alg": ["RS256"]}, {"kid": "x" * 3_000, "alg": "RS256"},
    ]  # fmt: skip
    head = b64(json.dumps(chance.choice(heads)).encode())
    claims: dict[str, object] = {"sub": mark(chance).decode(), "exp": chance.choice([0, -1, 2**63, "x", None, 1e300])}
    body = b64(json.dumps(claims).encode())
    whole = b".".join([head, body, b64(chance.randbytes(chance.choice([0, 1, 64, 256])))])
    return chance.choice([whole, whole + b"=", b"." * chance.choice([1, 2, 4, 5_000]), head + b"." + body + b".",
                          whole.replace(b"-", b"+"), whole + b".x.y",
                          whole[: chance.randrange(len(whole) + 1)]])  # fmt: skip


def b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _noise(chance: random.Random) -> bytes:
    return escape(chance.randbytes(chance.choice([1, 3, 16, 64, 300])))


FAMILIES: list[Callable[[random.Random], bytes]] = [
    _length,
    _bytes,
    _bytes,
    lambda chance: mark(chance) + chance.choice(PERCENT),
    lambda chance: escape(chance.choice(URLS).encode()),
    lambda chance: escape(chance.choice(TIMES).encode()),
    lambda chance: escape(chance.choice(IDENTIFIERS).encode(chance.choice(["utf-8", "gb18030"]))),
    lambda chance: escape(mark(chance) + chance.choice(INJECTIONS).encode()),
    _jose,
    _noise,
]


def value(chance: random.Random, old: bytes) -> bytes:
    """Something in place of `old`, percent-encoded or not."""
    if old and chance.random() < 0.15:  # nearly right
        place = chance.randrange(len(old))
        return chance.choice(
            [old[:place], old + old[:1], old[:place] + b"A" + old[place + 1 :], old.swapcase(), old * 2]
        )
    return chance.choice(FAMILIES)(chance)


def document(chance: random.Random) -> bytes:
    """A JSON text, or what is nearly one."""
    depth = chance.choice([10, 100, 1_000, 20_000])
    return chance.choice([
        b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" + b"[]," * 10_000 + b"[]]", b"NaN",
        b'{"grant_type":"authorization_code","grant_type":"x"}', b"1" * 5_000, b"1e400", b"-0",
        b'"' + mark(chance) + b'"',
        b"null", b"", b'{"a":1}trailing', b"{/*x*/}", b'{"__proto__":{"x":1}}', b'"\xed\xa0\x80"',
        b"\xff\xfe{\x00}\x00",
        json.dumps({mark(chance).decode(): ["list for string", {"x": None}, True]}).encode(),
    ])  # fmt: skip


def multipart(chance: random.Random, pairs: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Content type and body of a multipart form, whole or broken."""
    boundary = chance.choice([b"", b"x", b"b" * 70, b"b" * 71, b"b" * 5_000])
    part = b'Content-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    odd = chance.choice([b"", b'; filename="../../x"', b"\r\nX: " + b"y" * 3_000])
    whole = b"".join(
        b"--" + boundary + b"\r\n" + part % (name, odd, value) for name, value in pairs * chance.choice([1, 50])
    )
    ending = chance.choice([b"--" + boundary + b"--\r\n", b"", b"--" + boundary])
    preamble = chance.choice([b"", b"p" * 10_000])
    return b"multipart/form-data" + chance.choice([b"; boundary=" + boundary, b""]), preamble + whole + ending
