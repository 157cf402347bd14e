"""Where the posted price may be while a job runs, from how it has moved before.

The posted price is a step function of time. It is read at the ends of epochs, and for a horizon of H epochs
the ratios price(t + H) / price(t) of the past are collected; their deciles times the present price are the
band. Where fewer than `WINDOWS_MIN` such windows lie in the past, the longest span h that has so many is used
and its logarithms are stretched by sqrt(H / h), as for a random walk. Without even that the band is a point,
and `epochs` says how little is known.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.pricing.epoch import EPOCH_US

#: Windows of the past below which deciles say nothing.
WINDOWS_MIN = 20
#: Epochs looked back: 30 days.
EPOCHS_MAX = 30 * 96


class PricePoint(NamedTuple):
    """A price and since when it is posted."""

    since_us: int
    price_micros_per_wu: int


class PriceBand(NamedTuple):
    """Deciles of the price at the end of a horizon, micro-units per WU."""

    p10_micros_per_wu: int
    p50_micros_per_wu: int
    p90_micros_per_wu: int
    epochs: int
    """Epochs of history behind it."""


def price_band(
    points: Sequence[PricePoint], *, price_micros_per_wu: int, horizon_us: int, now_us: int
) -> PriceBand:
    """Return where the price may be after `horizon_us`.

    Args:
        points: Past prices, oldest first.
        price_micros_per_wu: The price now.
        horizon_us: How far ahead, microseconds; rounded up to whole epochs, at least one.
        now_us: The time.

    Raises:
        PoolError: INVALID_ARGUMENT for a negative price or horizon.
    """
    if price_micros_per_wu < 0 or horizon_us < 0:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "a price and a horizon are not negative")
    series = _sampled(points, now_us=now_us)
    horizon = max(1, -(-horizon_us // EPOCH_US))
    span = min(horizon, len(series) - WINDOWS_MIN)
    if span < 1:
        return _point(price_micros_per_wu, len(series))
    stretch = math.sqrt(horizon / span)
    moves = sorted(
        math.log(later / earlier) * stretch
        for earlier, later in zip(series, series[span:], strict=False)
        if earlier > 0 and later > 0
    )
    if len(moves) < WINDOWS_MIN:
        return _point(price_micros_per_wu, len(series))
    p10, p50, p90 = (round(price_micros_per_wu * math.exp(decile(moves, share))) for share in (0.1, 0.5, 0.9))
    return PriceBand(p10, p50, p90, epochs=len(series))


def _point(price_micros_per_wu: int, epochs: int) -> PriceBand:
    return PriceBand(price_micros_per_wu, price_micros_per_wu, price_micros_per_wu, epochs)


def decile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of values in rising order, between neighbours in proportion.

    Raises:
        PoolError: INVALID_ARGUMENT when there are no values.
    """
    if not ordered:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, "no values have no quantile")
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _sampled(points: Sequence[PricePoint], *, now_us: int) -> list[int]:
    """Read the step function at ends of epochs, oldest first; nothing before its first point."""
    if not points:
        return []
    last = now_us // EPOCH_US * EPOCH_US
    first = max(-(-points[0].since_us // EPOCH_US) * EPOCH_US, last - (EPOCHS_MAX - 1) * EPOCH_US)
    series: list[int] = []
    index = 0
    for at_us in range(first, last + 1, EPOCH_US):
        while index + 1 < len(points) and points[index + 1].since_us <= at_us:
            index += 1
        series.append(points[index].price_micros_per_wu)
    return series
