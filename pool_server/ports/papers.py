"""What papers need of a store: particulars of accounts, issued documents, and sums that only the log has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pool_server.core.buyer_month import BuyerMonth, DocumentKind
from pool_server.core.issuer import TaxRules
from pool_server.core.particulars import Particulars
from pool_server.core.pool_report import PoolReport
from pool_server.core.statement import Statement
from pool_server.core.yearly import OwnerYear


class ParticularsRepository(Protocol):
    """Who the holders of accounts are."""

    def get(self, principal_id: str) -> Particulars:
        """Return an account's particulars; all empty when nothing was ever set."""
        ...

    def of(self, principal_ids: Sequence[str]) -> dict[str, Particulars]:
        """Return the particulars of those accounts that set any."""
        ...

    def put(self, principal_id: str, particulars: Particulars, *, set_by: str, now_us: int) -> None:
        """Set an account's particulars; what was set before is gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedDocument:
    """A paper that a buyer was given: its bytes never change."""

    document_id: int
    """1, 2, 3, ... without gaps over all buyers."""
    buyer_id: str
    month: str
    kind: str
    """invoice or usage_statement."""
    number: str
    """As printed."""
    total_micros: int
    pdf: bytes
    pdf_sha256: str
    csv: bytes
    csv_sha256: str
    issued_at_us: int


class ChargeRow(NamedTuple):
    """What a buyer's escrow paid for one job's verified attempts at one price on one day."""

    buyer_account_id: int
    day: int
    """Days since 1970-01-01, UTC, of the verification."""
    job_id: int
    price_micros_per_wu: int
    attempts: int
    work_uwu: int
    cost_micros: int
    energy_mj: int = 0
    """As far as the vehicles told it."""
    energy_attempts: int = 0
    """Attempts whose energy was told."""


class OwnerFlow(NamedTuple):
    """What moved between one owner's accounts and accounts of another kind, one code and direction summed."""

    owner_id: str
    other_code: int
    """An `AccountCode`: what the other account is for."""
    code: int
    """A `TransferCode`."""
    amount_micros: int
    """Positive is towards the owner."""
    transfers: int


class BuyerFlow(NamedTuple):
    """A transfer between a buyer's accounts and another's, outside verified work."""

    transfer_id: int
    recorded_at_us: int
    code: int
    reference_id: int
    amount_micros: int
    """Positive is towards the buyer."""


class PaperRepository(Protocol):
    """Issued documents, and what only the transfers know."""

    def document(self, buyer_id: str, month: str) -> IssuedDocument | None:
        """Return the paper that was issued to a buyer for a month."""
        ...

    def documents(self, month: str) -> list[IssuedDocument]:
        """Return the papers issued for a month, by number."""
        ...

    def next_document_id(self) -> int:
        """Return the number after the last one that was issued."""
        ...

    def issue(self, document: IssuedDocument) -> None:
        """Keep a paper for ever.

        Raises:
            InvariantError: its number is taken, or the buyer has one for the month.
        """
        ...

    def charges(self, *, from_us: int, until_us: int, buyer_account_id: int = 0) -> list[ChargeRow]:
        """Return what buyers' escrows paid for attempts verified in a time range.

        By (buyer, job, day, price); for one buyer when given. Reads the receipts of the range.
        """
        ...

    def charged(self, *, buyer_account_id: int) -> int:
        """Return what a buyer's escrows have paid for verified work, ever."""
        ...

    def buyer_flows(self, *, buyer_account_id: int, from_us: int, until_us: int) -> list[BuyerFlow]:
        """Return what crossed the border between a buyer's accounts and all others, in order.

        Moves between free money and escrows cross none; payments for verified work are `charges`.
        """
        ...

    def buyer_flows_before(self, *, buyer_account_id: int, before_us: int) -> int:
        """Return the sum of `buyer_flows` before a time."""
        ...

    def owner_flows(self, *, from_us: int, until_us: int) -> list[OwnerFlow]:
        """Return what crossed the border between owners' accounts and all others, by owner.

        Moves between an owner's own accounts (held, available, questioned) cross none. Reads the transfers
        of the range.
        """
        ...

    def held_since(self) -> list[tuple[int, int, int]]:
        """Return owners' money inside the dispute window: (hour of verification, receipts, net), by hour.

        The hour is its first microsecond. Money that is questioned, or was taken back, is left out.
        """
        ...

    def escrow_since(self) -> list[tuple[int, int, int]]:
        """Return the jobs that hold money: (when the first was reserved, 1, what is reserved now)."""
        ...


class PaperPrinter(Protocol):
    """Turns values into files: the same bytes for the same values. Slow: never inside a command."""

    def statement_pdf(
        self, statement: Statement, *, owner_id: str, owner_name: str, particulars: Particulars
    ) -> bytes:
        """Return an owner's statement."""
        ...

    def invoice_pdf(
        self,
        month: BuyerMonth,
        *,
        number: str,
        kind: DocumentKind,
        issued_at_us: int,
        buyer_name: str,
        particulars: Particulars,
    ) -> bytes:
        """Return a buyer's paper; without a number a preview."""
        ...

    def invoice_csv(
        self,
        month: BuyerMonth,
        *,
        number: str,
        kind: DocumentKind,
        buyer_name: str,
        particulars: Particulars,
    ) -> bytes:
        """Return the same as CSV."""
        ...

    def usage_csv(
        self,
        months: Sequence[BuyerMonth],
        *,
        numbers: Mapping[str, str],
        buyer_name: str,
        particulars: Particulars,
    ) -> bytes:
        """Return a buyer's usage in the FOCUS format; `numbers` are those of issued papers, by month."""
        ...

    def report_pdf(self, report: PoolReport) -> bytes:
        """Return the payout report."""
        ...

    def report_csv(self, report: PoolReport) -> bytes:
        """Return the payout report as CSV."""
        ...

    def dac7_csv(self, years: Sequence[OwnerYear], *, year: int, currency: str, rules: TaxRules) -> bytes:
        """Return owners' years in the fields of DAC7."""
        ...

    def form_1099_csv(
        self, years: Sequence[OwnerYear], *, year: int, currency: str, rules: TaxRules
    ) -> bytes:
        """Return owners' years in the fields of the forms 1099."""
        ...
