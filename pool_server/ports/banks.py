"""What payouts need of banks: a directory of them, a reader of their reports, and the reports kept."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from pool_server.core.payouts.bank_report import BankReport, KnownPayment, LineResult
from pool_server.core.payouts.model import PayoutDetails
from pool_server.core.payouts.row_state import RowState, RowStep


@dataclass(frozen=True, slots=True, kw_only=True)
class BankFacts:
    """What the directory knows of an account's bank."""

    name: str
    """Empty where it is not known."""
    bic: str
    """Empty where it is not known."""


class BankDirectory(Protocol):
    """Knows countries' account numbers and their banks."""

    def look_up(self, details: PayoutDetails) -> BankFacts:
        """Return what is known of the bank of an account.

        Raises:
            PoolError: INVALID_ARGUMENT when the country's own rules refuse the account's number.
        """
        ...


class BankReportReader(Protocol):
    """Reads what a bank reports."""

    def read(self, content: bytes) -> BankReport:
        """Read a file.

        Raises:
            PoolError: INVALID_ARGUMENT when it is no report.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """A bank's report as it is kept, without its bytes."""

    report_id: int
    sha256_hex: str
    file_name: str
    format: str
    message_id: str
    imported_by: str
    imported_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """An owner who closes the account."""

    owner_id: str
    asked_by: str
    asked_at_us: int
    closed_at_us: int = 0
    """When nothing was left to pay; 0 before."""
    rounding_micros: int = 0
    """The fraction of a cent that went to the pool's rounding account."""


class BankRepository(Protocol):
    """What banks reported, what became of payments, and owners who leave."""

    def report_by_hash(self, sha256_hex: str) -> StoredReport | None:
        """Return the report with these bytes."""
        ...

    def reports(self, *, limit: int) -> list[StoredReport]:
        """Return reports, newest first."""
        ...

    def results(self, report_id: int) -> list[LineResult]:
        """Return what became of a report's lines, in order."""
        ...

    def add_report(self, report: StoredReport, content: bytes, results: Sequence[LineResult]) -> None:
        """Keep a report, its bytes and what became of its lines."""
        ...

    def add_steps(self, steps: Sequence[RowStep]) -> None:
        """Write steps of rows.

        Raises:
            InvariantError: a row took such a step before.
        """
        ...

    def steps(self, payout_id: int) -> dict[str, list[RowStep]]:
        """Return the steps of a run's rows in order, by owner."""
        ...

    def steps_of_owner(self, owner_id: str, *, limit: int) -> list[RowStep]:
        """Return an owner's newest steps, newest first."""
        ...

    def step_sums(self) -> dict[tuple[int, RowState, RowState], int]:
        """Return micros by run, state and state before, over all steps."""
        ...

    def decided_counts(self) -> dict[int, int]:
        """Return how many payments of a run have taken a step, by run; of others nothing is known yet."""
        ...

    def paid_after_all(self) -> set[str]:
        """Return the owners of whom a bank said that it paid what was given back, unless it paid later."""
        ...

    def sent_payments(
        self, *, references: Collection[str], payout_ids: Collection[int]
    ) -> list[KnownPayment]:
        """Return exported payments with these references, and all of these runs; `message` is left empty."""
        ...

    def leaving(self, owner_id: str) -> Leaving | None:
        """Return whether an owner leaves, or has left."""
        ...

    def all_leaving(self) -> list[Leaving]:
        """Return every owner who leaves or has left, newest first."""
        ...

    def add_leaving(self, leaving: Leaving) -> None:
        """Note that an owner leaves."""
        ...

    def close(self, leaving: Leaving, *, more_micros: int) -> bool:
        """Note that nothing is left to pay.

        Args:
            leaving: As it was read; its `closed_at_us` is the new one.
            more_micros: What went to rounding now, in addition to what did before.

        Returns:
            False when it is not as it was read any more.
        """
        ...

    def open_payments(self, owner_id: str) -> int:
        """Return how many payments of an owner are approved or sent and not decided by the bank."""
        ...
