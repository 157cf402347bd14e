"""What payout runs need of a store and of a way to pay. Nothing here decides anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pool_server.core.payouts.model import PayoutDetails, PayoutRow, PayoutRun, PayoutState


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutFile:
    """A file for the bank."""

    name: str
    content: bytes
    sha256_hex: str


class PayoutRail(Protocol):
    """A way to pay: turns an approved run into the bank's file, the same bytes for the same run."""

    def render(self, run: PayoutRun, rows: Sequence[PayoutRow]) -> PayoutFile:
        """Return the file."""
        ...


class PayoutRepository(Protocol):
    """Payout details of owners, runs and their rows."""

    def details(self, owner_id: str) -> PayoutDetails | None:
        """Return how an owner is paid."""
        ...

    def details_of(self, owner_ids: Sequence[str]) -> dict[str, PayoutDetails]:
        """Return how these owners are paid, where they said so."""
        ...

    def set_details(self, owner_id: str, details: PayoutDetails, *, now_us: int) -> None:
        """Set how an owner is paid."""
        ...

    def add_run(self, run: PayoutRun, rows: Sequence[PayoutRow]) -> None:
        """Store a planned run with its rows.

        Raises:
            InvariantError: another run is planned.
        """
        ...

    def run(self, payout_id: int) -> PayoutRun | None:
        """Return a run."""
        ...

    def run_by_key(self, idempotency_key: str) -> PayoutRun | None:
        """Return the run that was planned with this key."""
        ...

    def runs(self, *, state: PayoutState | None = None) -> list[PayoutRun]:
        """Return runs, newest first."""
        ...

    def rows(self, payout_id: int) -> list[PayoutRow]:
        """Return a run's rows, paid and quarantined, by owner."""
        ...

    def move(self, run: PayoutRun, *, from_state: PayoutState) -> bool:
        """Store a run's new state and stamps if it is in `from_state`; True when this call did it."""
        ...

    def store_file(self, payout_id: int, file: PayoutFile) -> None:
        """Keep an exported file; it can be stored once and never changes."""
        ...

    def file(self, payout_id: int) -> PayoutFile | None:
        """Return the exported file."""
        ...

    def paid_rows(self, owner_id: str, *, limit: int) -> list[tuple[PayoutRun, PayoutRow]]:
        """Return an owner's newest rows in approved and exported runs, each with its run, newest first.

        Those that were withheld, rejected or returned are left out: nobody was paid by them.
        """
        ...

    def left_out_rows(self, owner_id: str, *, limit: int) -> list[tuple[PayoutRun, PayoutRow]]:
        """Return an owner's newest quarantined rows, each with its run, newest first."""
        ...

    def last_ibans(self, *, before_payout_id: int) -> dict[str, str]:
        """Return by owner the account of its newest row in approved and exported runs before this one."""
        ...

    def paid_micros(self, owner_id: str) -> int:
        """Return the sum of an owner's rows in approved and exported runs, as `paid_rows` has them."""
        ...
