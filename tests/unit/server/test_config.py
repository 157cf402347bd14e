from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.config import (
    ENVIRONMENT_PREFIX,
    ServerConfig,
    config_from,
    explain,
    load_config,
    render_config,
)


def refused_field(values: dict[str, object]) -> str:
    with pytest.raises(PoolError) as refusal:
        config_from(values)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    return refusal.value.context["field"]


def test_what_init_writes_reads_back_the_same_and_explains_every_key() -> None:
    config = ServerConfig(public_host=("pool.example", 'a"b\\c'), reflection=True, sweep_interval_s=0.5)
    text = render_config(config)
    assert config_from(tomllib.loads(text)) == config
    for entry in fields(ServerConfig):
        assert explain(entry.name) in text
        assert f"\n{entry.name} = " in text


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_text("api_port = 1\nfleet_port = 2\nfee_ppm = 3\n")
    environment = {
        ENVIRONMENT_PREFIX + "API_PORT": "10",
        ENVIRONMENT_PREFIX + "FLEET_PORT": "20",
        "HOME": "/x",
    }
    config = load_config(path, environment=environment, overrides={"api_port": 100, "host": None})
    assert (config.api_port, config.fleet_port, config.fee_ppm) == (100, 20, 3)
    assert config.host == "127.0.0.1"


def test_the_environment_is_read_by_the_type_of_the_key() -> None:
    environment = {
        ENVIRONMENT_PREFIX + "PUBLIC_HOST": "a.example, b.example",
        ENVIRONMENT_PREFIX + "REFLECTION": "true",
        ENVIRONMENT_PREFIX + "ASSUMED_FAULTY_SHARE": "1.0",
        ENVIRONMENT_PREFIX + "PAYOUT_SCHEDULE": "daily",
    }
    config = load_config(None, environment=environment)
    assert config.public_host == ("a.example", "b.example")
    assert (config.reflection, config.assumed_faulty_share, config.payout_schedule) == (True, 1.0, "daily")
    for name, text in (("REFLECTION", "maybe"), ("API_PORT", "http"), ("ASSUMED_FAULTY_SHARE", "most")):
        with pytest.raises(PoolError):
            load_config(None, environment={ENVIRONMENT_PREFIX + name: text})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fee_pmm", 1),
        ("api_port", "80"),
        ("api_port", True),
        ("api_port", 65_536),
        ("reflection", 1),
        ("public_host", "one"),
        ("public_host", [1]),
        ("fee_ppm", 1_000_000),
        ("fee_ppm", -1),
        ("assumed_faulty_share", 0.0),
        ("lease_timeout_s", 1),
        ("payout_schedule", "never"),
        ("sweep_interval_s", 0.0),
    ],
)
def test_what_is_unknown_of_another_type_or_out_of_bounds_is_named(key: str, value: object) -> None:
    assert refused_field({key: value}) == key


def test_a_whole_number_is_a_number() -> None:
    assert config_from({"sweep_interval_s": 2}).sweep_interval_s == 2.0


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_text("api_port = = 1")
    with pytest.raises(PoolError, match=r"pool\.toml"):
        load_config(path, environment={})
    assert load_config(tmp_path / "missing.toml", environment={}) == ServerConfig()


def test_every_default_is_within_its_bounds_and_every_schedule_has_a_span() -> None:
    assert ServerConfig().payout_schedule_us > 0
    assert ServerConfig(payout_schedule="none").payout_schedule_us == 0
