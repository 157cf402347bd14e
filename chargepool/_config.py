"""Where a client finds its pool: address, CA and token, from flags, environment or a file.

Order: what the caller passes, then the environment, then `client.toml`:

    CHARGEPOOL_ADDRESS      host:port of the pool's API
    CHARGEPOOL_CA_FILE      the pool's CA certificate (PEM), which `pool-server init` writes as ca.pem
    CHARGEPOOL_TOKEN_FILE   a file that holds the token; or CHARGEPOOL_TOKEN, the token itself
    CHARGEPOOL_CONFIG       another file in place of $XDG_CONFIG_HOME/chargepool/client.toml

    # client.toml; relative paths start at the file's own folder
    address = "pool.example.org:7443"
    ca_file = "ca.pem"
    token_file = "buyer.token"

This module reads files and decides which setting wins. It does not connect, and it has no default address: a
client that guesses its pool would hand its token to whoever answers.
"""

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chargepool._errors import ConfigError

ADDRESS_VARIABLE = "CHARGEPOOL_ADDRESS"
CA_FILE_VARIABLE = "CHARGEPOOL_CA_FILE"
TOKEN_VARIABLE = "CHARGEPOOL_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_FILE_VARIABLE = "CHARGEPOOL_TOKEN_FILE"  # noqa: S105
CONFIG_VARIABLE = "CHARGEPOOL_CONFIG"

_KNOWN_KEYS = frozenset({"address", "ca_file", "token_file"})
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_TOKEN = re.compile(r"[A-Za-z0-9_\-]{8,256}")
_PEM_MARK = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """A complete, checked configuration."""

    address: str
    """host:port of the pool's API."""
    ca_pem: bytes = field(repr=False)
    """The pool's CA certificate: the only one that the channel trusts."""
    token: str | None = field(default=None, repr=False)
    """Sent with every call; None only where none was asked for."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Setting -> where it came from, in words, for `chargepool config`."""
    warnings: tuple[str, ...] = ()
    """What works but should be put right, for example a token file that others can read."""


@dataclass(frozen=True, slots=True)
class _Setting:
    value: str
    origin: str


