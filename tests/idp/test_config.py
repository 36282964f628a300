"""Settings: defaults that work, one refusal for each bad value, and nothing unsafe in production."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from idp.config import load_config, unsafe_for_production
from idp.errors import ConfigError

PRODUCTION = {
    "YIMEN_ENV": "production",
    "YIMEN_ISSUER": "https://login.example.cn",
    "YIMEN_DATABASE_URL": "postgresql+psycopg://yimen@db/yimen",
    "YIMEN_REDIS_URL": "rediss://cache:6379/0",
    "YIMEN_MASTER_KEY_FILE": "/etc/yimen/master.key",
    "YIMEN_CODE_SENDER": "https://sms.example.cn/send",
}


def test_defaults_work_without_any_setting() -> None:
    config = load_config({"PATH": "/bin"})
    assert config.issuer == "http://127.0.0.1:8000"
    assert config.embedded
    assert config.allow_synthetic_ids
    assert config.rate_limits
    assert config.data_dir.is_absolute()
    assert config.database_url == f"sqlite:///{config.data_dir}/yimen.db"
    assert config.master_key_file == config.data_dir / "master.key"
    with pytest.raises(FrozenInstanceError):
        config.issuer = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"YIMEN_ISUER": "https://x.cn"}, "unknown setting YIMEN_ISUER; the nearest known one is YIMEN_ISSUER"),
        ({"YIMEN_ENV": "staging"}, "YIMEN_ENV: must be one of development, production"),
        ({"YIMEN_ISSUER": "http://login.example.cn"}, "YIMEN_ISSUER: http is for loopback only"),
        ({"YIMEN_ISSUER": "https://login.example.cn/"}, "YIMEN_ISSUER"),
        ({"YIMEN_ISSUER": "https://login.example.cn?x=1"}, "YIMEN_ISSUER"),
        ({"YIMEN_ISSUER": "https://a:b@login.example.cn"}, "YIMEN_ISSUER"),
        ({"YIMEN_ISSUER": "login.example.cn"}, "YIMEN_ISSUER"),
        ({"YIMEN_ISSUER": "https://[::1"}, "YIMEN_ISSUER"),
        ({"YIMEN_DATABASE_URL": "postgresql://db/yimen"}, "YIMEN_DATABASE_URL: must begin with postgresql[+]psycopg"),
        ({"YIMEN_DATABASE_URL": "mysql://db/yimen"}, "YIMEN_DATABASE_URL"),
        ({"YIMEN_REDIS_URL": "http://cache"}, "YIMEN_REDIS_URL"),
        ({"YIMEN_CRYPTO": "sm"}, "YIMEN_CRYPTO: sm .* is not available"),
        ({"YIMEN_CRYPTO": "rot13"}, "YIMEN_CRYPTO"),
        ({"YIMEN_ALLOW_SYNTHETIC_IDS": "maybe"}, "YIMEN_ALLOW_SYNTHETIC_IDS: must be on or off"),
        ({"YIMEN_RATE_LIMITS": "2"}, "YIMEN_RATE_LIMITS"),
        ({"YIMEN_METRICS_ALLOW": "10.0.0.0/99"}, "YIMEN_METRICS_ALLOW"),
        ({"YIMEN_TRUSTED_PROXIES": "proxy"}, "YIMEN_TRUSTED_PROXIES"),
        ({"YIMEN_HEADER_SECONDS": "0"}, "YIMEN_HEADER_SECONDS: must be a whole number from 1 to 300"),
        ({"YIMEN_BODY_SECONDS": "1.5"}, "YIMEN_BODY_SECONDS: must be a whole number"),
        ({"YIMEN_ADDRESS_CONNECTIONS": "many"}, "YIMEN_ADDRESS_CONNECTIONS: must be a whole number"),
        ({"YIMEN_CODE_SENDER": "pigeon"}, "YIMEN_CODE_SENDER"),
        ({"YIMEN_AUDIT_KEEP_DAYS": "179"}, "YIMEN_AUDIT_KEEP_DAYS: must be a whole number from 180 to"),
        ({"YIMEN_AUDIT_ANCHOR_SECONDS": "1h"}, "YIMEN_AUDIT_ANCHOR_SECONDS: must be a whole number"),
        ({"YIMEN_ENDED_KEEP_DAYS": "0"}, "YIMEN_ENDED_KEEP_DAYS"),
        ({"YIMEN_AUDIT_STORE_URL": "ftp://store"}, "YIMEN_AUDIT_STORE_URL"),
        ({"YIMEN_CONFIG": "/does/not/exist.toml"}, "YIMEN_CONFIG: cannot read"),
    ],
)
def test_bad_setting_is_refused_in_one_line(settings: Mapping[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(settings)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"YIMEN_ISSUER": "http://127.0.0.1:8000"}, "YIMEN_ISSUER must be an https address"),
        ({"YIMEN_DATABASE_URL": ""}, "YIMEN_DATABASE_URL must name PostgreSQL"),
        ({"YIMEN_REDIS_URL": ""}, "YIMEN_REDIS_URL must name Redis"),
        ({"YIMEN_MASTER_KEY_FILE": None}, "YIMEN_MASTER_KEY_FILE must be set"),
        ({"YIMEN_RATE_LIMITS": "off"}, "YIMEN_RATE_LIMITS=off"),
        ({"YIMEN_TRUSTED_PROXIES": "0.0.0.0/0"}, "YIMEN_TRUSTED_PROXIES trusts everybody"),
    ],
)
def test_production_refuses_what_is_unsafe(changes: Mapping[str, str | None], said: str) -> None:
    settings = {name: value for name, value in (PRODUCTION | changes).items() if value is not None}
    with pytest.raises(ConfigError, match=f"unsafe in production: {said}"):
        load_config(settings)
    config = load_config({name: value for name, value in settings.items() if name != "YIMEN_ENV"})
    assert any(sentence.startswith(said) for sentence in unsafe_for_production(config, set(settings)))


def test_production_with_safe_settings_starts_without_synthetic_numbers() -> None:
    config = load_config(PRODUCTION)
    assert config.production
    assert not config.allow_synthetic_ids
    assert unsafe_for_production(config, set(PRODUCTION)) == []


def test_file_gives_what_the_environment_does_not(tmp_path: Path) -> None:
    file = tmp_path / "yimen.toml"
    file.write_text(
        'YIMEN_ISSUER = "http://127.0.0.1:9000"\nYIMEN_RATE_LIMITS = false\n'
        'YIMEN_OUTBOUND_ALLOW = ["10.0.0.0/8", "127.0.0.1:8101"]\n'
    )
    config = load_config({"YIMEN_CONFIG": str(file), "YIMEN_ISSUER": "http://127.0.0.1:9001"})
    assert config.issuer == "http://127.0.0.1:9001"
    assert not config.rate_limits
    assert config.outbound_allow == ("10.0.0.0/8", "127.0.0.1:8101")


@pytest.mark.parametrize("text", ["YIMEN_ENV = [1]", "YIMEN_ENV = {}", "not toml", 'YIMEN_COLOUR = "red"', "\xff\x00"])
def test_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "yimen.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError):
        load_config({"YIMEN_CONFIG": str(file)})
