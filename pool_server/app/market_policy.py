"""The operator's settings that the market goes by, with their defaults and reasons."""

from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import HOUR_US, MINUTE_US
from pool_server.core.pricing.epoch import EPOCH_US, PriceRules
from pool_server.core.pricing.history import PostingMode
from pool_server.core.pricing.limiter import STEP_PPM_DEFAULT, require_limits
from pool_server.core.pricing.orders import PRICE_MICROS_PER_WU_MAX

#: Quotes bind the pool whatever becomes of the price, so not for long.
QUOTE_LIFETIME_US_MAX = 24 * HOUR_US
_RULES = PriceRules(
    step_ppm=STEP_PPM_DEFAULT, floor_micros_per_wu=1, cap_micros_per_wu=PRICE_MICROS_PER_WU_MAX
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketPolicy:
    """How the pool finds its price. Valid once built.

    Raises:
        PoolError: INVALID_ARGUMENT for a step, a price or a time out of range.
    """

    mode: PostingMode = PostingMode.AUCTION
    """Until an operator says otherwise with `price set` or `price follow`."""
    epoch_us: int = EPOCH_US
    """Time between two auctions; they are held at full multiples of it."""
    rules: PriceRules = _RULES
    """The limiter's step, and the bounds of the posted price."""
    quote_lifetime_us: int = 15 * MINUTE_US
    """How long a quote may still be taken."""
    assumed_speed_uwu_per_s: int = 100_000
    """What a vehicle counts for that has not computed yet: a WU in ten seconds, as a processor core does."""

    def __post_init__(self) -> None:
        require_limits(
            step_ppm=self.rules.step_ppm,
            floor=self.rules.floor_micros_per_wu,
            cap=self.rules.cap_micros_per_wu,
        )
        if not 1 <= self.quote_lifetime_us <= QUOTE_LIFETIME_US_MAX:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, "a quote binds for more than 0 and at most 24 hours")
        if self.epoch_us < 1 or self.assumed_speed_uwu_per_s < 0:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, "an epoch's length and a speed are not negative")
