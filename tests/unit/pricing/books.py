"""What Hypothesis draws books from."""

from __future__ import annotations

from hypothesis import strategies as st

from pool_server.core.pricing.order_book import Book
from pool_server.core.pricing.orders import ORDER_WORK_UWU_MAX, PRICE_MICROS_PER_WU_MAX, Ask, Bid

PRICES = st.one_of(st.integers(0, 30), st.integers(0, PRICE_MICROS_PER_WU_MAX))
WORKS = st.one_of(st.integers(1, 30), st.integers(1, ORDER_WORK_UWU_MAX))
_IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


@st.composite
def books(draw: st.DrawFn) -> Book:
    names = draw(st.lists(_IDS, max_size=16, unique=True))
    cut = draw(st.integers(0, len(names)))
    bids = [Bid(name, draw(_IDS), draw(PRICES), draw(WORKS)) for name in names[:cut]]
    asks = [Ask(name, draw(_IDS), draw(PRICES), draw(WORKS)) for name in names[cut:]]
    return Book(tuple(bids), tuple(asks))
