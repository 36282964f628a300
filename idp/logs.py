"""Logs: one JSON object a line on standard error; numbers and phones are masked as a last defence.

    log.info("request", extra={"fields": {"status": 200}})

gives {"at": …, "level": "info", "logger": …, "message": "request", "status": 200}.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

VALUE_LIMIT = 2_048  # characters of one value
TRACE_LIMIT = 16_384

# 18 signs of a citizen number or credit code's digits, 15 of the older ones, mobile numbers of 11
_NUMBER = re.compile(r"(?<![0-9])(?:[0-9]{17}[0-9Xx]|[0-9]{15,}|(?:86)?1[3-9][0-9]{9})(?![0-9])")
_DIGITS = re.compile(r"[0-9]{11}")  # in whatever `_NUMBER` masks, and quicker to find
_LONG_RUN = re.compile(r"\d(?:[\s._-]?\d){5,}[Xx]?")


def mask_numbers(text: str) -> str:
    """Every run of digits that looks like a person's number or a mobile number, replaced by as many asterisks."""
    return _NUMBER.sub(lambda found: "*" * len(found[0]), text)


def mask_free_text(text: str) -> str:
    """What people wrote (reasons, remarks) without any run of six or more digits, separators counting as none.

    Free text can hold numbers in any spelling, so this masks far more than `mask_numbers` (domain.md section 7).
    """
    return _LONG_RUN.sub(lambda found: "*" * len(found[0]), text)


class JsonFormatter(logging.Formatter):
    """A record and its `fields` as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["trace"] = self.formatException(record.exc_info)[-TRACE_LIMIT:].splitlines()
        text = msgspec.json.encode(line, enc_hook=str).decode()
        if len(text) > VALUE_LIMIT or _DIGITS.search(text):  # rare; only then each value is looked at
            return msgspec.json.encode(_clean(line), enc_hook=str).decode()
        return text


def _clean(value: Any) -> Any:
    """The value with numbers masked and long texts cut."""
    if isinstance(value, str):
        cut = value if len(value) <= VALUE_LIMIT else f"{value[:VALUE_LIMIT]}… ({len(value)} characters)"
        return mask_numbers(cut)
    if isinstance(value, dict):
        return {str(name): _clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**14):
        return value
    return mask_numbers(str(value)[:VALUE_LIMIT])


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send the whole process's logs to `stream` (standard error) as JSON lines. Repeating it changes nothing."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging._srcfile = None  # nobody reads where in the code a line was written
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # nor by which thread
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "alembic"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("alembic").setLevel("WARNING")
    logging.getLogger("httpx2").setLevel("WARNING")
    logging.getLogger("uvicorn.access").disabled = True  # its lines hold whole addresses, and so codes
