"""The history of epochs: which bytes of each are hashed, how one hash leads to the next, how to check all.

An epoch's figures are derived from its book by `epoch.replay`. What is added here is what the pool did with
them: in the mode "auction" the price that the limiter allows is posted, in the mode "fixed" the operator's
price stays and the auction's is only told. Each epoch names the posted price it began with by its number, so
that a price that an operator set in between shows as such and not as a break. The chain keeps anyone, the
pool included, from changing, dropping or inserting an epoch later without every later hash telling.

Where the pool stood still epochs are missing: one is held when it runs again, and moves the price by one
step.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.pricing.epoch import EpochRecord, replay
from pool_server.core.pricing.order_book import read_book

#: Tag; number, start, length, time held, mode; rules; price before; clearing, target, proposed; price after;
#: counts; volumes; hash of the book.
_EPOCH = struct.Struct(">4sQQQQB3Q2Q4Q2Q2Q3Q32s")
_TAG = b"CPE1"
GENESIS_SHA256 = bytes(32)
#: What to do with a history that does not follow from its books.
DOUBT = (
    "Export the history again. If it is still so, it is not the one by which prices were found: "
    "compare its chain hashes with those that others kept."
)


@unique
class PostingMode(StrEnum):
    """Who moves the posted price."""

    FIXED = "fixed"
    """The operator only."""
    AUCTION = "auction"
    """Every epoch's auction, by a step at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEpoch:
    """An epoch as the pool held it."""

    epoch_id: int
    """1 for the first, without gaps."""
    record: EpochRecord
    """Its figures. `posted_micros_per_wu` is what the auction and the limiter propose."""
    length_us: int
    held_at_us: int
    """When it was held; at its start unless the pool stood still."""
    mode: PostingMode
    before_price_id: int
    """Number of the posted price that it began with; 0 for the configured one."""
    after_price_id: int
    """Number of the posted price from then on; the same when nothing moved."""
    chain_sha256: bytes = b""

    @property
    def posted_micros_per_wu(self) -> int:
        """The price from this epoch on, micro-units per WU."""
        if self.mode is PostingMode.FIXED:
            return self.record.previous_micros_per_wu
        return self.record.posted_micros_per_wu

    @property
    def moved(self) -> bool:
        """Whether the posted price is another from this epoch on."""
        return self.posted_micros_per_wu != self.record.previous_micros_per_wu


def canonical_bytes(epoch: HeldEpoch) -> bytes:
    """Return the bytes of an epoch that the chain hashes."""
    record = epoch.record
    trades = record.clearing_micros_per_wu is not None
    return _EPOCH.pack(
        _TAG,
        epoch.epoch_id,
        record.epoch_start_us,
        epoch.length_us,
        epoch.held_at_us,
        epoch.mode is PostingMode.AUCTION,
        *record.rules,
        epoch.before_price_id,
        record.previous_micros_per_wu,
        trades,
        record.clearing_micros_per_wu or 0,
        record.target_micros_per_wu,
        record.posted_micros_per_wu,
        epoch.after_price_id,
        epoch.posted_micros_per_wu,
        record.bid_count,
        record.ask_count,
        record.bid_uwu,
        record.ask_uwu,
        record.traded_uwu,
        record.book_sha256,
    )


def next_chain_sha256(previous: bytes, epoch: HeldEpoch) -> bytes:
    """Return the chain's hash after an epoch."""
    return hashlib.sha256(previous + canonical_bytes(epoch)).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryReport:
    """What a check of a whole history found to be so."""

    epoch_count: int
    moved_count: int
    """Epochs that moved the posted price."""
    operator_count: int
    """Epochs before which an operator had set a price."""
    order_count: int
    chain_sha256: bytes
    """The chain's hash after the last epoch: whoever kept it can tell later whether anything was changed."""


def verify_history(epochs: Iterable[HeldEpoch], books: Mapping[int, bytes]) -> HistoryReport:
    """Derive every epoch again from its book, and the chain over all of them.

    For each epoch, in order: 1. its number follows the one before, and its start is another; 2. it begins at
    the price that the one before left, or says that an operator set another one; 3. its book is one, and has
    the published hash; 4. volumes, target and the proposed price are what its book gives; 5. the posted price
    has a new number exactly when it moved; 6. the published chain hash is the one derived.

    Args:
        epochs: All, oldest first, from the first on.
        books: Canonical bytes of each epoch's book, by the epoch's number.

    Raises:
        PoolError: PROOF_INVALID, naming the epoch and what is wrong with it.
    """
    chain, before = GENESIS_SHA256, None
    starts: set[int] = set()
    moved = by_operator = orders = count = 0
    for epoch in epochs:
        count += 1
        if epoch.epoch_id != count:
            raise _broken(epoch, f"{count} should stand here")
        if epoch.record.epoch_start_us in starts:
            raise _broken(epoch, "another epoch has the same start")
        starts.add(epoch.record.epoch_start_us)
        by_operator += _continues(before, epoch)
        _derive(epoch, books.get(epoch.epoch_id))
        if epoch.moved != (epoch.after_price_id > epoch.before_price_id):
            raise _broken(epoch, "the posted price's number does not say whether it moved")
        try:
            chain = next_chain_sha256(chain, epoch)
        except struct.error as error:
            raise _broken(epoch, "a figure is not a number of 64 bits") from error
        if chain != epoch.chain_sha256:
            raise _broken(epoch, "its chain hash is not the one that follows from all before it")
        moved += epoch.moved
        orders += epoch.record.bid_count + epoch.record.ask_count
        before = epoch
    return HistoryReport(
        epoch_count=count,
        moved_count=moved,
        operator_count=by_operator,
        order_count=orders,
        chain_sha256=chain,
    )


def _continues(before: HeldEpoch | None, epoch: HeldEpoch) -> bool:
    """Return whether an operator set a price since the epoch before."""
    if before is None:
        return epoch.before_price_id > 0
    if epoch.before_price_id < before.after_price_id:
        raise _broken(epoch, "it begins at a price that was replaced before")
    if epoch.before_price_id > before.after_price_id:
        return True
    begins, left = epoch.record.previous_micros_per_wu, before.posted_micros_per_wu
    # Price 0 is the configured one, which an operator changes in the settings.
    if begins != left and epoch.before_price_id:
        raise _broken(epoch, f"it begins at {begins}, {left} was posted before")
    return begins != left


def _derive(epoch: HeldEpoch, book: bytes | None) -> None:
    if book is None:
        raise _broken(epoch, "its order book is missing")
    try:
        replay(epoch.record, *read_book(book), epoch_us=epoch.length_us)
    except PoolError as error:
        raise _broken(epoch, error.detail) from error


def _broken(epoch: HeldEpoch, why: str) -> PoolError:
    return PoolError(
        ErrorCode.PROOF_INVALID,
        f"Epoch {epoch.epoch_id}: {why}.",
        context={"epoch_id": str(epoch.epoch_id)},
        advice=DOUBT,
    )
