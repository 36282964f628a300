"""One frozen Config, read once; unknown names and unsafe combinations are refused by name."""

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from idp.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of the product; contract section 3 says what each means."""

    env: str
    issuer: str
    data_dir: Path
    database_url: str
    redis_url: str
    master_key_file: Path
    crypto: str
    allow_synthetic_ids: bool
    outbound_allow: tuple[str, ...]
    outbound_ca: Path | None
    metrics_allow: tuple[Network, ...]
    code_sender: str
    rate_limits: bool
    trusted_proxies: tuple[Network, ...]
    traces: str
    audit_anchor_seconds: int
    audit_anchor_records: int
    audit_anchor_file: Path
    audit_store_url: str
    audit_keep_days: int
    ended_keep_days: int
    header_seconds: int
    body_seconds: int
    address_connections: int

    @property
    def production(self) -> bool:
        return self.env == "production"

    @property
    def embedded(self) -> bool:
        """True on the embedded default: one process that owns its SQLite file and its schema."""
        return self.database_url.startswith("sqlite")


def load_config(environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration from `YIMEN_*` names in the environment, over those of the file YIMEN_CONFIG.

    Raises ConfigError with one line for an unknown name, a bad value or an unsafe combination.
    """
    values = _from_file(environ.get("YIMEN_CONFIG", ""))
    values |= {name: value for name, value in environ.items() if name.startswith("YIMEN_")}
    values.pop("YIMEN_CONFIG", None)
    _refuse_unknown(values)

    def get(name: str, default: str, read: Callable[[str], T]) -> T:
        try:
            return read(values.get(name, "") or default)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None

    env = get("YIMEN_ENV", "development", _one_of("development", "production"))
    data_dir = get("YIMEN_DATA_DIR", "./var", lambda text: Path(text).absolute())
    config = Config(
        env=env,
        issuer=get("YIMEN_ISSUER", "http://127.0.0.1:8000", _issuer),
        data_dir=data_dir,
        database_url=get("YIMEN_DATABASE_URL", f"sqlite:///{data_dir}/yimen.db", _database_url),
        redis_url=get("YIMEN_REDIS_URL", "", _redis_url),
        master_key_file=get("YIMEN_MASTER_KEY_FILE", f"{data_dir}/master.key", Path),
        crypto=get("YIMEN_CRYPTO", "international", _crypto),
        allow_synthetic_ids=get("YIMEN_ALLOW_SYNTHETIC_IDS", _off_if(env == "production"), _switch),
        outbound_allow=get("YIMEN_OUTBOUND_ALLOW", "", _words),
        outbound_ca=get("YIMEN_OUTBOUND_CA", "", lambda text: Path(text) if text else None),
        metrics_allow=get("YIMEN_METRICS_ALLOW", "127.0.0.0/8,::1", _networks),
        code_sender=get("YIMEN_CODE_SENDER", "outbox", _code_sender),
        rate_limits=get("YIMEN_RATE_LIMITS", "on", _switch),
        trusted_proxies=get("YIMEN_TRUSTED_PROXIES", "", _networks),
        traces=get("YIMEN_TRACES", "", _http_address),
        audit_anchor_seconds=get("YIMEN_AUDIT_ANCHOR_SECONDS", "3600", _number(1, 10**9)),
        audit_anchor_records=get("YIMEN_AUDIT_ANCHOR_RECORDS", "10000", _number(1, 10**9)),
        audit_anchor_file=get("YIMEN_AUDIT_ANCHOR_FILE", f"{data_dir}/audit-anchors.jsonl", Path),
        audit_store_url=get("YIMEN_AUDIT_STORE_URL", "", _http_address),
        audit_keep_days=get("YIMEN_AUDIT_KEEP_DAYS", "1096", _number(180, 10**9)),  # the law asks for six months
        ended_keep_days=get("YIMEN_ENDED_KEEP_DAYS", "30", _number(1, 10**9)),
        header_seconds=get("YIMEN_HEADER_SECONDS", "10", _number(1, 300)),
        body_seconds=get("YIMEN_BODY_SECONDS", "30", _number(1, 300)),
        address_connections=get("YIMEN_ADDRESS_CONNECTIONS", "256", _number(1, 100_000)),
    )
    refuse_unsafe(config, explicit={name for name, value in values.items() if value})
    return config


