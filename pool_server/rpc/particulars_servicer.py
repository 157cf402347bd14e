"""ParticularsService: who holds an account, for the holder and for operators."""

from typing import Any, TypeVar

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import particulars_service_pb2 as pb
from pool_protocol.v1 import particulars_service_pb2_grpc
from pool_server.app.particulars import get_particulars, set_particulars
from pool_server.core.particulars import HolderKind, Particulars, VatScheme
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.store_access import StoreAccess

_Context = Any
_Word = TypeVar("_Word", HolderKind, VatScheme)


class ParticularsServicer(particulars_service_pb2_grpc.ParticularsServiceServicer):
    """Implements ParticularsService."""

    def __init__(self, *, store: StoreAccess) -> None:
        self._store = store

    async def GetOwnerParticulars(
        self, request: pb.GetOwnerParticularsRequest, context: _Context
    ) -> pb.GetOwnerParticularsResponse:
        return pb.GetOwnerParticularsResponse(particulars=await self._get(current_caller().principal_id))

    async def SetOwnerParticulars(
        self, request: pb.SetOwnerParticularsRequest, context: _Context
    ) -> pb.SetOwnerParticularsResponse:
        kept = await self._set(current_caller().principal_id, request.particulars)
        return pb.SetOwnerParticularsResponse(particulars=kept)

    async def GetBuyerParticulars(
        self, request: pb.GetBuyerParticularsRequest, context: _Context
    ) -> pb.GetBuyerParticularsResponse:
        return pb.GetBuyerParticularsResponse(particulars=await self._get(current_caller().principal_id))

    async def SetBuyerParticulars(
        self, request: pb.SetBuyerParticularsRequest, context: _Context
    ) -> pb.SetBuyerParticularsResponse:
        kept = await self._set(current_caller().principal_id, request.particulars)
        return pb.SetBuyerParticularsResponse(particulars=kept)

    async def GetAccountParticulars(
        self, request: pb.GetAccountParticularsRequest, context: _Context
    ) -> pb.GetAccountParticularsResponse:
        return pb.GetAccountParticularsResponse(particulars=await self._get(request.principal_id))

    async def SetAccountParticulars(
        self, request: pb.SetAccountParticularsRequest, context: _Context
    ) -> pb.SetAccountParticularsResponse:
        kept = await self._set(request.principal_id, request.particulars)
        return pb.SetAccountParticularsResponse(particulars=kept)

    async def _get(self, principal_id: str) -> pb.Particulars:
        return particulars_message(
            await self._store.read(lambda uow: get_particulars(uow, principal_id=principal_id))
        )

    async def _set(self, principal_id: str, wanted: pb.Particulars) -> pb.Particulars:
        particulars, now_us = particulars_value(wanted), self._store.now_us()
        set_by = current_caller().principal_id
        return particulars_message(
            await self._store.write(
                lambda uow: set_particulars(
                    uow, principal_id=principal_id, particulars=particulars, set_by=set_by, now_us=now_us
                )
            )
        )


def particulars_message(particulars: Particulars) -> pb.Particulars:
    """Write particulars."""
    return pb.Particulars(
        locale=particulars.locale,
        display_name=particulars.display_name,
        address_lines=particulars.address_lines,
        country=particulars.country,
        kind=particulars.kind.value,
        tax_id=particulars.tax_id,
        birth_date=particulars.birth_date,
        vat_id=particulars.vat_id,
        vat_scheme=particulars.vat_scheme.value,
    )


def particulars_value(message: pb.Particulars) -> Particulars:
    """Read particulars; all but the two lists of words is checked by the use case.

    Raises:
        PoolError: INVALID_ARGUMENT for a kind or a VAT scheme that there is not.
    """
    return Particulars(
        locale=message.locale,
        display_name=message.display_name,
        address_lines=tuple(message.address_lines),
        country=message.country,
        kind=_word(HolderKind, "kind", message.kind),
        tax_id=message.tax_id,
        birth_date=message.birth_date,
        vat_id=message.vat_id,
        vat_scheme=_word(VatScheme, "vat_scheme", message.vat_scheme),
    )


def _word(words: type[_Word], field: str, text: str) -> _Word:
    try:
        return words(text)
    except ValueError as error:
        known = ", ".join(word.value or "empty" for word in words)
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"{field}: one of {known}", context={"field": field}
        ) from error
