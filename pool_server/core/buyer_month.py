"""A buyer's months: what was paid in, what verified work cost, and what is left. Pure.

    opening + sum of the entries - cost of the charges = closing

Opening and closing are the buyer's whole prepaid money, free or reserved for jobs. An entry is anything but
verified work: deposits, refunds, credits, corrections. A charge is verified work of one job at one price on
one day; what it cost is what the job's escrow paid, each attempt rounded up to a whole micro-unit.
"""

from dataclasses import dataclass
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.money import UWU_PER_WU
from pool_server.core.statement import month_bounds_us

#: Months in one usage file.
MONTHS_MAX = 36


@unique
class DocumentKind(StrEnum):
    """What the paper is to the buyer's books; an operator's setting."""

    INVOICE = "invoice"
    USAGE_STATEMENT = "usage_statement"
    """Work is prepaid: the deposit was the sale, this says what became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Verified work of a job at a price on a day."""

    day: int
    """Days since 1970-01-01, UTC."""
    job_id: int
    job_name: str
    level: str
    program_sha256: str
    price_micros_per_wu: int
    attempts: int
    """Verified and paid; a task that several cars had to agree on is several."""
    work_uwu: int
    cost_micros: int
    energy_mj: int = 0
    """At the wall, as far as the vehicles told it; millijoules."""
    energy_attempts: int = 0
    """Attempts whose energy was told."""
    is_quoted: bool = False
    """Whether the job's price was locked by a quote; otherwise it moves with the market."""

    @property
    def exact_price_pico(self) -> int:
        """Work times price before rounding, in millionths of a micro-unit."""
        return self.work_uwu * self.price_micros_per_wu

    @property
    def rounding_pico(self) -> int:
        """What rounding each attempt up to a whole micro-unit added, in millionths of a micro-unit."""
        return self.cost_micros * UWU_PER_WU - self.exact_price_pico


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A change of the buyer's money that is no verified work."""

    at_us: int
    code: int
    """A `TransferCode`."""
    words: str
    reference: str
    amount_micros: int
    """Positive is towards the buyer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSum:
    """A job's charges of a month at one price."""

    job_id: int
    job_name: str
    level: str
    price_micros_per_wu: int
    attempts: int
    work_uwu: int
    cost_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyerMonth:
    """A month of one buyer. Valid once built.

    Raises:
        InvariantError: entries and charges do not lead from opening to closing.
    """

    buyer_id: str
    month: str
    currency: str
    opening_micros: int
    charges: tuple[Charge, ...]
    entries: tuple[Entry, ...]
    closing_micros: int
    """As the ledger says."""

    def __post_init__(self) -> None:
        """Hold the figures against each other."""
        led_to = self.opening_micros + self.entries_micros - self.cost_micros
        if led_to != self.closing_micros:
            raise InvariantError(
                f"the month {self.month} of {self.buyer_id} leads to {led_to}, "
                f"the ledger says {self.closing_micros}"
            )

    @property
    def cost_micros(self) -> int:
        """What verified work cost."""
        return sum(charge.cost_micros for charge in self.charges)

    @property
    def entries_micros(self) -> int:
        """What came in, minus what went out, besides work."""
        return sum(entry.amount_micros for entry in self.entries)

    @property
    def attempts(self) -> int:
        """Verified and paid attempts."""
        return sum(charge.attempts for charge in self.charges)

    @property
    def work_uwu(self) -> int:
        """Their work."""
        return sum(charge.work_uwu for charge in self.charges)

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened in the month."""
        return not (self.charges or self.entries)

    @property
    def jobs(self) -> tuple[JobSum, ...]:
        """The charges summed over days, by job and price."""
        sums: dict[tuple[int, int], list[int]] = {}
        about: dict[int, Charge] = {}
        for charge in self.charges:
            about[charge.job_id] = charge
            one = sums.setdefault((charge.job_id, charge.price_micros_per_wu), [0, 0, 0])
            one[0] += charge.attempts
            one[1] += charge.work_uwu
            one[2] += charge.cost_micros
        return tuple(
            JobSum(
                job_id=job_id,
                job_name=about[job_id].job_name,
                level=about[job_id].level,
                price_micros_per_wu=price,
                attempts=attempts,
                work_uwu=work_uwu,
                cost_micros=cost_micros,
            )
            for (job_id, price), (attempts, work_uwu, cost_micros) in sorted(sums.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VatShare:
    """How much of a sum is value added tax."""

    rate_ppm: int
    net_micros: int
    vat_micros: int


def vat_included(total_micros: int, *, rate_ppm: int) -> VatShare:
    """Take the tax out of a sum that includes it; the tax is rounded down, both parts add up to the sum."""
    vat_micros = total_micros * rate_ppm // (1_000_000 + rate_ppm)
    return VatShare(rate_ppm=rate_ppm, net_micros=total_micros - vat_micros, vat_micros=vat_micros)


def months_between(first: str, last: str) -> tuple[str, ...]:
    """Return the months from one to another, both included.

    Raises:
        PoolError: INVALID_ARGUMENT when one is none, the last is before the first, or they are too many.
    """
    month_bounds_us(first)
    month_bounds_us(last)
    start, end = _number(first), _number(last)
    if not 0 <= end - start < MONTHS_MAX:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"from a month to the same or a later one, at most {MONTHS_MAX} months",
            context={"field": "until_month"},
        )
    return tuple(f"{number // 12:04d}-{number % 12 + 1:02d}" for number in range(start, end + 1))


def _number(month: str) -> int:
    return int(month[:4]) * 12 + int(month[5:]) - 1
