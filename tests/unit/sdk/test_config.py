"""Which setting wins, and what is said when one is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargepool._config import load_config
from chargepool._errors import ConfigError

PEM = b"-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"
TOKEN = "cp_buyer_0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(PEM)
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    return tmp_path


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")} | more


def write_file(home: Path, text: str) -> None:
    folder = home / "config" / "chargepool"
    folder.mkdir(parents=True)
    (folder / "client.toml").write_text(text)


def test_arguments_win_over_environment_over_file(home: Path) -> None:
    write_file(home, 'address = "file:1"\nca_file = "../../ca.pem"\ntoken_file = "../../token"\n')
    from_file = load_config(environ=environment(home))
    assert (from_file.address, from_file.ca_pem, from_file.token) == ("file:1", PEM, TOKEN)
    env = environment(home, CHARGEPOOL_ADDRESS="env:2", CHARGEPOOL_TOKEN="cp_buyer_from_environment")
    from_env = load_config(environ=env)
    assert (from_env.address, from_env.token) == ("env:2", "cp_buyer_from_environment")
    given = load_config(address="arg:3", token="cp_buyer_from_argument", environ=env)
    assert (given.address, given.token, given.origins["address"]) == (
        "arg:3",
        "cp_buyer_from_argument",
        "argument",
    )


def test_a_token_file_wins_over_a_token_in_the_environment(home: Path) -> None:
    env = environment(
        home, CHARGEPOOL_TOKEN="cp_buyer_from_environment", CHARGEPOOL_TOKEN_FILE=str(home / "token")
    )
    assert load_config(address="a:1", ca_pem=PEM, environ=env).token == TOKEN


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "CHARGEPOOL_ADDRESS"),
        ({"address": "a:1"}, "CHARGEPOOL_CA_FILE"),
        ({"address": "a:1", "ca_pem": PEM}, "CHARGEPOOL_TOKEN_FILE"),
    ],
)
def test_what_is_missing_is_named_with_the_ways_to_set_it(
    home: Path, arguments: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ=environment(home), **arguments)  # type: ignore[arg-type]
    assert named in caught.value.next_step
    assert "client.toml" in caught.value.next_step


def test_a_vehicle_needs_no_token(home: Path) -> None:
    assert load_config(address="a:1", ca_pem=PEM, needs_token=False, environ=environment(home)).token is None


@pytest.mark.parametrize("address", ["pool", "pool:", ":1", "pool:0", "pool:65536", "http://pool:1", "a b:1"])
def test_an_address_is_host_and_port(home: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        load_config(address=address, ca_pem=PEM, token=TOKEN, environ=environment(home))


@pytest.mark.parametrize("address", ["pool.example.org:7443", "127.0.0.1:1", "[::1]:65535", "host_a-b:80"])
def test_names_and_both_kinds_of_ip_are_addresses(home: Path, address: str) -> None:
    assert load_config(address=address, ca_pem=PEM, token=TOKEN, environ=environment(home)).address == address


@pytest.mark.parametrize("token", ["two tokens", "short", "line\nbreak" * 3, "cp_buyer_ä" + "a" * 9])
def test_a_token_is_one_word(home: Path, token: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        load_config(address="a:1", ca_pem=PEM, token=token, environ=environment(home))


def test_a_ca_that_is_no_certificate_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="PEM"):
        load_config(address="a:1", ca_file=home / "token", token=TOKEN, environ=environment(home))


def test_an_unreadable_file_is_named(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.pem"):
        load_config(address="a:1", ca_file=home / "nowhere.pem", token=TOKEN, environ=environment(home))


def test_a_token_file_that_others_can_read_is_a_warning(home: Path) -> None:
    (home / "token").chmod(0o644)
    config = load_config(address="a:1", ca_pem=PEM, token_file=home / "token", environ=environment(home))
    assert "chmod 600" in config.warnings[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [("address =", "TOML"), ('adress = "a:1"', "unknown setting 'adress'"), ("address = 1", "must be text")],
)
def test_a_damaged_file_says_where(home: Path, text: str, said: str) -> None:
    write_file(home, text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(environ=environment(home))
    assert "client.toml" in caught.value.detail


def test_a_chosen_file_must_exist(home: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(environ=environment(home, CHARGEPOOL_CONFIG=str(home / "other.toml")))


def test_neither_token_nor_certificate_stands_in_the_repr(home: Path) -> None:
    shown = repr(load_config(address="a:1", ca_pem=PEM, token=TOKEN, environ=environment(home)))
    assert TOKEN not in shown
    assert "BEGIN" not in shown
