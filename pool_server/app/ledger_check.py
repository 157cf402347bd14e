"""Checks the books: every invariant, re-derived from the log. Reads one snapshot; writes nothing."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pool_protocol.digests import merkle_root
from pool_protocol.limits import DAY_US
from pool_protocol.money import UWU_PER_WU, ceil_div
from pool_server.app.entries_check import EntriesAudit
from pool_server.app.payout_check import check_payouts
from pool_server.app.receipt_log_check import check_receipt_log
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.audit import (
    AccountsAudit,
    ChartAudit,
    Check,
    Finding,
    LogAudit,
    all_ok,
    check_equal,
    check_open_pendings,
    open_amounts,
)
from pool_server.core.ledger.model import Account, AccountCode, TransferCode, TransferRow
from pool_server.ports.money import ReceiptRow
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.verification import QuestionedState


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReport:
    """What was checked and what came out."""

    ok: bool
    checks: tuple[Check, ...]
    transfer_count: int
    sum_micros: int
    """All debits minus all credits: 0 when the books balance."""


#: Transfers between two words of how far a check is.
PROGRESS_TRANSFERS = 20_000


def check_ledger(uow: UnitOfWork, *, progress: Callable[[int, int], None] | None = None) -> LedgerReport:
    """Check every invariant of the books.

    The log against its chain, its sequence, itself and the chart of accounts; the accounts against the log,
    their limits and their states; receipts against the postings that they stand for, against their signed
    roots and against the daily sums; held money against unreleased receipts; questioned and clawed back money
    against the look-backs' questions; what appeals granted against their findings; what is promised to
    stopped work against what is reserved; fees against receipts; payout runs and files against the log.

    Args:
        uow: A snapshot.
        progress: Told how many transfers were read, and of how many; what it raises ends the check.
    """
    head = uow.ledger.head().transfer_id if progress is not None else 0
    log, flows, entries = LogAudit(), ChartAudit(uow.ledger_log.account_codes()), EntriesAudit(uow)
    receipts = _ReceiptsAudit(uow, uow.receipts.all_receipts())
    for row in uow.ledger.all_transfers():
        log.take(row)
        flows.take(row)
        entries.take(row)
        if row.code == TransferCode.VERIFIED:
            receipts.take_posting(row)
        if progress is not None and log.transfer_count % PROGRESS_TRANSFERS == 0:
            progress(log.transfer_count, head)
    receipts.finish()
    accounts = AccountsAudit(log)
    held: dict[str, int] = {}
    released: dict[str, int] = {}
    questioned: dict[str, int] = {}
    for account, opened_at_us, chain_hash in uow.ledger.all_accounts():
        accounts.take(account, opened_at_us, chain_hash)
        _note_owner(account, log, held=held, released=released, questioned=questioned)
    checks = [
        *log.checks(),
        *accounts.checks(),
        flows.check(),
        entries.check(),
        check_open_pendings(log, expired_through_us=uow.ledger.expired_through()),
        *receipts.checks(log, held=held, released=released),
        *receipts.question_checks(log, questioned=questioned),
        _check_appeals(uow, log),
        _check_prefixes(uow, log),
        _check_batches(uow),
        check_receipt_log(uow),
        _check_days(uow, receipts),
        *check_payouts(uow, log, clearing_micros=accounts.by_code[AccountCode.PAYOUT_CLEARING]),
    ]
    return LedgerReport(
        ok=all_ok(checks),
        checks=tuple(checks),
        transfer_count=log.transfer_count,
        sum_micros=accounts.sum_micros,
    )


def _note_owner(
    account: Account,
    log: LogAudit,
    *,
    held: dict[str, int],
    released: dict[str, int],
    questioned: dict[str, int],
) -> None:
    if account.code == AccountCode.OWNER_HELD:
        held[chart.owner_of(account.name)] = account.balance_micros
    elif account.code == AccountCode.OWNER_AVAILABLE:
        released[chart.owner_of(account.name)] = log.released[account.account_id]
    elif account.code == AccountCode.OWNER_QUESTIONED:
        questioned[chart.owner_of(account.name)] = account.balance_micros


class _ReceiptsAudit:
    """Walks receipts and 310 postings side by side: both are in the order in which they were written."""

    def __init__(self, uow: UnitOfWork, receipts: Iterator[ReceiptRow]) -> None:
        self.count = 0
        self.days: Counter[str] = Counter()
        self._released_through = uow.receipts.released_through()
        self._elsewhere = {row.receipt_id: row for row in uow.verification.money_elsewhere()}
        self._questioned: Counter[str] = Counter()
        self._clawed_back: Counter[int] = Counter()
        self._receipts = receipts
        self._match = Finding("receipts_match_postings")
        self._priced = Finding("receipts_are_the_price_of_work")
        self._held: Counter[str] = Counter()
        self._released: Counter[str] = Counter()
        self._fees: Counter[int] = Counter()

    def take_posting(self, row: TransferRow) -> None:
        """Take the next posting: the next paid receipt must be its own."""
        for receipt in self._receipts:
            self._note(receipt)
            if receipt.transfer_id is None:
                continue
            figures = (receipt.transfer_id, receipt.attempt_id, receipt.gross_micros)
            if figures != (row.transfer_id, row.reference_id, row.amount_micros):
                self._match.add(f"posting {row.transfer_id} meets receipt {receipt.receipt_id} of {figures}")
            return
        self._match.add(f"posting {row.transfer_id} has no receipt")

    def finish(self) -> None:
        """Take the receipts behind the last posting: only donated work may have any."""
        for receipt in self._receipts:
            self._note(receipt)
            if receipt.transfer_id is not None:
                self._match.add(f"receipt {receipt.receipt_id} has no posting")
        for receipt_id in sorted(self._elsewhere):
            self._match.add(f"receipt {receipt_id} is questioned and does not exist")

    def checks(self, log: LogAudit, *, held: dict[str, int], released: dict[str, int]) -> list[Check]:
        """Return what receipts show against the log and the accounts."""
        return [
            self._match.check(f"{self.count} receipts"),
            self._priced.check(f"{self.count} receipts"),
            check_equal(
                "held_is_unreleased_receipts", held, dict(self._held), what=f"{len(held)} owners' held money"
            ),
            check_equal(
                "released_is_released_receipts",
                released,
                dict(self._released),
                what=f"{len(released)} owners' released money",
            ),
            check_equal(
                "fees_match_receipts",
                {str(batch_id): fee for batch_id, fee in log.fees.items()},
                {str(batch_id): fee for batch_id, fee in self._fees.items() if fee},
                what=f"{len(log.fees)} receipt batches with fees",
            ),
        ]

    def question_checks(self, log: LogAudit, *, questioned: dict[str, int]) -> list[Check]:
        """Return what the look-backs' questions show against the log and the accounts."""
        return [
            check_equal(
                "questioned_is_open_questions",
                questioned,
                dict(self._questioned),
                what=f"{len(questioned)} owners' questioned money",
            ),
            check_equal(
                "clawed_back_is_wrong_results",
                {str(attempt_id): amount for attempt_id, amount in log.clawed_back.items()},
                {str(attempt_id): amount for attempt_id, amount in self._clawed_back.items()},
                what=f"{len(log.clawed_back)} results taken back",
            ),
        ]

    def _note(self, receipt: ReceiptRow) -> None:
        self.count += 1
        if receipt.receipt_id != self.count:
            self._match.add(f"receipt {receipt.receipt_id} stands at place {self.count}")
        price = ceil_div(receipt.work_uwu * receipt.price_micros_per_wu, UWU_PER_WU)
        if (price, price) != (receipt.gross_micros, receipt.fee_micros + receipt.net_micros):
            self._priced.add(f"receipt {receipt.receipt_id} pays {receipt.gross_micros} for work of {price}")
        question = self._elsewhere.pop(receipt.receipt_id, None)
        if question is None:
            sums = self._released if receipt.receipt_id <= self._released_through else self._held
            sums[receipt.owner_id] += receipt.net_micros
        elif question.net_micros != receipt.net_micros or question.attempt_id != receipt.attempt_id:
            self._match.add(f"receipt {receipt.receipt_id} is questioned for {question.net_micros}")
        elif question.state is QuestionedState.OPEN:
            self._questioned[receipt.owner_id] += receipt.net_micros
        else:
            self._clawed_back[receipt.attempt_id] += receipt.net_micros
        self._fees[receipt.batch_id] += receipt.fee_micros
        key = f"{receipt.owner_id} day {receipt.verified_at_us // DAY_US} {receipt.vehicle_id}"
        for name, value in (
            ("attempts", 1),
            ("work", receipt.work_uwu),
            ("gross", receipt.gross_micros),
            ("fee", receipt.fee_micros),
            ("net", receipt.net_micros),
        ):
            self.days[f"{key} {name}"] += value


