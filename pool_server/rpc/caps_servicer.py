"""CapsService: what operators ask and set of caps on spending; and caps as messages."""

from collections.abc import Iterable
from typing import Any

from pool_protocol import ids
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import caps_service_pb2 as pb
from pool_protocol.v1 import caps_service_pb2_grpc
from pool_server.app.caps import SetCap, caps_of_buyer, set_cap
from pool_server.core.caps import CapHolder, CapPeriod, SpendCounter
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.convert_work import invalid
from pool_server.rpc.store_access import StoreAccess

_Context = Any


class CapsServicer(caps_service_pb2_grpc.CapsServiceServicer):
    """Implements CapsService."""

    def __init__(self, *, store: StoreAccess, currency: str) -> None:
        self._store = store
        self._currency = currency

    async def ListCaps(self, request: pb.ListCapsRequest, context: _Context) -> pb.ListCapsResponse:
        buyer_id = ids.parse_buyer_id(request.buyer_id)
        now_us = self._store.now_us()
        counters = await self._store.read(lambda uow: caps_of_buyer(uow, buyer_id=buyer_id, now_us=now_us))
        return pb.ListCapsResponse(caps=cap_messages(counters), currency=self._currency)

    async def SetCap(self, request: pb.SetCapRequest, context: _Context) -> pb.SetCapResponse:
        if request.WhichOneof("subject") is None:
            raise invalid("subject", "name a buyer or a token")
        is_token = request.WhichOneof("subject") == "token_id"
        command = SetCap(
            holder=CapHolder.TOKEN if is_token else CapHolder.ACCOUNT,
            subject_id=request.token_id if is_token else ids.parse_buyer_id(request.buyer_id),
            period=_period(request.period),
            limit_micros=request.max_spend_micros if request.HasField("max_spend_micros") else None,
        )
        operator_id = current_caller().principal_id
        now_us = self._store.now_us()
        counters = await self._store.write(
            lambda uow: set_cap(uow, command, operator_id=operator_id, now_us=now_us)
        )
        return pb.SetCapResponse(caps=cap_messages(counters), currency=self._currency)


def cap_messages(counters: Iterable[SpendCounter]) -> list[pb.SpendCap]:
    """Write caps for the wire."""
    return [
        pb.SpendCap(
            holder=counter.key.holder.value,
            subject_id=counter.key.subject_id,
            period=counter.key.period,
            max_spend_micros=counter.limit_micros,
            used_micros=counter.used_micros,
            left_micros=counter.left_micros,
        )
        for counter in counters
    ]


def first_caps(request: admin_pb.CreatePrincipalRequest) -> tuple[tuple[CapHolder, CapPeriod, int], ...]:
    """Return the caps that a new buyer, or a new token, is to have."""
    caps: list[tuple[CapHolder, CapPeriod, int]] = []
    if request.HasField("token_max_spend_micros"):
        caps.append((CapHolder.TOKEN, CapPeriod.EVER, request.token_max_spend_micros))
    if request.HasField("max_spend_micros"):
        caps.append((CapHolder.ACCOUNT, CapPeriod.EVER, request.max_spend_micros))
    if request.HasField("max_spend_per_month_micros"):
        caps.append((CapHolder.ACCOUNT, CapPeriod.MONTH, request.max_spend_per_month_micros))
    return tuple(caps)


def _period(text: str) -> CapPeriod:
    try:
        return CapPeriod(text)
    except ValueError as error:
        raise invalid("period", f"ever or month, not {text[:20]!r}") from error
