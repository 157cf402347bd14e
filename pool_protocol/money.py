"""Integer money and integer work.

Amounts are micro-units of the pool's one currency (`_micros`); work is micro work units (`_uwu`, 1 WU =
1e12 roofline FLOP). Every rounding has a name that says which way it goes; nothing here is a float and
nothing calls `round`. What a unit of the currency is worth, and who is paid, is decided elsewhere.
"""

from collections.abc import Sequence
from typing import NewType

from pool_protocol.errors import ErrorCode, PoolError

Micros = NewType("Micros", int)
WorkUwu = NewType("WorkUwu", int)

MICROS_PER_UNIT = 1_000_000
MICROS_PER_CENT = 10_000
UWU_PER_WU = 1_000_000
PPM = 1_000_000
#: Amounts live in BIGINT columns; beyond this a sum could not be stored.
AMOUNT_MICROS_MAX = 2**63 - 1


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide and round up, towards plus infinity. `denominator` must be positive.

    Raises:
        PoolError: INVALID_ARGUMENT when the denominator is not positive.
    """
    if denominator <= 0:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"the denominator must be positive, not {denominator}")
    return -(-numerator // denominator)


def div_floor(numerator: int, denominator: int) -> int:
    """Divide and round down, towards minus infinity. `denominator` must be positive.

    Raises:
        PoolError: INVALID_ARGUMENT when the denominator is not positive.
    """
    if denominator <= 0:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"the denominator must be positive, not {denominator}")
    return numerator // denominator


def require_amount(amount_micros: int, *, what: str = "amount_micros") -> Micros:
    """Check that an amount is not negative and can be stored.

    Raises:
        PoolError: INVALID_ARGUMENT otherwise.
    """
    if not 0 <= amount_micros <= AMOUNT_MICROS_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"{what} must be 0 to 2**63 - 1, not {amount_micros}",
            context={"field": what},
        )
    return Micros(amount_micros)


def work_price_micros(work_uwu: int, price_micros_per_wu: int) -> Micros:
    """Price an amount of work, rounding up in the owner's favour.

    Raises:
        PoolError: INVALID_ARGUMENT when an argument is negative or the price cannot be stored.
    """
    if work_uwu < 0 or price_micros_per_wu < 0:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"work and price must not be negative: {work_uwu}, {price_micros_per_wu}",
        )
    return require_amount(ceil_div(work_uwu * price_micros_per_wu, UWU_PER_WU), what="price")


def fee_floor(gross_micros: int, fee_ppm: int) -> Micros:
    """Take a fee in parts per million of a gross amount, rounding down in the owner's favour.

    Raises:
        PoolError: INVALID_ARGUMENT when the amount is negative or the fee is not 0 to 1,000,000 ppm.
    """
    require_amount(gross_micros, what="gross_micros")
    if not 0 <= fee_ppm <= PPM:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"a fee is 0 to {PPM} ppm, not {fee_ppm}")
    return Micros(gross_micros * fee_ppm // PPM)


def split_remainder_to_last(total_micros: int, weights: Sequence[int]) -> tuple[Micros, ...]:
    """Split an amount in proportion to integer weights so that the parts add up to it exactly.

    Every part but the last is rounded down; the last part takes what is left, hence never less than its
    share.

    Raises:
        PoolError: INVALID_ARGUMENT without weights, with a negative weight, or when all weights are zero.
    """
    require_amount(total_micros, what="total_micros")
    weight_sum = sum(weights)
    if not weights or min(weights) < 0 or weight_sum == 0:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, f"weights must be non-negative and not all zero: {list(weights)}"
        )
    parts = [Micros(total_micros * weight // weight_sum) for weight in weights[:-1]]
    return (*parts, Micros(total_micros - sum(parts)))


def micros_to_cents_floor(amount_micros: int) -> int:
    """Return whole cents, rounding down. Cents exist only in payouts; the rest stays in the account."""
    return require_amount(amount_micros) // MICROS_PER_CENT


def format_micros(amount_micros: int, *, decimals: int = 6) -> str:
    """Write an amount for people: `format_micros(1_234_567) == "1.234567"`; fewer decimals cut, towards zero.

    Raises:
        PoolError: INVALID_ARGUMENT when `decimals` is not 0 to 6.
    """
    if not 0 <= decimals <= 6:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"decimals must be 0 to 6, not {decimals}")
    units, micros = divmod(abs(amount_micros), MICROS_PER_UNIT)
    fraction = f"{micros:06d}"[:decimals]
    text = f"{units}.{fraction}" if decimals else str(units)
    is_shown_zero = units == 0 and not fraction.strip("0")
    return f"-{text}" if amount_micros < 0 and not is_shown_zero else text


def format_wu(work_uwu: int) -> str:
    """Write an amount of work for people, in WU: `format_wu(1_500_000) == "1.500000"`."""
    return format_micros(work_uwu)