def _check_appeals(uow: UnitOfWork, log: LogAudit) -> Check:
    return check_equal(
        "appealed_is_granted_appeals",
        {str(attempt_id): amount for attempt_id, amount in log.appealed.items()},
        {str(attempt_id): amount for attempt_id, amount in uow.verification.granted().items()},
        what=f"{len(log.appealed)} appeals granted",
    )


def _check_prefixes(uow: UnitOfWork, log: LogAudit) -> Check:
    claims = uow.prefixes.all_open()
    reserved = open_amounts(log, [claim.pending_transfer_id for claim in claims])
    return check_equal(
        "promised_prefixes_are_reserved",
        {str(claim.attempt_id): claim.gross_micros for claim in claims},
        {str(claim.attempt_id): reserved[claim.pending_transfer_id] for claim in claims},
        what=f"{len(claims)} claims of prefixes",
    )


def _check_batches(uow: UnitOfWork) -> Check:
    finding = Finding("receipt_batches_match_roots")
    count = 0
    next_receipt_id = 1
    for batch in uow.receipts.all_batches():
        count += 1
        if (batch.batch_id, batch.first_receipt_id) != (count, next_receipt_id):
            finding.add(f"batch {batch.batch_id} does not follow the one before")
        leaves = uow.receipts.leaves(batch)
        if len(leaves) != batch.leaf_count or merkle_root(leaves) != batch.merkle_root:
            finding.add(f"batch {batch.batch_id} does not hash to its signed root")
        next_receipt_id = batch.first_receipt_id + batch.leaf_count
    return finding.check(f"{count} batches")


def _check_days(uow: UnitOfWork, receipts: _ReceiptsAudit) -> Check:
    stored: dict[str, int] = {}
    count = 0
    for day in uow.receipts.all_days():
        count += 1
        key = f"{day.owner_id} day {day.day} {day.vehicle_id}"
        stored[f"{key} attempts"] = day.attempts
        stored[f"{key} work"] = day.work_uwu
        stored[f"{key} gross"] = day.gross_micros
        stored[f"{key} fee"] = day.fee_micros
        stored[f"{key} net"] = day.net_micros
    return check_equal("daily_sums_match_receipts", stored, dict(receipts.days), what=f"{count} daily sums")
