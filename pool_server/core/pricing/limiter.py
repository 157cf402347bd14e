"""How fast the posted price follows the auction's target: at most one step per epoch.

A raw auction price jumps: a buyer who has just planned and an owner who has just plugged in would both find
another world. With a step of 20 % a doubling takes four epochs. The price that is posted is thus not always
the one that clears: while it moves, some willing orders wait. `docs/explanation/market.md` has the figures.
"""

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import PPM
from pool_server.core.pricing.orders import require_price

#: Default step, parts per million of the posted price.
STEP_PPM_DEFAULT = 200_000


def limited(
    posted_micros_per_wu: int, target_micros_per_wu: int, *, step_ppm: int, floor: int, cap: int
) -> int:
    """Return the price to post next, micros per WU: towards the target by at most a step, in [floor, cap].

    The step is `step_ppm` of the posted price, rounded down, and at least 1 micro: a low price moves too, and
    never past the target. A posted price that is itself outside [floor, cap] (an operator has moved a bound)
    comes inside at once.

    Raises:
        PoolError: INVALID_ARGUMENT for a price out of range, a floor above the cap, or a step that is not 1
            to 1,000,000 ppm.
    """
    require_price(posted_micros_per_wu, what="posted_micros_per_wu")
    require_price(target_micros_per_wu, what="target_micros_per_wu")
    require_limits(step_ppm=step_ppm, floor=floor, cap=cap)
    step = max(1, posted_micros_per_wu * step_ppm // PPM)
    goal = min(max(target_micros_per_wu, floor), cap)
    moved = min(max(goal, posted_micros_per_wu - step), posted_micros_per_wu + step)
    return min(max(moved, floor), cap)


def require_limits(*, step_ppm: int, floor: int, cap: int) -> None:
    """Check the limiter's settings, prices in micros per WU.

    Raises:
        PoolError: INVALID_ARGUMENT otherwise.
    """
    require_price(floor, what="floor")
    require_price(cap, what="cap")
    if floor > cap:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"the price's floor {floor} is above its cap {cap}",
            context={"field": "floor"},
        )
    if not 1 <= step_ppm <= PPM:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a step is 1 to {PPM} ppm of the posted price, not {step_ppm}",
            context={"field": "step_ppm"},
        )
