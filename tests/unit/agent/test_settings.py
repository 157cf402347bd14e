"""Settings and policy files: strict, with the key named; every policy survives being written and read."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from car_agent.core.policy import Policy
from car_agent.journal.settings import AgentSettings, PolicyFile, parse_policy, policy_toml, read_settings
from pool_protocol.errors import PoolError


def test_missing_files_are_the_defaults(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "agent.toml", {}) == AgentSettings()
    assert PolicyFile(tmp_path / "policy.toml").read() == Policy()


def test_settings_are_read_and_overridden(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('source = "file"\nidle_unload_s = 5\nworker_command = ["python", "-m", "drill"]\n')
    settings = read_settings(path, {"source": "simulated", "log_level": None})
    assert settings.source == "simulated"
    assert settings.idle_unload_s == 5.0
    assert settings.worker_command == ("python", "-m", "drill")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sauce = 1", "sauce"),
        ('source = "mqtt"', "simulated, file, sysfs"),
        ("source = 3", "wrong type"),
        ("idle_unload_s = true", "wrong type"),
        ("idle_unload_s = 0", "more than 0"),
        ("lease_attempts_max = 9999", "lease_attempts_max"),
        ("worker_command = [1]", "wrong type"),
        ("reserve_price_micros_per_wu = -1", "not negative"),
        ('log_level = "loud"', "log_level"),
        ("x = ", "not TOML"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(PoolError, match=words):
        read_settings(path, {})


def test_every_policy_survives_its_file(tmp_path: Path) -> None:
    policies = [
        Policy(),
        Policy(max_battery_c=None, resume_battery_c=None, at_home_only=True, stop_when_eta_under_min=15.5),
        replace(Policy(), min_soc_percent=0.0, resume_soc_percent=0.0, start_after_s=0.0),
    ]
    for policy in policies:
        assert parse_policy(policy_toml(policy)) == policy
        PolicyFile(tmp_path / "policy.toml").write(policy)
        assert PolicyFile(tmp_path / "policy.toml").read() == policy


def test_policy_text_names_every_key() -> None:
    text = policy_toml(Policy())
    for key in fields(Policy):
        assert f"\n{key.name} = " in text


@pytest.mark.parametrize("text", ["only_while = 'always'", "min_soc_percent = 'x'", "min_soc_percent = 90"])
def test_a_wrong_policy_is_refused(text: str) -> None:
    with pytest.raises(PoolError):
        parse_policy(text)
