"""The stated path on which a deadline raises a job's own bid.

With T the time left until the deadline and N the time that the work left needs:

    F = 2 N + 1 hour        the bid is at its cap once no more than F is left
    R = 3 F                 the bid is at its start price while at least R is left

    bid = start + (cap - start) * (R - T) / (R - F)      between the two, rounded down

So the bid is a function of two facts that the buyer can see. It only rises as time passes, it falls back when
work is done faster than time passes, and it reaches the cap while there is still twice the time that the work
needs, plus an hour for the posted price to follow. A job that is handed in later than that begins at its cap.
What the job pays is the posted price; the bid only says from which one on it does not wait.
"""

from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import HOUR_US, SECOND_US
from pool_protocol.money import ceil_div
from pool_server.core.pricing.orders import require_price

#: The work's own time, as a multiple, that must be left when the bid is at its cap.
NEEDED_TIMES = 2
#: Time beside it: four epochs, in which a posted price that moves 20 % an epoch doubles.
LEAD_US = HOUR_US
#: The bid rises from this many times F on.
RISE_TIMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BidPath:
    """What a job with a deadline was handed in with; valid once built."""

    start_micros_per_wu: int
    """The bid while there is plenty of time."""
    cap_micros_per_wu: int
    """The most the job ever bids."""
    deadline_us: int
    """Wall-clock time, microseconds since 1970."""

    def __post_init__(self) -> None:
        """Check the prices.

        Raises:
            PoolError: INVALID_ARGUMENT for a price out of range, or a start price above the cap.
        """
        require_price(self.start_micros_per_wu, what="start_micros_per_wu")
        require_price(self.cap_micros_per_wu, what="cap_micros_per_wu")
        if self.start_micros_per_wu > self.cap_micros_per_wu:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                f"the start price {self.start_micros_per_wu} is above the cap {self.cap_micros_per_wu}",
                context={"field": "start_micros_per_wu"},
            )

    def rises_at_us(self, *, needed_us: int) -> int:
        """Return the last moment at which the bid is at its start price."""
        return self.deadline_us - RISE_TIMES * full_left_us(needed_us)

    def full_at_us(self, *, needed_us: int) -> int:
        """Return the first moment at which the bid is at its cap."""
        return self.deadline_us - full_left_us(needed_us)

    def bid(self, *, needed_us: int, now_us: int) -> int:
        """Return the bid at a moment, micros per WU, for work that still needs `needed_us`."""
        full_us = full_left_us(needed_us)
        rise_us = RISE_TIMES * full_us
        left_us = min(max(self.deadline_us - now_us, full_us), rise_us)
        span = self.cap_micros_per_wu - self.start_micros_per_wu
        return self.start_micros_per_wu + span * (rise_us - left_us) // (rise_us - full_us)


def full_left_us(needed_us: int) -> int:
    """Return F: the time left at which a bid has reached its cap, microseconds."""
    return NEEDED_TIMES * max(0, needed_us) + LEAD_US


#: Time needed where nothing computes, or all but: a century, after which every deadline has come.
NEEDED_US_MAX = 100 * 366 * 24 * HOUR_US


def needed_us(work_left_uwu: int, *, speed_uwu_per_s: int) -> int:
    """Return the time that the work left takes at a speed, microseconds, rounded up.

    The speed is what the pool expects to give this job; 0 (nobody computes) needs the longest time there is.

    Raises:
        PoolError: INVALID_ARGUMENT when the work or the speed is negative.
    """
    if work_left_uwu < 0 or speed_uwu_per_s < 0:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"work and speed must not be negative: {work_left_uwu}, {speed_uwu_per_s}",
        )
    if work_left_uwu == 0:
        return 0
    if speed_uwu_per_s == 0:
        return NEEDED_US_MAX
    return min(NEEDED_US_MAX, ceil_div(work_left_uwu * SECOND_US, speed_uwu_per_s))
