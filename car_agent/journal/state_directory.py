"""Where everything of one agent lies, by name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pool_protocol.errors import ErrorCode, PoolError

_DIRECTORY_MODE: Final = 0o700
_SOCKET_PATH_BYTES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Where everything of one agent lies."""

    path: Path

    def create(self) -> None:
        """Make the directory, for its owner only.

        Raises:
            PoolError: INVALID_ARGUMENT when it cannot be made.
        """
        try:
            self.path.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT, f"cannot make the state directory {self.path}: {error.strerror}"
            ) from error

    def socket_path(self) -> Path:
        """Return the path of the control socket.

        Raises:
            PoolError: INVALID_ARGUMENT when it is longer than the system lets a socket's path be.
        """
        path = self.path.absolute() / "control.sock"
        if len(str(path).encode()) > _SOCKET_PATH_BYTES_MAX:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                f"{path} is too long for a socket ({_SOCKET_PATH_BYTES_MAX} bytes at most);"
                " choose a shorter --state-dir",
            )
        return path

    @property
    def settings(self) -> Path:
        """The agent's settings."""
        return self.path / "agent.toml"

    @property
    def policy(self) -> Path:
        """The owner's limits."""
        return self.path / "policy.toml"

    @property
    def tariff(self) -> Path:
        """What electricity costs the owner."""
        return self.path / "tariff.toml"

    @property
    def consent(self) -> Path:
        """The owner's switches."""
        return self.path / "consent.json"

    @property
    def journal(self) -> Path:
        """The journal."""
        return self.path / "journal.sqlite3"

    @property
    def receipt_book(self) -> Path:
        """Receipts and tree heads of the pool's log."""
        return self.path / "receipts.sqlite3"

    @property
    def numeric(self) -> Path:
        """What the numeric probe found on this machine."""
        return self.path / "numeric.json"

    @property
    def lock(self) -> Path:
        """Held by the running daemon."""
        return self.path / "lock"

    @property
    def scratch(self) -> Path:
        """The worker's directory."""
        return self.path / "scratch"

    @property
    def cache(self) -> Path:
        """Programs and blobs."""
        return self.path / "cache"

    @property
    def identity(self) -> Path:
        """Who we are in which pool."""
        return self.path / "identity.json"

    @property
    def tls_key(self) -> Path:
        """The ECDSA key of the certificate."""
        return self.path / "tls.key"

    @property
    def certificate(self) -> Path:
        """The vehicle's certificate."""
        return self.path / "tls.pem"

    @property
    def ca(self) -> Path:
        """The pool's CA."""
        return self.path / "pool-ca.pem"

    @property
    def envelope_key(self) -> Path:
        """The Ed25519 key that signs results."""
        return self.path / "envelope.key"

    @property
    def root(self) -> Path:
        """The pool's signed keys, as trusted last."""
        return self.path / "pool-root.bin"
