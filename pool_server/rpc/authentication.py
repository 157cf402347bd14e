"""Finds out who is calling: a token in the metadata, or a vehicle's certificate. Refuses everyone else.

1. The method has a row in the policy table for this listener. 2. Where a token is asked for: it is
well-formed, known, neither revoked nor expired. 3. Its scope is the row's. 4. Where a vehicle is asked for:
TLS has checked the certificate's chain; it names exactly one vehicle of this pool, the pool made it for that
vehicle, and neither is retired or revoked. What a caller says about itself in a request is never used.
"""

import contextvars
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.app.principals import authenticate_token, authenticate_vehicle
from pool_server.core.networks import UNKNOWN_NETWORK, network_of
from pool_server.identity.pki import PeerCertificate, read_peer_certificate
from pool_server.identity.tokens import parse_bearer
from pool_server.ports.shell import VehicleIdentity
from pool_server.rpc.policy import POLICY, Listener, Rule, Who
from pool_server.rpc.store_access import StoreAccess

#: Certificates parsed before, by their PEM: a fleet's connections send the same one with every call.
_PARSED_MAX = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is calling."""

    who: Who
    principal_id: str
    """An owner's, buyer's or operator's id; empty for a vehicle or a stranger."""
    vehicle: VehicleIdentity | None
    token_id: str = ""
    """Of the token that speaks for the principal; empty without one."""
    network: str = UNKNOWN_NETWORK
    """From which a vehicle calls, as far as its address tells."""

    def require_vehicle(self) -> VehicleIdentity:
        """Return the vehicle.

        Raises:
            PoolError: PERMISSION_DENIED when the caller is none: the policy table is wrong.
        """
        if self.vehicle is None:
            raise PoolError(ErrorCode.PERMISSION_DENIED, "the caller is not a vehicle")
        return self.vehicle


STRANGER = Caller(who=Who.ANYONE, principal_id="", vehicle=None)
_caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller", default=STRANGER)


def current_caller() -> Caller:
    """Return who makes the call that is being answered."""
    return _caller.get()


def set_current_caller(caller: Caller) -> None:
    """Note who makes the call, for the servicer that answers it: every call has a task, hence a context."""
    _caller.set(caller)


class Authenticator:
    """Authenticates the calls of one listener."""

    def __init__(self, *, listener: Listener, pool_id: str, store: StoreAccess) -> None:
        self._listener = listener
        self._pool_id = pool_id
        self._store = store
        self._parsed: OrderedDict[bytes, PeerCertificate] = OrderedDict()

    def rule(self, method: str) -> Rule:
        """Return the row of a method.

        Raises:
            PoolError: UNIMPLEMENTED when this listener does not answer it.
        """
        rule = POLICY.get(method)
        if rule is None or self._listener not in rule.listeners:
            raise PoolError(
                ErrorCode.UNIMPLEMENTED, f"{method[:100]} is not answered by the {self._listener} listener"
            )
        return rule

    async def caller(self, method: str, context: "grpc.aio.ServicerContext[Any, Any]") -> Caller:
        """Return who makes a call that may be made.

        Raises:
            PoolError: UNIMPLEMENTED, UNAUTHENTICATED, PERMISSION_DENIED, CERTIFICATE_INVALID,
                VEHICLE_RETIRED.
        """
        rule = self.rule(method)
        if rule.who is Who.ANYONE:
            return STRANGER
        if rule.who is Who.VEHICLE or (rule.who is Who.MEMBER and self._listener is Listener.FLEET):
            return await self._vehicle(context)
        return await self._principal(rule.who, context)

    async def _principal(self, who: Who, context: "grpc.aio.ServicerContext[Any, Any]") -> Caller:
        headers = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
        if len(headers) != 1 or not isinstance(headers[0], str):
            raise PoolError(ErrorCode.UNAUTHENTICATED, "no token was sent", context={"scope": who.value})
        token_sha256 = parse_bearer(headers[0])
        now_us = self._store.now_us()
        token = await self._store.read(lambda uow: authenticate_token(uow, token_sha256, now_us=now_us))
        if who is Who.MEMBER:
            who = Who(token.scope.value)
        if token.scope is not who.role:
            raise PoolError(
                ErrorCode.PERMISSION_DENIED,
                f"{token.token_id} has the scope {token.scope.value}, not {who.value}",
                context={"scope": who.value},
            )
        return Caller(who=who, principal_id=token.principal_id, vehicle=None, token_id=token.token_id)

    async def _vehicle(self, context: "grpc.aio.ServicerContext[Any, Any]") -> Caller:
        peer = self._peer_certificate(context.auth_context())
        now_us = self._store.now_us()
        vehicle = await self._store.read(
            lambda uow: authenticate_vehicle(
                uow, vehicle_id=peer.vehicle_id, serial_hex=peer.serial_hex, now_us=now_us
            )
        )
        if vehicle.first_used_at_us == 0:
            # Its first call: the certificate has arrived, so nobody can fetch it any more.
            await self._store.write(
                lambda uow: uow.identity.mark_vehicle_used(vehicle.vehicle_id, now_us=now_us)
            )
        network = network_of(context.peer())
        return Caller(who=Who.VEHICLE, principal_id="", vehicle=vehicle, network=network)

    def _peer_certificate(self, auth_context: "dict[str, Sequence[bytes]] | Any") -> PeerCertificate:
        pems = auth_context.get("x509_pem_cert", ())
        if len(pems) != 1:
            raise PoolError(ErrorCode.UNAUTHENTICATED, "the connection brought no client certificate")
        pem = pems[0]
        parsed = self._parsed.get(pem)
        if parsed is None:
            parsed = read_peer_certificate(pem, pool_id=self._pool_id)
            self._parsed[pem] = parsed
            if len(self._parsed) > _PARSED_MAX:
                self._parsed.popitem(last=False)
        return parsed
