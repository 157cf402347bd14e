"""The first contact with a pool: whose it is, whether it answers, and whether it knows us."""

import os

from chargepool._channel import open_channel
from chargepool._client import Client
from chargepool._config import ClientConfig, load_config
from chargepool._errors import ChargepoolError, PoolUnreachable
from chargepool._records import Records, default_directory
from chargepool._retry import Retrying, RetryPolicy
from chargepool._session import Session
from pool_protocol.system import SystemClock, SystemIds

#: Patience of the first contact: a wrong address should be told soon.
_FIRST_PATIENCE_MS = 10_000
_NOT_OUR_POOL = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "Peer name", "handshake failed")


def connect(
    address: str | None = None,
    *,
    token: str | None = None,
    ca: str | os.PathLike[str] | bytes | None = None,
    token_file: str | os.PathLike[str] | None = None,
    verify_receipts: bool = True,
    patience_s: float = 120.0,
) -> Client:
    """Connect to a pool and check who it is and who you are.

    What is not given comes from the environment (CHARGEPOOL_ADDRESS, CHARGEPOOL_CA_FILE,
    CHARGEPOOL_TOKEN_FILE or CHARGEPOOL_TOKEN) or from client.toml.

    Args:
        address: host:port of the pool's API.
        token: Your buyer's token.
        ca: The pool's CA certificate: a path, or the PEM bytes.
        token_file: A file that holds the token.
        verify_receipts: Check every receipt's signature as results arrive.
        patience_s: How long calls outlast a pool that is away, for example while it restarts.

    Raises:
        ConfigError: Something is missing or unreadable; nothing was sent.
        PoolUnreachable: Nobody answers there, or somebody who is not this pool.
        AuthError: The pool does not accept the token.
        ProofInvalid: The pool's keys do not verify.
    """
    config = load_config(
        address=address,
        ca_pem=ca if isinstance(ca, bytes) else None,
        ca_file=None if isinstance(ca, bytes) else ca,
        token=token,
        token_file=token_file,
    )
    return connect_with(config, verify_receipts=verify_receipts, patience_s=patience_s)


def connect_with(config: ClientConfig, *, verify_receipts: bool = True, patience_s: float = 120.0) -> Client:
    """Connect with a configuration that was loaded before; raises as `connect`."""
    channel = open_channel(config.address, ca_pem=config.ca_pem, token=config.token)
    clock = SystemClock()
    first = Session(
        channel, retrying=Retrying(RetryPolicy(patience_ms=_FIRST_PATIENCE_MS), clock=clock), clock=clock
    )
    try:
        first.trust.refresh()
    except PoolUnreachable as error:
        channel.close()
        raise _explained(error, config) from error
    except ChargepoolError:
        channel.close()
        raise
    session = Session(
        channel,
        retrying=Retrying(RetryPolicy(patience_ms=int(patience_s * 1_000)), clock=clock),
        clock=clock,
        trust=first.trust,
    )
    return Client(
        session,
        records=Records(default_directory(os.environ)),
        verify_receipts=verify_receipts,
        id_source=SystemIds(),
    )


def _explained(error: PoolUnreachable, config: ClientConfig) -> PoolUnreachable:
    if any(sign in error.detail for sign in _NOT_OUR_POOL):
        return PoolUnreachable(
            f"Whoever answers at {config.address} has no certificate of the CA that you gave.",
            code=error.code,
            next_step="Check that address and CA file belong to the same pool; the host must stand in the "
            "pool's certificate (pool-server run --public-host).",
        )
    return PoolUnreachable(
        f"Nobody answers at {config.address}. {error.detail}",
        code=error.code,
        next_step="Check the address, that the pool runs, and the network; `chargepool doctor` tests each.",
    )
