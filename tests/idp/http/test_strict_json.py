"""R02 and Z6: JSON is read strictly or refused with 400, whatever its size."""

import pytest

from idp.errors import InvalidInput
from idp.http.strict_json import DEPTH_LIMIT, parse_object

BAD = {
    "nothing": b"",
    "spaces": b"  ",
    "a list": b"[]",
    "a string": b'"a"',
    "null": b"null",
    "a number": b"1",
    "half": b'{"a": 1',
    "something after": b'{"a": 1} x',
    "a comment": b'{"a": 1 /* b */}',
    "one comma too many": b'{"a": 1,}',
    "a name twice": b'{"a": 1, "a": 2}',
    "a name twice inside": b'{"b": [{"a": 1, "a": 2}]}',
    "a name twice by escape": b'{"a": 1, "\\u0061": 2}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "1e400": b'{"a": 1e400}',
    "1e400 in a list": b'{"a": [1, [1e400]]}',
    "5,000 digits": b'{"a": ' + b"1" * 5_000 + b"}",
    "4,300 digits": b'{"a": ' + b"1" * 4_300 + b"}",
    "a huge exponent": b'{"a": 1e' + b"9" * 50 + b"}",
    "not UTF-8": b'{"a": "\xff"}',
    "overlong UTF-8": b'{"a": "\xc0\xaf"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "a lone surrogate": b'{"a": "\\ud800"}',
    "a lone surrogate as a name": b'{"\\udfff": 1}',
    "a lone surrogate in a list": b'{"a": [["\\ud800"]]}',
    "NUL": b'{"a": "\\u0000"}',
    "a raw control character": b'{"a": "\n"}',
    "an open string": b'{"a": "bbb',
    "depth 17": b'{"a": ' + b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT + b"}",
    "depth 100,000": b"[" * 100_000,
    "depth 1,000,000": b'{"a":' * 1_000_000,
    "10,000,000 empty lists": b"[" + b"[]," * 10_000_000 + b"[]]",
    "1,000,000 names": b"{" + b",".join(b'"%d":1' % number for number in range(1_000_000)) + b"}",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_bad_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_object(raw)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"{}", {}),
        (b' {"a": [1, -2.5e3, true, null, "\\"[{"]}\n', {"a": [1, -2500.0, True, None, '"[{']}),
        ('{"名": "张\\uD83D\\uDE00"}'.encode(), {"名": "张😀"}),
        (b'{"a": "' + b"[" * 1_000 + b'"}', {"a": "[" * 1_000}),
        (b'{"__proto__": {"a": 1}}', {"__proto__": {"a": 1}}),
        (b'{"a": ' + b"[" * (DEPTH_LIMIT - 1) + b"]" * (DEPTH_LIMIT - 1) + b"}", None),
    ],
)
def test_good_json_is_read(raw: bytes, found: object) -> None:
    assert parse_object(raw) == found or found is None
