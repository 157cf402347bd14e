"""The SQL unit of work: every repository, bound to one connection and its transaction."""

from sqlalchemy import Connection

from pool_server.core.effects import Effect
from pool_server.core.settlement import MoneyTerms
from pool_server.ports.money import ReceiptIssuer
from pool_server.ports.unit_of_work import Refusal
from pool_server.store.attempt_repository import SqlAttemptRepository
from pool_server.store.bank_repository import SqlBankRepository
from pool_server.store.cap_repository import SqlCapRepository
from pool_server.store.class_repository import SqlClassRepository
from pool_server.store.content_repository import (
    SqlBlobCatalogue,
    SqlProgramRepository,
    SqlQuoteRepository,
    SqlSettingsRepository,
)
from pool_server.store.dispute_repository import SqlDisputeRepository
from pool_server.store.driver import Driver
from pool_server.store.energy_repository import SqlEnergyRepository
from pool_server.store.entry_repository import SqlEntryRepository
from pool_server.store.fleet_repository import SqlEventRepository, SqlFleetRepository
from pool_server.store.id_blocks import SqlIdBlocks
from pool_server.store.identity_repository import SqlIdentityRepository
from pool_server.store.job_repository import SqlJobRepository
from pool_server.store.lease_repository import SqlLeaseRepository
from pool_server.store.ledger_log import SqlLedgerLog
from pool_server.store.ledger_repository import SqlLedgerRepository
from pool_server.store.log_repository import SqlReceiptLogRepository, SqlSolvencyRepository
from pool_server.store.market_repository import SqlMarketRepository
from pool_server.store.outlook_repository import SqlOutlookRepository
from pool_server.store.paper_repository import SqlPaperRepository
from pool_server.store.particulars_repository import SqlParticularsRepository
from pool_server.store.payout_repository import SqlPayoutRepository
from pool_server.store.pool_run_repository import SqlPoolRunRepository
from pool_server.store.prefix_repository import SqlPrefixRepository
from pool_server.store.price_repository import SqlPriceRepository
from pool_server.store.receipt_repository import SqlReceiptRepository
from pool_server.store.task_repository import SqlTaskRepository
from pool_server.store.unit_check_repository import SqlUnitCheckRepository
from pool_server.store.verification_repository import SqlVerificationRepository


class SqlUnitOfWork:
    """Implements `ports.unit_of_work.UnitOfWork`; lives for one command or one query."""

    def __init__(self, connection: Connection, *, receipt_issuer: ReceiptIssuer, terms: MoneyTerms) -> None:
        """Bind all repositories to a connection on which the caller opened a transaction."""
        self.effects: list[Effect] = []
        self.refusals: list[Refusal] = []
        self.terms = terms
        driver = Driver(connection)
        self.ids = SqlIdBlocks(driver)
        self.ledger = SqlLedgerRepository(driver)
        self.ledger_log = SqlLedgerLog(driver)
        self.entries = SqlEntryRepository(driver)
        self.caps = SqlCapRepository(driver)
        self.receipts = SqlReceiptRepository(driver, issuer=receipt_issuer)
        self.receipt_log = SqlReceiptLogRepository(driver)
        self.solvency = SqlSolvencyRepository(driver)
        self.payouts = SqlPayoutRepository(driver)
        self.banks = SqlBankRepository(driver)
        self.prices = SqlPriceRepository(driver)
        self.market = SqlMarketRepository(driver)
        self.identity = SqlIdentityRepository(connection)
        self.programs = SqlProgramRepository(connection)
        self.blobs = SqlBlobCatalogue(connection)
        self.quotes = SqlQuoteRepository(connection)
        self.settings = SqlSettingsRepository(connection)
        self.jobs = SqlJobRepository(driver)
        self.tasks = SqlTaskRepository(driver)
        self.attempts = SqlAttemptRepository(driver)
        self.energy = SqlEnergyRepository(driver)
        self.leases = SqlLeaseRepository(driver)
        self.fleet = SqlFleetRepository(driver)
        self.events = SqlEventRepository(driver)
        self.classes = SqlClassRepository(driver)
        self.disputes = SqlDisputeRepository(driver)
        self.prefixes = SqlPrefixRepository(driver)
        self.verification = SqlVerificationRepository(driver)
        self.outlook = SqlOutlookRepository(driver)
        self.pool_runs = SqlPoolRunRepository(driver)
        self.unit_checks = SqlUnitCheckRepository(driver)
        self.particulars = SqlParticularsRepository(driver)
        self.papers = SqlPaperRepository(driver)

    def write_refusals(self) -> None:
        """Write the ids that stay failed; the writer calls this after it rolled the command back."""
        for refusal in self.refusals:
            self.ledger.remember_failed(refusal.keys, now_us=refusal.at_us)
