"""A book has one encoding; a published record follows from its book, and any change to either shows."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.pricing.epoch import (
    EPOCH_US,
    EpochRecord,
    PriceRules,
    epoch_start_us,
    price_epoch,
    replay,
    replay_chain,
)
from pool_server.core.pricing.order_book import BOOK_PREFIX, Book, book_bytes, book_sha256, read_book
from pool_server.core.pricing.orders import PRICE_MICROS_PER_WU_MAX, Ask, Bid
from tests.unit.pricing.books import PRICES, books

RULES = PriceRules(200_000, 1, PRICE_MICROS_PER_WU_MAX)
BOOK = Book(
    (Bid("job_1", "buyer_1", 30, 5_000_000), Bid("job_2", "buyer_2", 25, 1)),
    (Ask("vehicle_1", "owner_1", 10, 4_000_000),),
)


def priced(book: Book, *, at: int = 0, previous: int = 20) -> EpochRecord:
    record, _ = price_epoch(*book, epoch_start_us=at * EPOCH_US, previous_micros_per_wu=previous, rules=RULES)
    return record


@given(books(), st.randoms(use_true_random=False))
def test_a_book_has_one_encoding(book: Book, chance: Any) -> None:
    bids, asks = list(book.bids), list(book.asks)
    chance.shuffle(bids)
    chance.shuffle(asks)
    data = book_bytes(bids, asks)
    assert data == book_bytes(*book)
    assert read_book(data) == Book(tuple(sorted(bids)), tuple(sorted(asks)))
    assert book_sha256(bids, asks) == hashlib.sha256(data).digest()


def test_the_encoding_of_a_small_book_is_fixed() -> None:
    data = book_bytes([Bid("b", "bu", 7, 9)], [])
    assert data.hex() == (
        BOOK_PREFIX.hex()
        + "00000001"
        + "000162"
        + "00026275"
        + "0000000000000007"
        + "0000000000000009"
        + "00000000"
    )


@given(st.binary(max_size=80))
def test_other_bytes_are_no_book(data: bytes) -> None:
    with pytest.raises(PoolError) as refused:
        read_book(BOOK_PREFIX + b"\0\0\0\1" + data)
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda data: data + b"\0", id="a tail"),
        pytest.param(lambda data: data[:-1], id="cut"),
        pytest.param(lambda data: b"", id="nothing"),
        pytest.param(lambda data: data.replace(b"/v1", b"/v2"), id="another version"),
        pytest.param(lambda data: data.replace(b"job_1", b"job_9"), id="out of order"),
        pytest.param(lambda data: data.replace(b"job_1", b"job_2"), id="one id twice"),
        pytest.param(lambda data: data.replace(b"job_1", b"job_\xff"), id="no text"),
        pytest.param(lambda data: data.replace(b"\0\x05job_1", b"\xff\xffjob_1"), id="an id beyond the end"),
        pytest.param(
            lambda data: data.replace(b"\0\0\0\2", b"\xff\xff\xff\xff"), id="more orders than bytes"
        ),
    ],
)
def test_spoilt_books_are_refused(spoil: Any) -> None:
    data = book_bytes(*BOOK)
    assert spoil(data) != data
    with pytest.raises(PoolError) as refused:
        read_book(spoil(data))
    assert refused.value.code is ErrorCode.INVALID_ARGUMENT


@given(books(), PRICES)
def test_a_record_follows_from_its_book(book: Book, previous: int) -> None:
    record, clearing = price_epoch(*book, epoch_start_us=0, previous_micros_per_wu=previous, rules=RULES)
    assert replay(record, *read_book(book_bytes(*book))) == clearing


_DERIVED = [
    field.name
    for field in fields(EpochRecord)
    if field.name not in {"epoch_start_us", "previous_micros_per_wu", "rules"}
]


@pytest.mark.parametrize("name", _DERIVED)
def test_a_record_with_any_figure_changed_is_refused(name: str) -> None:
    record = priced(BOOK)
    value: Any = getattr(record, name)
    change: dict[str, Any] = {name: bytes(32) if isinstance(value, bytes) else value + 1}
    spoilt = replace(record, **change)
    with pytest.raises(PoolError, match=name) as refused:
        replay(spoilt, *BOOK)
    assert refused.value.code is ErrorCode.PROOF_INVALID
    assert refused.value.context["field"] == name


def test_a_record_whose_beginning_was_changed_is_refused() -> None:
    record = priced(BOOK, previous=20)
    with pytest.raises(PoolError, match="posted_micros_per_wu"):
        replay(replace(record, previous_micros_per_wu=15), *BOOK)
    with pytest.raises(PoolError, match="posted_micros_per_wu"):
        replay(replace(record, rules=RULES._replace(step_ppm=50_000)), *BOOK)


def test_a_book_with_an_order_left_out_is_refused() -> None:
    with pytest.raises(PoolError, match="book_sha256"):
        replay(priced(BOOK), BOOK.bids[:1], BOOK.asks)


def test_records_continue_each_other() -> None:
    first = priced(BOOK, at=3)
    second = priced(BOOK, at=5, previous=first.posted_micros_per_wu)
    replay_chain([])
    replay_chain([first, second])
    with pytest.raises(PoolError, match="was posted before"):
        replay_chain([first, priced(BOOK, at=5, previous=first.posted_micros_per_wu + 1)])
    with pytest.raises(PoolError, match="not later"):
        replay_chain([first, first])


@pytest.mark.parametrize("start_us", [-EPOCH_US, 1])
def test_an_epoch_starts_at_a_quarter_hour(start_us: int) -> None:
    with pytest.raises(PoolError) as refused:
        price_epoch([], [], epoch_start_us=start_us, previous_micros_per_wu=20, rules=RULES)
    assert refused.value.context["field"] == "epoch_start_us"
    assert epoch_start_us(7 * EPOCH_US + 5) == 7 * EPOCH_US
