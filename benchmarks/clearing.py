"""The auction and the limiter on many random books, each held against every promise (`auction_oracle`).

Run: python -m benchmarks.clearing [--books 30000] [--seed 1]. Ends with status 1 at the first broken promise.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from random import Random
from typing import Any

from benchmarks.auction_oracle import KINDS, BrokenPromiseError, check
from pool_protocol.money import PPM
from pool_server.core.pricing.clearing import clear
from pool_server.core.pricing.epoch import PriceRules, price_epoch, replay
from pool_server.core.pricing.limiter import limited
from pool_server.core.pricing.order_book import book_bytes, read_book
from pool_server.core.pricing.orders import PRICE_MICROS_PER_WU_MAX, Ask, Bid

LARGE_BOOK = 50_000


def run(*, books: int, seed: int) -> dict[str, Any]:
    """Draw and check `books` books; return what was seen.

    Raises:
        BrokenPromiseError: At the first broken promise.
    """
    chance = Random(seed)  # noqa: S311 - the same seed draws the same books
    kinds, seen = list(KINDS.items()), Counter[str]()
    for number in range(books):
        kind, draw = kinds[number % len(kinds)]
        book = draw(chance)
        previous = chance.choice((0, 1, 20, chance.randint(1, 60), PRICE_MICROS_PER_WU_MAX))
        clearing = check(book, previous, chance)
        seen[f"kind: {kind}"] += 1
        seen["orders"] += len(book.bids) + len(book.asks)
        seen["fills"] += len(clearing.fills)
        seen["with trade" if clearing.traded_uwu else "without trade"] += 1
        works = {order.order_id: order.work_uwu for order in book.orders}
        seen["rationed"] += any(works[fill.order_id] > fill.filled_uwu for fill in clearing.fills)
        seen["open interval"] += clearing.low_micros_per_wu != clearing.high_micros_per_wu
        if read_book(book_bytes(*book)) != (tuple(sorted(book.bids)), tuple(sorted(book.asks))):
            raise BrokenPromiseError(f"the book's bytes do not give it back: {book}")
        rules = _rules(chance)
        record, _ = price_epoch(*book, epoch_start_us=0, previous_micros_per_wu=previous, rules=rules)
        if replay(record, *book) != clearing:
            raise BrokenPromiseError(f"the record does not replay: {record}")
        seen["limiter paths"] += 1
        seen["limiter steps"] += check_limiter(previous, clearing.target_micros_per_wu, rules)
    return dict(seen)


def _rules(chance: Random) -> PriceRules:
    floor, cap = sorted((chance.choice((0, 1, 15)), chance.choice((1, 40, PRICE_MICROS_PER_WU_MAX))))
    return PriceRules(chance.choice((50_000, 100_000, 200_000, PPM)), floor, cap)


def check_limiter(posted: int, target: int, rules: PriceRules) -> int:
    """Follow a fixed target until the price rests; return the number of steps.

    Raises:
        BrokenPromiseError: When a step is too long, passes the target or leaves the bounds, or when the price
            rests elsewhere.
    """
    goal = min(max(target, rules.floor_micros_per_wu), rules.cap_micros_per_wu)
    steps = 0
    while posted != goal:
        after = limited(
            posted,
            target,
            step_ppm=rules.step_ppm,
            floor=rules.floor_micros_per_wu,
            cap=rules.cap_micros_per_wu,
        )
        inside = rules.floor_micros_per_wu <= posted <= rules.cap_micros_per_wu
        if not rules.floor_micros_per_wu <= after <= rules.cap_micros_per_wu:
            raise BrokenPromiseError(f"{after} is out of bounds: {rules}")
        if not min(posted, goal) <= after <= max(posted, goal) or after == posted:
            raise BrokenPromiseError(f"{posted} -> {after} does not approach {goal}: {rules}")
        if inside and abs(after - posted) > max(1, posted * rules.step_ppm // PPM):
            raise BrokenPromiseError(f"{posted} -> {after} is more than a step: {rules}")
        posted, steps = after, steps + 1
        if steps > 2_000:
            raise BrokenPromiseError(f"stuck on the way to {goal}: {rules}")
    return steps


def large_book_s() -> float:
    """Return the time that one book of 50,000 bids and as many asks takes, seconds."""
    chance = Random(1)  # noqa: S311 - always the same book
    bids = [
        Bid(f"bid_{n}", f"b{n}", chance.randint(1, 60), chance.randint(1, 10**9)) for n in range(LARGE_BOOK)
    ]
    asks = [
        Ask(f"ask_{n}", f"a{n}", chance.randint(1, 60), chance.randint(1, 10**9)) for n in range(LARGE_BOOK)
    ]
    began = time.perf_counter()
    clear(bids, asks, previous_price_micros_per_wu=20)
    return time.perf_counter() - began


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clearing", description=__doc__)
    parser.add_argument("--books", type=int, default=30_000, help="random books (default 30000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed draws the same books")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    options = parser.parse_args()
    began = time.perf_counter()
    try:
        seen = run(books=max(1, options.books), seed=options.seed)
    except BrokenPromiseError as broken:
        sys.exit(f"a promise is broken (seed {options.seed}): {broken}")
    figures = {
        "books": options.books,
        "seed": options.seed,
        "violations": 0,
        "seconds": round(time.perf_counter() - began, 1),
        "seconds_for_100000_orders": round(large_book_s(), 2),
        **dict(sorted(seen.items())),
    }
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{options.books} random books (seed {options.seed}), every promise held in each: 0 violations")
    for name, count in figures.items():
        print(f"  {name:<28} {count:>10}")


if __name__ == "__main__":
    main()
