"""The book of one auction as bytes that everybody writes alike, and their SHA-256.

    "chargepool/order-book/v1" NUL
    u32 number of bids      then each bid, by order id
    u32 number of asks      then each ask, by order id
    an order is  u16 length, order id | u16 length, buyer or owner id | u64 price_micros_per_wu | u64 work_uwu

Numbers are big-endian, ids UTF-8; ids are ordered by their bytes. There is one encoding of a book and no
other is read, so a hash stands for exactly one book. Who may see a book is decided elsewhere.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.pricing.orders import Ask, Bid, require_orders

BOOK_PREFIX = b"chargepool/order-book/v1\0"
_COUNT = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_NUMBERS = struct.Struct(">QQ")


class Book(NamedTuple):
    """All orders of one auction."""

    bids: tuple[Bid, ...]
    asks: tuple[Ask, ...]

    @property
    def orders(self) -> tuple[Bid | Ask, ...]:
        """Both sides."""
        return self.bids + self.asks


def book_bytes(bids: Sequence[Bid], asks: Sequence[Ask]) -> bytes:
    """Write a book; the order in which its orders are given changes nothing.

    Raises:
        PoolError: INVALID_ARGUMENT for an invalid order or a repeated order id.
    """
    require_orders(bids, asks)
    parts = [BOOK_PREFIX]
    for orders in (bids, asks):
        parts.append(_COUNT.pack(len(orders)))
        # Order ids are unique, and code points sort as their UTF-8 does.
        for order_id, party_id, price_micros_per_wu, work_uwu in sorted(orders):
            parts += (_text(order_id), _text(party_id), _NUMBERS.pack(price_micros_per_wu, work_uwu))
    return b"".join(parts)


def book_sha256(bids: Sequence[Bid], asks: Sequence[Ask]) -> bytes:
    """Return the hash that stands for a book, 32 bytes.

    Raises:
        PoolError: INVALID_ARGUMENT for an invalid order or a repeated order id.
    """
    return hashlib.sha256(book_bytes(bids, asks)).digest()


def read_book(data: bytes) -> Book:
    """Read a book; what is not the one encoding of a valid book is refused.

    Raises:
        PoolError: INVALID_ARGUMENT for bytes that are no book, or another encoding of one.
    """
    try:
        reader = _Reader(data)
        bids = tuple(Bid(*fields) for fields in reader.orders())
        asks = tuple(Ask(*fields) for fields in reader.orders())
    except (struct.error, UnicodeDecodeError) as error:
        raise _no_book(f"it ends early or holds no text: {error}") from error
    # Anything left over, out of order or differently written shows here.
    if book_bytes(bids, asks) != data:
        raise _no_book("it is not written the one way")
    return Book(bids, asks)


def _text(text: str) -> bytes:
    data = text.encode()
    return _LENGTH.pack(len(data)) + data


class _Reader:
    def __init__(self, data: bytes) -> None:
        if not data.startswith(BOOK_PREFIX):
            raise _no_book("it does not begin as one")
        self._data = data
        self._at = len(BOOK_PREFIX)

    def orders(self) -> Iterable[tuple[str, str, int, int]]:
        (count,) = self._take(_COUNT)
        for _ in range(count):
            order_id, party_id = self._text(), self._text()
            price_micros_per_wu, work_uwu = self._take(_NUMBERS)
            yield order_id, party_id, price_micros_per_wu, work_uwu

    def _take(self, layout: struct.Struct) -> tuple[int, ...]:
        numbers = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return numbers

    def _text(self) -> str:
        (length,) = self._take(_LENGTH)
        end = self._at + length
        if end > len(self._data):
            raise _no_book("an id is longer than the rest")
        text = self._data[self._at : end].decode()
        self._at = end
        return text


def _no_book(why: str) -> PoolError:
    return PoolError(
        ErrorCode.INVALID_ARGUMENT, f"these bytes are no order book: {why}", context={"field": "book"}
    )
