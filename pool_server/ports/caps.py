"""What the app needs of the store for caps."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pool_server.core.caps import CapHolder, CapPeriod, CounterKey, SpendCounter


class JobReservation(NamedTuple):
    """What was reserved for a job in one month by one token and did not come back."""

    job_id: int
    month: str
    token_id: str
    """Empty when no token reserved it."""
    buyer_id: str
    amount_micros: int


class CapRepository(Protocol):
    """Limits, counters, and what each job has in them."""

    def set_limit(
        self,
        holder: CapHolder,
        subject_id: str,
        period: CapPeriod,
        *,
        limit_micros: int | None,
        set_by: str,
        now_us: int,
    ) -> None:
        """Set a cap over another, or lift it (None), in the counter in force now and in those to come."""
        ...

    def use(self, keys: Sequence[CounterKey], amount_micros: int) -> SpendCounter | None:
        """Add to counters; None when all had room, else the first that had not, and it is not added to."""
        ...

    def give_back(self, keys: Sequence[CounterKey], amount_micros: int) -> None:
        """Take from counters."""
        ...

    def add_reservation(self, reservation: JobReservation) -> None:
        """Note what was reserved for a job, on top of what was before."""
        ...

    def reservations(self, job_id: int) -> list[JobReservation]:
        """What a job has in the counters, the newest month first."""
        ...

    def take_reservation(self, reservation: JobReservation, amount_micros: int) -> None:
        """Note that so much of a reservation came back."""
        ...

    def counters(self, *, buyer_id: str, month: str) -> list[SpendCounter]:
        """A buyer's counters and caps and those of its tokens: of all time and of a month, in their order."""
        ...

    def counters_of(self, holder: CapHolder, subject_id: str, *, month: str) -> list[SpendCounter]:
        """An account's or a token's counters and caps: of all time and of a month."""
        ...
