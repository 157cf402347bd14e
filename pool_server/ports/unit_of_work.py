"""One command's view of the store: its repositories, all inside one transaction, and the effects it asks for.

A use case takes a `UnitOfWork`, loads, lets the core decide, writes, and returns. The transaction is opened
and committed by whoever calls it (the store's group commit). Each owner of a part adds its repository here as
one property, and to `store.unit_of_work.SqlUnitOfWork` as one attribute.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pool_server.core.effects import Effect
from pool_server.core.ledger.model import KeyRecord
from pool_server.core.settlement import MoneyTerms
from pool_server.ports.banks import BankRepository
from pool_server.ports.books import EntryRepository, LedgerLog
from pool_server.ports.caps import CapRepository
from pool_server.ports.classes import ClassRepository
from pool_server.ports.disputes import DisputeRepository
from pool_server.ports.energy import EnergyRepository
from pool_server.ports.fleet import EventRepository, FleetRepository
from pool_server.ports.leases import LeaseRepository
from pool_server.ports.market import MarketRepository, PriceRepository
from pool_server.ports.money import (
    IdBlocks,
    LedgerRepository,
    PayoutRepository,
    ReceiptRepository,
)
from pool_server.ports.outlook import OutlookRepository
from pool_server.ports.papers import PaperRepository, ParticularsRepository
from pool_server.ports.pool_runs import PoolRunRepository
from pool_server.ports.prefixes import PrefixRepository
from pool_server.ports.receipt_log import ReceiptLogRepository, SolvencyRepository
from pool_server.ports.shell import (
    BlobCatalogue,
    IdentityRepository,
    ProgramRepository,
    QuoteRepository,
    SettingsRepository,
)
from pool_server.ports.unit_checks import UnitCheckRepository
from pool_server.ports.verification import VerificationRepository
from pool_server.ports.work import AttemptRepository, JobRepository, TaskRepository


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What stays remembered of a command that was refused and rolled back: ids that failed for ever."""

    keys: Sequence[KeyRecord]
    at_us: int


class UnitOfWork(Protocol):
    """Repositories of one transaction."""

    @property
    def effects(self) -> list[Effect]:
        """What to do after the commit; a refused command's are dropped."""
        ...

    @property
    def refusals(self) -> list[Refusal]:
        """What to write in a new savepoint if the command is refused; dropped when it succeeds."""
        ...

    @property
    def terms(self) -> MoneyTerms:
        """Fee, dispute window, currency."""
        ...

    @property
    def ids(self) -> IdBlocks:
        """Sequential ids of the hot path."""
        ...

    @property
    def ledger(self) -> LedgerRepository:
        """Accounts and transfers."""
        ...

    @property
    def ledger_log(self) -> LedgerLog:
        """The log by sequence number."""
        ...

    @property
    def entries(self) -> EntryRepository:
        """What operators enter by hand."""
        ...

    @property
    def caps(self) -> CapRepository:
        """Caps on what may be reserved and spent."""
        ...

    @property
    def receipts(self) -> ReceiptRepository:
        """Receipts and daily sums."""
        ...

    @property
    def receipt_log(self) -> ReceiptLogRepository:
        """The log of receipts: hashes and tree heads."""
        ...

    @property
    def solvency(self) -> SolvencyRepository:
        """Statements of solvency."""
        ...

    @property
    def payouts(self) -> PayoutRepository:
        """Payout details and runs."""
        ...

    @property
    def banks(self) -> BankRepository:
        """What banks reported, what became of payments, owners who leave."""
        ...

    @property
    def prices(self) -> PriceRepository:
        """Posted prices and the epochs that moved them."""
        ...

    @property
    def market(self) -> MarketRepository:
        """Standing orders and fair shares."""
        ...

    @property
    def identity(self) -> IdentityRepository:
        """Principals, tokens, enrolments, vehicles' identities."""
        ...

    @property
    def programs(self) -> ProgramRepository:
        """Admitted programs."""
        ...

    @property
    def blobs(self) -> BlobCatalogue:
        """Which blobs are held, and who may read them."""
        ...

    @property
    def quotes(self) -> QuoteRepository:
        """Quotes."""
        ...

    @property
    def settings(self) -> SettingsRepository:
        """Small facts that change at run time, and root documents."""
        ...

    @property
    def jobs(self) -> JobRepository:
        """Jobs and their counters."""
        ...

    @property
    def tasks(self) -> TaskRepository:
        """Tasks, their queue and their results."""
        ...

    @property
    def attempts(self) -> AttemptRepository:
        """Attempts and their outputs."""
        ...

    @property
    def energy(self) -> EnergyRepository:
        """Energy of attempts, as vehicles told it."""
        ...

    @property
    def leases(self) -> LeaseRepository:
        """Leases."""
        ...

    @property
    def fleet(self) -> FleetRepository:
        """Vehicles' states, counters and trust."""
        ...

    @property
    def events(self) -> EventRepository:
        """The story of the work."""
        ...

    @property
    def classes(self) -> ClassRepository:
        """Numeric classes, what tasks ask of them, and class faults."""
        ...

    @property
    def disputes(self) -> DisputeRepository:
        """Disputes over step tasks, and the questions asked in them."""
        ...

    @property
    def prefixes(self) -> PrefixRepository:
        """Claims of step tasks' prefixes."""
        ...

    @property
    def verification(self) -> VerificationRepository:
        """Look-backs, questioned attempts, findings."""
        ...

    @property
    def pool_runs(self) -> PoolRunRepository:
        """Tasks that the pool computes itself."""
        ...

    @property
    def outlook(self) -> OutlookRepository:
        """Facts for estimates of price, time and energy."""
        ...

    @property
    def unit_checks(self) -> UnitCheckRepository:
        """Single units of claims that the pool runs again."""
        ...

    @property
    def particulars(self) -> ParticularsRepository:
        """Who the holders of accounts are."""
        ...

    @property
    def papers(self) -> PaperRepository:
        """Documents issued to buyers, and sums for papers."""
        ...

    def write_refusals(self) -> None:
        """Write what `refusals` holds; called by the writer after it rolled the command back."""
        ...
