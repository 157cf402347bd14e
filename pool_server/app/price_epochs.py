"""Holds the auction of an epoch: collects the standing orders, clears them, posts the price, keeps the book.

Orders are not handed in; they follow from what vehicles and jobs have said anyway. An **ask** is a vehicle
that asked for work lately: its reserve price, and the work that it can do until the next epoch at its
measured speed. A **bid** is an active job that pays: the most it pays now, and the work of its undecided
tasks times the owners that each needs. Work under way is in both, as vehicles that compute are in the asks
with all of their time.

In the book orders have numbers and no names: numbers are given by price, so that they tell nothing that the
order does not say, and begin anew in each epoch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from pool_protocol.limits import SECOND_US
from pool_server.app.market_policy import MarketPolicy
from pool_server.app.pricing import AUCTION, posted_price, posting_mode
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.effects import WorkAvailable
from pool_server.core.pricing.epoch import epoch_start_us, price_epoch
from pool_server.core.pricing.history import GENESIS_SHA256, HeldEpoch, next_chain_sha256
from pool_server.core.pricing.order_book import Book, book_bytes
from pool_server.core.pricing.orders import (
    ORDER_WORK_UWU_MAX,
    ORDERS_PER_SIDE_MAX,
    PRICE_MICROS_PER_WU_MAX,
    Ask,
    Bid,
)
from pool_server.core.verification import LEVELS
from pool_server.ports.market import AskRow, BidRow, PostedPrice
from pool_server.ports.unit_of_work import UnitOfWork

#: Volumes of a side are 63-bit numbers in the database.
SIDE_WORK_UWU_MAX = 2**63 - 1
#: Stands in the book where a name would: orders of a published book have none.
NO_NAME = "-"


class _Order(NamedTuple):
    price_micros_per_wu: int
    work_uwu: int


def hold_due_epoch(uow: UnitOfWork, *, policy: WorkPolicy, now_us: int) -> int:
    """Hold the epoch that has begun, once; return whether it was held now.

    However long the pool stood still, it is one epoch and moves the price by one step at most: nobody was
    there in between to trade at other prices.
    """
    market = policy.market
    starts_at_us = epoch_start_us(now_us, epoch_us=market.epoch_us)
    if uow.prices.epoch_at(starts_at_us) is not None:
        return 0
    book = standing_orders(uow, policy=policy, now_us=now_us)
    last, current = uow.prices.last_epoch(), uow.prices.current()
    record, _ = price_epoch(
        book.bids,
        book.asks,
        epoch_start_us=starts_at_us,
        previous_micros_per_wu=posted_price(uow),
        rules=market.rules,
        epoch_us=market.epoch_us,
    )
    before_price_id = 0 if current is None else current.price_id
    epoch = HeldEpoch(
        epoch_id=1 if last is None else last.epoch_id + 1,
        record=record,
        length_us=market.epoch_us,
        held_at_us=now_us,
        mode=posting_mode(uow, market),
        before_price_id=before_price_id,
        after_price_id=before_price_id,
    )
    if epoch.moved:
        price_id = uow.prices.append(
            PostedPrice(
                price_micros_per_wu=epoch.posted_micros_per_wu,
                set_by=AUCTION,
                set_at_us=now_us,
                mode=epoch.mode,
                epoch_id=epoch.epoch_id,
            )
        )
        epoch = replace(epoch, after_price_id=price_id)
        # Vehicles that waited for a higher price, and vehicles for which jobs waited, may ask again.
        uow.effects.append(WorkAvailable())
    chain = GENESIS_SHA256 if last is None else last.chain_sha256
    epoch = replace(epoch, chain_sha256=next_chain_sha256(chain, epoch))
    uow.prices.append_epoch(epoch, book_bytes(book.bids, book.asks))
    return 1


def standing_orders(uow: UnitOfWork, *, policy: WorkPolicy, now_us: int) -> Book:
    """Return the orders that stand now."""
    # A vehicle that computes a lease calls again at its end.
    heard_after_us = now_us - max(policy.vehicle_silence_us, policy.lease_timeout_us)
    asks = [
        _Order(_price(row.price_micros_per_wu), work_uwu)
        for row in uow.market.asks(heard_after_us=heard_after_us)
        if (work_uwu := offered_uwu(row, market=policy.market, now_us=now_us)) > 0
    ]
    rows = uow.market.bids()
    bidders = len({row.buyer_id for row in rows})
    speed = sum(ask.work_uwu for ask in asks) * SECOND_US // policy.market.epoch_us // max(1, bidders)
    bids = [
        _Order(_price(_bid_now(row, speed_uwu_per_s=speed, now_us=now_us)), wanted_uwu(row)) for row in rows
    ]
    return Book(
        bids=tuple(
            Bid(f"b{number}", NO_NAME, *order) for number, order in _numbered(bids, highest_first=True)
        ),
        asks=tuple(
            Ask(f"a{number}", NO_NAME, *order) for number, order in _numbered(asks, highest_first=False)
        ),
    )


def offered_uwu(row: AskRow, *, market: MarketPolicy, now_us: int) -> int:
    """Return the work that a vehicle can do in an epoch that begins now, micro-WU.

    A vehicle that does not say how long it stays counts with all of the epoch, one whose speed is unknown
    with the assumed one. A speed comes from run times that a vehicle tells of itself, so above the assumed
    one it is believed up to what the vehicle has done so far: one that claims to be a thousand others must
    have worked like them, or the price could be talked down for nothing.
    """
    stays_us = row.available_until_us - now_us if row.available_until_us else market.epoch_us
    stays_us = max(0, min(stays_us, market.epoch_us))
    assumed_uwu = stays_us * market.assumed_speed_uwu_per_s // SECOND_US
    if not row.speed_uwu_per_s:
        return assumed_uwu
    return min(stays_us * row.speed_uwu_per_s // SECOND_US, max(assumed_uwu, row.verified_uwu))


def wanted_uwu(row: BidRow) -> int:
    """Return the work that a job still wants, micro-WU."""
    return row.undecided_count * row.work_uwu_per_task * LEVELS[row.level].quorum


def _bid_now(row: BidRow, *, speed_uwu_per_s: int, now_us: int) -> int:
    left_uwu = row.undecided_count * row.work_uwu_per_task
    return row.terms.bid_now(left_uwu=left_uwu, speed_uwu_per_s=speed_uwu_per_s, now_us=now_us)


def _price(price_micros_per_wu: int) -> int:
    """Return a price that an order can have: whoever asks or bids more means "not at any price", or "any"."""
    return min(price_micros_per_wu, PRICE_MICROS_PER_WU_MAX)


def _numbered(orders: Sequence[_Order], *, highest_first: bool) -> Iterable[tuple[str, _Order]]:
    """Number orders by price, the best first; sizes such that their sum can be stored."""
    ordered = sorted(orders, key=lambda order: (order.price_micros_per_wu, order.work_uwu))
    if highest_first:
        ordered.reverse()
    kept = ordered[:ORDERS_PER_SIDE_MAX]
    work_uwu_max = min(ORDER_WORK_UWU_MAX, SIDE_WORK_UWU_MAX // max(1, len(kept)))
    for number, order in enumerate(kept, 1):
        yield f"{number:06d}", order._replace(work_uwu=min(order.work_uwu, work_uwu_max))
