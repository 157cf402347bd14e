"""Where a pool's files lie, and how they are written: secrets 0600, everything on disk before it counts."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey

_SECRET_MODE = 0o600
_PUBLIC_MODE = 0o644
_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class PoolDirectory:
    """The paths below a pool's data directory."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings."""
        return self.path / "pool.toml"

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.path / "pool.sqlite3"

    @property
    def blobs(self) -> Path:
        """The blob store."""
        return self.path / "blobs"

    @property
    def ca_certificate(self) -> Path:
        """The CA's certificate: public, given to every client."""
        return self.path / "ca.pem"

    @property
    def keys(self) -> Path:
        """Private keys."""
        return self.path / "keys"

    @property
    def ca_key(self) -> Path:
        """The CA's private key."""
        return self.keys / "ca.key.pem"

    @property
    def audit_secret(self) -> Path:
        """What the secret draws of audits follow from."""
        return self.keys / "audit.secret"

    @property
    def operator_token(self) -> Path:
        """The first operator's token."""
        return self.path / "operator.token"

    @property
    def run(self) -> Path:
        """What exists only while the server runs."""
        return self.path / "run"

    @property
    def addresses(self) -> Path:
        """Where the running server listens."""
        return self.run / "addresses.json"

    def signing_key(self, role: str, key_id: str) -> Path:
        """The private Ed25519 key of a role."""
        return self.keys / f"{role}-{key_id}.pem"

    def load_signing_key(self, role: str, key_id: str) -> SigningKey:
        """Read a key of a role.

        Raises:
            PoolError: KEY_INVALID when it is missing (taken offline), open to others, or another key.
        """
        key = SigningKey.load(self.signing_key(role, key_id))
        if key.key_id != key_id:
            raise PoolError(ErrorCode.KEY_INVALID, f"{self.signing_key(role, key_id)} holds key {key.key_id}")
        return key

    def save_signing_key(self, role: str, key: SigningKey) -> None:
        """Write a key of a role, on disk before this returns.

        Raises:
            PoolError: ALREADY_EXISTS.
        """
        key.save(self.signing_key(role, key.key_id))
        flush_folder(self.keys)

    def require_made(self, *, embedded: bool = True) -> None:
        """Refuse to go on without a pool here.

        Args:
            embedded: Whether its database lies here too.

        Raises:
            PoolError: NOT_FOUND.
        """
        if embedded and self.ca_key.exists() and not self.database.exists():
            raise PoolError(
                ErrorCode.NOT_FOUND,
                f"{self.path} holds the keys of a pool, and no database.",
                advice="If the pool is on PostgreSQL, say where: `database_url` in pool.toml, or the "
                "variable CHARGEPOOL_SERVER_DATABASE_URL. Else bring pool.sqlite3 back from a backup.",
            )
        if not self.ca_key.exists():
            raise PoolError(
                ErrorCode.NOT_FOUND,
                f"There is no pool in {self.path}.",
                advice=f"Make one with `pool-server init --data {self.path}`, or name another directory.",
            )


class DirectoryLock:
    """Says that one server owns a data directory. Ends with the process, however it ends."""

    def __init__(self, directory: PoolDirectory) -> None:
        """Take the lock.

        Raises:
            PoolError: INVALID_STATE when another server holds it.
        """
        make_folder(directory.run)
        self._file = (directory.run / "lock").open("wb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise PoolError(
                ErrorCode.INVALID_STATE,
                f"another server runs on {directory.path}",
                advice="Stop it first (Ctrl-C, or SIGTERM to its process); one server serves one directory.",
            ) from error

    def release(self) -> None:
        """Let go of it; again changes nothing."""
        self._file.close()


def make_folder(path: Path) -> None:
    """Make a folder that only its owner may enter."""
    path.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)


def write_file(path: Path, content: bytes, *, secret: bool) -> None:
    """Write a file whole or not at all, on disk before this returns."""
    temporary = path.with_name(path.name + ".new")
    mode = _SECRET_MODE if secret else _PUBLIC_MODE
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Put a folder's entries on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
