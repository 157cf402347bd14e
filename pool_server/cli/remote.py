"""How operator commands reach a pool: over TLS, with an operator's token."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc

from pool_protocol import limits
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.v1 import admin_service_pb2_grpc
from pool_server.identity.directory import PoolDirectory

#: Longer than any honest call but the check of large books.
TIMEOUT_S = 120.0
Q = TypeVar("Q")
R = TypeVar("R")
_Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Where the pool is and who is asking, as the options say."""

    data: Path | None
    address: str | None
    ca_file: Path | None
    token_file: Path | None

    def call(
        self, method: str, request: Any, *, service: Any = admin_service_pb2_grpc.AdminServiceStub
    ) -> Any:
        """Make one call of AdminService, or of the service with this stub, and return its answer.

        Raises:
            PoolError: what the pool answers; UNAVAILABLE when it cannot be reached.
            click.UsageError: the options do not say where the pool is.
        """
        with self._stub(service) as (stub, metadata):
            unary: Callable[..., Any] = getattr(stub, method)
            try:
                return unary(request, metadata=metadata, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error

    def stream(self, method: str, request: Any, *, service: Any) -> Iterator[Any]:
        """Make one call of the service with this stub and yield its answers as they come.

        Raises:
            PoolError, click.UsageError: as `call` does.
        """
        with self._stub(service) as (stub, metadata):
            streaming: Callable[..., Any] = getattr(stub, method)
            try:
                yield from streaming(request, metadata=metadata)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error

    @contextmanager
    def _stub(self, make_stub: Callable[[grpc.Channel], Any]) -> Iterator[tuple[Any, _Metadata]]:
        address, ca_pem, token = self._address(), self._ca_pem(), self._token()
        options = (("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),)
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca_pem), options=options) as channel:
            yield make_stub(channel), (("authorization", f"Bearer {token}"),)

    def _address(self) -> str:
        if self.address is not None:
            return self.address
        path = self._directory("--address").addresses
        try:
            return str(json.loads(path.read_text(encoding="ascii"))["api"])
        except (OSError, ValueError, KeyError) as error:
            raise click.ClickException(
                f"no server runs on {self.data} (there is no {path}).\n"
                f"Start it with: pool-server run --data {self.data}"
            ) from error

    def _ca_pem(self) -> bytes:
        path = self.ca_file if self.ca_file is not None else self._directory("--ca").ca_certificate
        return _read(path, "the pool's CA certificate")

    def _token(self) -> str:
        path = (
            self.token_file if self.token_file is not None else self._directory("--token-file").operator_token
        )
        return _read(path, "the operator's token").decode("ascii", "replace").strip()

    def _directory(self, instead: str) -> PoolDirectory:
        if self.data is None:
            raise click.UsageError(
                f"Say which pool: --data DIR for one on this machine, or {instead} for one elsewhere.\n"
                "These options stand before the command: pool-server --data DIR overview"
            )
        return PoolDirectory(self.data)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.ClickException(f"cannot read {what} from {path}: {error.strerror}") from error
