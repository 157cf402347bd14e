"""Pairing a vehicle with a pool: a short code on our side, the owner's yes on theirs, then an identity.

Trust at pairing rests on the pool's CA certificate that the owner hands to the command; the pool's first
root arrives over that channel and is pinned from then on.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc.aio

from car_agent import __version__
from car_agent.journal.identity import Identity, PairingKeys, certificate_span_us, new_pairing_keys
from car_agent.session.channel import open_channel
from pool_protocol import ids
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.grpc_status import from_rpc_error
from pool_protocol.roots import open_first_root
from pool_protocol.system import IdSource
from pool_protocol.v1 import fleet_service_pb2
from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceStub

if TYPE_CHECKING:
    from pool_protocol.v1.fleet_service_pb2_grpc import FleetServiceAsyncStub

_CALL_TIMEOUT_S: Final = 20.0
_POLL_S_MIN: Final = 0.2
_POLL_S_MAX: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingCode:
    """What the owner types, and what the owner compares before approving."""

    user_code: str
    expires_at_us: int
    key_fingerprint: str
    """Of the device's envelope key: 16 hexadecimal digits, the same that the pool shows the owner."""


async def pair(
    address: str,
    *,
    ca_pem: bytes,
    platforms: str,
    clock: Clock,
    source: IdSource,
    on_code: Callable[[PairingCode], None],
    root_fingerprint: str | None = None,
) -> Identity:
    """Pair with the pool at `address`; wait until the owner has answered.

    Args:
        address: host:port of the pool's public listener.
        ca_pem: The pool's CA, from the owner.
        platforms: What the worker offers, "cpu" or "cuda".
        clock: Wall time.
        source: Where keys come from.
        on_code: Called once, with the code to show.
        root_fingerprint: Of the pool's root, when the owner has it from elsewhere.

    Raises:
        PoolError: DEVICE_CODE_EXPIRED, DEVICE_CODE_DENIED, the code of a failed call, or what is wrong with
            what the pool sent.
    """
    keys = new_pairing_keys(source)
    async with open_channel(address, ca_pem=ca_pem) as channel:
        stub = FleetServiceStub(channel)
        try:
            begun = await stub.BeginEnrolment(
                fleet_service_pb2.BeginEnrolmentRequest(
                    csr_pem=keys.csr_pem,
                    envelope_public_key=keys.envelope_key.public_bytes,
                    agent=fleet_service_pb2.AgentInfo(agent_version=__version__, platforms=[platforms]),
                ),
                timeout=_CALL_TIMEOUT_S,
            )
        except grpc.aio.AioRpcError as error:
            raise _first_refusal(error, address) from error
        on_code(
            PairingCode(
                user_code=begun.user_code,
                expires_at_us=begun.expires_at_us,
                key_fingerprint=keys.envelope_key.key_id,
            )
        )
        poll_s = min(max(float(begun.poll_interval_s), _POLL_S_MIN), _POLL_S_MAX)
        completed = await _poll(stub, begun.device_code, poll_s)
    return _identity_of(
        completed,
        keys,
        api_address=address,
        ca_pem=ca_pem,
        now_us=clock.now_us(),
        root_fingerprint=root_fingerprint,
    )


def _first_refusal(error: grpc.aio.AioRpcError, address: str) -> PoolError:
    """Return why pairing could not begin; where no pool answered, what to look at."""
    refusal = from_rpc_error(error)
    if refusal.code is not ErrorCode.UNAVAILABLE:
        return refusal
    return PoolError(
        ErrorCode.UNAVAILABLE,
        f"no pool answers at {address}: {refusal.detail}",
        advice="Look at the address (the pool's API, not its fleet's port), at --ca (this pool's ca.pem), "
        "and whether the pool runs; then pair again.",
    )


async def _poll(
    stub: "FleetServiceAsyncStub", device_code: str, poll_s: float
) -> fleet_service_pb2.CompleteEnrolmentResponse:
    """Ask until the owner has answered, the code has expired, or the pool refuses."""
    while True:
        try:
            return await stub.CompleteEnrolment(
                fleet_service_pb2.CompleteEnrolmentRequest(device_code=device_code), timeout=_CALL_TIMEOUT_S
            )
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            if not refusal.retryable:
                raise refusal from error
            wait_s = (refusal.retry_after_ms or 0) / 1_000
        await asyncio.sleep(max(poll_s, wait_s))


def _identity_of(
    completed: fleet_service_pb2.CompleteEnrolmentResponse,
    keys: PairingKeys,
    *,
    api_address: str,
    ca_pem: bytes,
    now_us: int,
    root_fingerprint: str | None,
) -> Identity:
    """Check what the pool handed out before it becomes ours."""
    vehicle_id = ids.parse_vehicle_id(completed.vehicle_id)
    root = open_first_root(completed.root.SerializeToString(), now_us=now_us, fingerprint=root_fingerprint)
    if root.document.pool_id != completed.pool_id:
        raise PoolError(ErrorCode.ROOT_INVALID, "the root belongs to another pool than the answer")
    certificate_span_us(completed.certificate_pem)
    return Identity(
        vehicle_id=vehicle_id,
        owner_id=completed.owner_id,
        pool_id=completed.pool_id,
        fleet_address=completed.fleet_address,
        api_address=api_address,
        tls_key_pem=keys.tls_key_pem,
        certificate_pem=completed.certificate_pem,
        # The CA that the owner gave stays the anchor; what the pool sends is not taken on its own word.
        ca_pem=ca_pem,
        envelope_key=keys.envelope_key,
        root=root,
    )