def default_config_file(environ: Mapping[str, str]) -> Path:
    """Return where `client.toml` is looked for, whether it exists or not."""
    chosen = environ.get(CONFIG_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    base = environ.get("XDG_CONFIG_HOME")
    root = Path(base) if base else Path(environ.get("HOME", "~")).expanduser() / ".config"
    return root / "chargepool" / "client.toml"


def load_config(
    *,
    address: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    ca_pem: bytes | None = None,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    needs_token: bool = True,
    environ: Mapping[str, str] | None = None,
) -> ClientConfig:
    """Return the configuration that wins, checked and with its files read.

    Args:
        address: host:port, over environment and file.
        ca_file: Path of the CA certificate (PEM).
        ca_pem: The CA certificate itself; wins over `ca_file`.
        token: The token itself; wins over `token_file`.
        token_file: Path of a file that holds the token.
        needs_token: False for callers that identify themselves otherwise (a vehicle's certificate).
        environ: In place of the process's environment, for tests.

    Raises:
        ConfigError: Something is missing, unreadable or malformed; it names what to set.
    """
    env = os.environ if environ is None else environ
    file_settings = _read_file(default_config_file(env), required=CONFIG_VARIABLE in env)
    warnings: list[str] = []

    found_address = (
        _given("address", address) or _from_env(env, ADDRESS_VARIABLE) or file_settings.get("address")
    )
    if found_address is None:
        raise _missing("the pool's address", "--address HOST:PORT", ADDRESS_VARIABLE, "address")
    _check_address(found_address)

    if ca_pem is not None:
        ca_origin, ca_bytes = "argument", ca_pem
    else:
        found_ca = _given("ca", ca_file) or _from_env(env, CA_FILE_VARIABLE) or file_settings.get("ca_file")
        if found_ca is None:
            raise _missing("the pool's CA certificate", "--ca FILE", CA_FILE_VARIABLE, "ca_file")
        ca_origin = f"{found_ca.value} ({found_ca.origin})"
        ca_bytes = _read_bytes(found_ca, "CA certificate")
    if _PEM_MARK not in ca_bytes:
        raise ConfigError(
            f"The CA certificate ({ca_origin}) is not in PEM format.",
            next_step="Use the file ca.pem that `pool-server init` wrote.",
        )

    token_text, token_origin = _find_token(
        env, token=token, token_file=token_file, from_file=file_settings.get("token_file"), warnings=warnings
    )
    if token_text is None and needs_token:
        raise _missing(
            "your token", "--token-file FILE", f"{TOKEN_FILE_VARIABLE} (or {TOKEN_VARIABLE})", "token_file"
        )
    if token_text is not None and not _TOKEN.fullmatch(token_text):
        raise ConfigError(
            f"The token ({token_origin}) is not one token of letters, digits and underscores.",
            next_step="Copy it again; it looks like cp_buyer_... and stands alone in its file.",
        )
    return ClientConfig(
        address=found_address.value,
        ca_pem=ca_bytes,
        token=token_text,
        origins={"address": found_address.origin, "ca": ca_origin, "token": token_origin},
        warnings=tuple(warnings),
    )


def _find_token(
    env: Mapping[str, str],
    *,
    token: str | None,
    token_file: str | os.PathLike[str] | None,
    from_file: _Setting | None,
    warnings: list[str],
) -> tuple[str | None, str]:
    if token is not None:
        return token.strip(), "argument"
    path = _given("token file", token_file)
    if path is None and env.get(TOKEN_VARIABLE) and not env.get(TOKEN_FILE_VARIABLE):
        return env[TOKEN_VARIABLE].strip(), TOKEN_VARIABLE
    path = path or _from_env(env, TOKEN_FILE_VARIABLE) or from_file
    if path is None:
        return None, "none"
    text = _read_bytes(path, "token file").decode("ascii", errors="replace").strip()
    if Path(path.value).stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        warnings.append(f"others on this machine can read {path.value}; run: chmod 600 {path.value}")
    return text, f"{path.value} ({path.origin})"


def _given(what: str, value: str | os.PathLike[str] | None) -> _Setting | None:
    if value is None:
        return None
    text = os.fspath(value)
    if not text:
        raise ConfigError(f"The {what} given is empty.", next_step="Leave it out, or give a value.")
    return _Setting(str(Path(text).expanduser()) if what != "address" else text, "argument")


def _from_env(env: Mapping[str, str], variable: str) -> _Setting | None:
    value = env.get(variable)
    return _Setting(value, variable) if value else None


def _read_file(path: Path, *, required: bool) -> dict[str, _Setting]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if required:
            raise ConfigError(
                f"{CONFIG_VARIABLE} names {path}, which does not exist.",
                next_step="Unset it, or make the file.",
            ) from error
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", next_step="Check its permissions.") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", next_step="Correct that line.") from error
    settings: dict[str, _Setting] = {}
    for key, value in content.items():
        if key not in _KNOWN_KEYS:
            raise ConfigError(
                f"{path} has an unknown setting {key!r}.",
                next_step=f"Known are {', '.join(sorted(_KNOWN_KEYS))}.",
            )
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{path}: {key} must be text.", next_step=f'Write {key} = "...".')
        resolved = value if key == "address" else str(path.parent / Path(value).expanduser())
        settings[key] = _Setting(resolved, str(path))
    return settings


def _read_bytes(setting: _Setting, what: str) -> bytes:
    try:
        return Path(setting.value).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The {what} {setting.value} (from {setting.origin}) cannot be read: {error.strerror}.",
            next_step="Correct the path, or the file's permissions.",
        ) from error


def _check_address(setting: _Setting) -> None:
    match = _ADDRESS.fullmatch(setting.value)
    if match is None or not 0 < int(match["port"]) < 65_536:
        raise ConfigError(
            f"{setting.value!r} (from {setting.origin}) is not HOST:PORT.",
            next_step="Write, for example, pool.example.org:7443 or 127.0.0.1:7443.",
        )


def _missing(what: str, flag: str, variable: str, key: str) -> ConfigError:
    return ConfigError(
        f"Chargepool does not know {what}.",
        next_step=f"Pass it ({flag}), set {variable}, or write {key} into client.toml; "
        "`chargepool doctor` checks it.",
        context={"field": key},
    )
