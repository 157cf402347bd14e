"""PriceService: the price, its history and its order books, for anyone with an account."""

from collections.abc import AsyncIterator
from typing import Any

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import ROW_ID_MAX
from pool_protocol.v1 import price_service_pb2 as pb
from pool_protocol.v1 import price_service_pb2_grpc
from pool_server.app.market_policy import MarketPolicy
from pool_server.app.pricing import follow_auction, posted_price, posting_mode
from pool_server.core.pricing.epoch import epoch_start_us
from pool_server.core.pricing.history import HeldEpoch
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc import convert_price
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.paging import page_size, row_token, row_token_text
from pool_server.rpc.store_access import StoreAccess

_Context = Any


class PriceServicer(price_service_pb2_grpc.PriceServiceServicer):
    """Implements PriceService."""

    def __init__(self, *, store: StoreAccess, policy: MarketPolicy, currency: str) -> None:
        self._store = store
        self._policy = policy
        self._currency = currency

    async def GetPrice(self, request: pb.GetPriceRequest, context: _Context) -> pb.GetPriceResponse:
        epoch_us = self._policy.epoch_us
        starts_at_us = epoch_start_us(self._store.now_us(), epoch_us=epoch_us)

        def read(uow: UnitOfWork) -> pb.GetPriceResponse:
            current, last = uow.prices.current(), uow.prices.last_epoch()
            is_held = uow.prices.epoch_at(starts_at_us) is not None
            return pb.GetPriceResponse(
                price_micros_per_wu=posted_price(uow),
                currency=self._currency,
                mode=convert_price.posting_mode(posting_mode(uow, self._policy)),
                since_us=0 if current is None else current.set_at_us,
                last_epoch=None if last is None else convert_price.epoch_message(last),
                next_epoch_us=starts_at_us + epoch_us if is_held else starts_at_us,
            )

        return await self._store.read(read)

    async def ListPriceEpochs(
        self, request: pb.ListPriceEpochsRequest, context: _Context
    ) -> pb.ListPriceEpochsResponse:
        before, limit = row_token(request.page), page_size(request.page)
        epochs = await self._store.read(lambda uow: uow.prices.epochs_before(before, limit=limit + 1))
        shown = epochs[:limit]
        more = len(epochs) > limit
        return pb.ListPriceEpochsResponse(
            epochs=[convert_price.epoch_message(epoch) for epoch in shown],
            next_page_token=row_token_text(shown[-1].epoch_id if more else 0),
        )

    async def GetOrderBook(
        self, request: pb.GetOrderBookRequest, context: _Context
    ) -> AsyncIterator[pb.GetOrderBookResponse]:
        epoch_id = request.epoch_id

        def read(uow: UnitOfWork) -> tuple[HeldEpoch, bytes]:
            epoch = uow.prices.epoch(epoch_id) if 0 < epoch_id <= ROW_ID_MAX else None
            book = None if epoch is None else uow.prices.book(epoch_id)
            if epoch is None or book is None:
                raise PoolError(
                    ErrorCode.NOT_FOUND, f"no price epoch {epoch_id}", context={"field": "epoch_id"}
                )
            return epoch, book

        epoch, book = await self._store.read(read)
        yield pb.GetOrderBookResponse(
            epoch=convert_price.epoch_message(epoch), chunk=book[: limits.BLOB_CHUNK_BYTES]
        )
        for start in range(limits.BLOB_CHUNK_BYTES, len(book), limits.BLOB_CHUNK_BYTES):
            yield pb.GetOrderBookResponse(chunk=book[start : start + limits.BLOB_CHUNK_BYTES])

    async def FollowAuction(
        self, request: pb.FollowAuctionRequest, context: _Context
    ) -> pb.FollowAuctionResponse:
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        price_micros_per_wu = await self._store.write(
            lambda uow: follow_auction(uow, operator_id=operator_id, now_us=now_us)
        )
        return pb.FollowAuctionResponse(price_micros_per_wu=price_micros_per_wu)
