"""Posted prices and price epochs in SQL: append-only, the last one is in force."""

from typing import Any

from pool_server.core.pricing.epoch import EpochRecord, PriceRules
from pool_server.core.pricing.history import HeldEpoch, PostingMode
from pool_server.ports.market import PostedPrice
from pool_server.store.driver import Driver
from pool_server.store.statements import insert_many, write_many

_PRICES = "SELECT price_id, price_micros_per_wu, set_by, set_at_us, mode, epoch_id FROM posted_prices"
_EPOCH_COLUMNS = (
    "epoch_id, starts_at_us, length_us, held_at_us, mode, step_ppm, floor_micros_per_wu, cap_micros_per_wu, "
    "before_price_id, before_micros_per_wu, clearing_micros_per_wu, target_micros_per_wu, "
    "proposed_micros_per_wu, after_price_id, after_micros_per_wu, bid_count, ask_count, bid_uwu, ask_uwu, "
    "traded_uwu, book_sha256, chain_sha256"
)
_EPOCHS = f"SELECT {_EPOCH_COLUMNS} FROM price_epochs"


class SqlPriceRepository:
    """Implements `ports.market.PriceRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def current(self) -> PostedPrice | None:
        """Return the price in force; None before any was set."""
        row = self._driver.run(f"{_PRICES} ORDER BY price_id DESC LIMIT 1").one_or_none()
        return None if row is None else _price(row)

    def chosen_mode(self) -> PostingMode | None:
        """Return the mode that an operator chose last; None when none ever did."""
        mode = self._driver.run(
            "SELECT mode FROM posted_prices WHERE epoch_id = 0 ORDER BY price_id DESC LIMIT 1"
        ).scalar_one_or_none()
        return None if mode is None else PostingMode(mode)

    def append(self, price: PostedPrice) -> int:
        """Post a price; return its number."""
        price_id = int(
            self._driver.run("SELECT COALESCE(MAX(price_id), 0) + 1 FROM posted_prices").scalar_one()
        )
        write_many(
            self._driver,
            "INSERT INTO posted_prices (price_id, price_micros_per_wu, set_by, set_at_us, mode, epoch_id) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    price_id,
                    price.price_micros_per_wu,
                    price.set_by,
                    price.set_at_us,
                    price.mode.value,
                    price.epoch_id,
                )
            ],
        )
        return price_id

    def posted_after(self, price_id: int, *, limit: int) -> list[PostedPrice]:
        """Return posted prices with larger numbers, in order."""
        rows = self._driver.run(f"{_PRICES} WHERE price_id > ? ORDER BY price_id LIMIT ?", (price_id, limit))
        return [_price(row) for row in rows]

    def append_epoch(self, epoch: HeldEpoch, book: bytes) -> None:
        """Keep an epoch and the bytes of its order book."""
        insert_many(self._driver, "price_epochs", f"{_EPOCH_COLUMNS}, book", [(*_values(epoch), book)])

    def last_epoch(self) -> HeldEpoch | None:
        """Return the epoch that was held last."""
        found = self._epochs("ORDER BY epoch_id DESC LIMIT 1")
        return found[0] if found else None

    def epoch_at(self, starts_at_us: int) -> HeldEpoch | None:
        """Return the epoch that starts at a time."""
        found = self._epochs("WHERE starts_at_us = ?", starts_at_us)
        return found[0] if found else None

    def epochs_before(self, epoch_id: int, *, limit: int) -> list[HeldEpoch]:
        """Return epochs with smaller numbers (0: from the newest), newest first."""
        if epoch_id <= 0:
            return self._epochs("ORDER BY epoch_id DESC LIMIT ?", limit)
        return self._epochs("WHERE epoch_id < ? ORDER BY epoch_id DESC LIMIT ?", epoch_id, limit)

    def epoch(self, epoch_id: int) -> HeldEpoch | None:
        """Return an epoch by its number."""
        found = self._epochs("WHERE epoch_id = ?", epoch_id)
        return found[0] if found else None

    def book(self, epoch_id: int) -> bytes | None:
        """Return the canonical bytes of an epoch's order book."""
        book = self._driver.run(
            "SELECT book FROM price_epochs WHERE epoch_id = ?", (epoch_id,)
        ).scalar_one_or_none()
        return None if book is None else bytes(book)

    def _epochs(self, clauses: str, *parameters: int) -> list[HeldEpoch]:
        return [_epoch(row) for row in self._driver.run(f"{_EPOCHS} {clauses}", parameters)]


def _price(row: Any) -> PostedPrice:
    return PostedPrice(
        price_id=row[0],
        price_micros_per_wu=row[1],
        set_by=row[2],
        set_at_us=row[3],
        mode=PostingMode(row[4]),
        epoch_id=row[5],
    )


def _values(epoch: HeldEpoch) -> tuple[Any, ...]:
    record = epoch.record
    return (
        epoch.epoch_id,
        record.epoch_start_us,
        epoch.length_us,
        epoch.held_at_us,
        epoch.mode.value,
        *record.rules,
        epoch.before_price_id,
        record.previous_micros_per_wu,
        record.clearing_micros_per_wu,
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
        epoch.chain_sha256,
    )


def _epoch(row: Any) -> HeldEpoch:
    return HeldEpoch(
        epoch_id=row[0],
        length_us=row[2],
        held_at_us=row[3],
        mode=PostingMode(row[4]),
        before_price_id=row[8],
        after_price_id=row[13],
        chain_sha256=bytes(row[21]),
        record=EpochRecord(
            epoch_start_us=row[1],
            previous_micros_per_wu=row[9],
            rules=PriceRules(*row[5:8]),
            book_sha256=bytes(row[20]),
            bid_count=row[15],
            ask_count=row[16],
            bid_uwu=row[17],
            ask_uwu=row[18],
            traded_uwu=row[19],
            clearing_micros_per_wu=row[10],
            target_micros_per_wu=row[11],
            posted_micros_per_wu=row[12],
        ),
    )