NAMES = frozenset(
    "YIMEN_" + name.upper() for name in Config.__dataclass_fields__
)  # one setting, one field: the name is the field in upper case


def unsafe_for_production(config: Config, explicit: set[str] | None = None) -> list[str]:
    """What would have to change before production, one sentence each (`doctor` shows them in development)."""
    found = []
    if not config.issuer.startswith("https://"):
        found.append("YIMEN_ISSUER must be an https address")
    if config.embedded:
        found.append("YIMEN_DATABASE_URL must name PostgreSQL; the embedded SQLite file is for development")
    if not config.redis_url:
        found.append("YIMEN_REDIS_URL must name Redis; the in-process store cannot serve several workers")
    if explicit is not None and "YIMEN_MASTER_KEY_FILE" not in explicit:
        found.append("YIMEN_MASTER_KEY_FILE must be set; a generated key in the data folder is not enough")
    if config.code_sender == "outbox":
        found.append("YIMEN_CODE_SENDER must be the address of an SMS gateway; the outbox file is for development")
    if not config.rate_limits:
        found.append("YIMEN_RATE_LIMITS=off is for tests only")
    if any(network.prefixlen == 0 for network in config.trusted_proxies):
        found.append("YIMEN_TRUSTED_PROXIES trusts everybody")
    return found


def refuse_unsafe(config: Config, explicit: set[str]) -> None:
    """Raise ConfigError with the first unsafe point when this is production."""
    if config.production:
        for sentence in unsafe_for_production(config, explicit):
            raise ConfigError(f"unsafe in production: {sentence}")


def _from_file(path: str) -> dict[str, str]:
    if not path:
        return {}
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"YIMEN_CONFIG: cannot read {path}: {error}") from None
    return {name: _toml_text(name, value) for name, value in document.items()}


def _toml_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if isinstance(value, str | int):
        return str(value)
    raise ConfigError(f"YIMEN_CONFIG: {name} must be a string, a number, true or false, or a list of strings")


def _refuse_unknown(values: Mapping[str, str]) -> None:
    for name in sorted(values):
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.0)
            raise ConfigError(f"unknown setting {name}; the nearest known one is {near[0]}")


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return read


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def _crypto(text: str) -> str:
    if text == "sm":
        raise ValueError("sm (SM2, SM3, SM4) is not available in this version; use international")
    return _one_of("international")(text)


def _switch(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("on", "true", "1", "yes"):
        return True
    if lowered in ("off", "false", "0", "no"):
        return False
    raise ValueError("must be on or off")


def _off_if(condition: bool) -> str:
    return "off" if condition else "on"


def _issuer(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an absolute http(s) address without query and fragment")
    if parts.username is not None or text.endswith("/"):
        raise ValueError("must carry no user information and must not end with a slash")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("http is for loopback only; use https")
    return text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _database_url(text: str) -> str:
    if text.startswith(("sqlite:///", "postgresql+psycopg://")):
        return text
    raise ValueError("must begin with postgresql+psycopg:// or sqlite:///")


def _redis_url(text: str) -> str:
    if text and not text.startswith(("redis://", "rediss://", "redis+cluster://")):
        raise ValueError("must begin with redis://, rediss:// or redis+cluster://")
    return text


def _code_sender(text: str) -> str:
    if text == "outbox" or urlsplit(text).scheme in ("http", "https"):
        return text
    raise ValueError("must be outbox or the address of an SMS gateway")


def _http_address(text: str) -> str:
    if text and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname):
        raise ValueError("must be an absolute http(s) address")
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(word, strict=False) for word in _words(text))
