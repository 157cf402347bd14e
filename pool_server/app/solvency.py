"""Statements of solvency: made when an operator enters what the bank holds, and once a day from then on.

A statement counts the whole ledger at one sequence number, in one transaction. It decides nothing: a pool
that lacks money says so and goes on, since refusing owners their payout helps nobody but those who ran first.
"""

import datetime as dt
from dataclasses import dataclass

from pool_protocol import amounts
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.liabilities import LiabilityProof, LiabilityTree, liability_leaf, salt_of
from pool_protocol.limits import DAY_US
from pool_server.core.ledger import accounts as chart
from pool_server.core.solvency import (
    Coverage,
    CoverageState,
    coverage,
    owed,
    owed_in_all,
    pack_leaves,
    unpack_leaves,
)
from pool_server.ports.receipt_log import LogSigner, SolvencyFacts, SolvencyRow
from pool_server.ports.unit_of_work import UnitOfWork

#: More than any bank holds for a pool, and far from the end of 64 bits.
BANK_MICROS_MAX = 10**17
_EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTree:
    """A statement with its tree of liabilities, hashed once for many proofs."""

    row: SolvencyRow
    tree: LiabilityTree
    balances: dict[int, int]


def day_text(now_us: int) -> str:
    """Return the day of a time, UTC, as YYYY-MM-DD."""
    return (_EPOCH + dt.timedelta(days=now_us // DAY_US)).isoformat()


def enter_bank_balance(
    uow: UnitOfWork,
    *,
    balance_micros: int,
    as_of: str,
    operator_id: str,
    signer: LogSigner,
    secret: bytes,
    now_us: int,
) -> SolvencyRow:
    """Take what the bank holds, and make a statement of it. The same figure for the same day makes another.

    Raises:
        PoolError: INVALID_ARGUMENT for a day that is none, or is to come, or for an impossible amount.
    """
    if abs(balance_micros) > BANK_MICROS_MAX:
        raise _invalid("balance_micros", f"{balance_micros} micro-units are not a bank balance")
    today = day_text(now_us)
    day = today if not as_of else _parse_day(as_of, field="as_of")
    if day > today:
        raise _invalid("as_of", f"{day} is still to come; today is {today} (UTC)")
    return _make(
        uow,
        bank_micros=balance_micros,
        bank_as_of=day,
        entered_by=operator_id,
        signer=signer,
        secret=secret,
        now_us=now_us,
    )


def make_daily_statement(uow: UnitOfWork, *, signer: LogSigner, secret: bytes, now_us: int) -> int:
    """Make today's statement with the bank's last figure, unless there is one; return how many were made.

    Before an operator has ever entered a figure there is nothing to state.
    """
    last = uow.solvency.last()
    if last is None or day_text(last.facts.made_at_us) >= day_text(now_us):
        return 0
    _make(
        uow,
        bank_micros=last.facts.bank_micros,
        bank_as_of=last.facts.bank_as_of,
        entered_by="",
        signer=signer,
        secret=secret,
        now_us=now_us,
    )
    return 1


def _make(
    uow: UnitOfWork,
    *,
    bank_micros: int,
    bank_as_of: str,
    entered_by: str,
    signer: LogSigner,
    secret: bytes,
    now_us: int,
) -> SolvencyRow:
    last, ledger, head = uow.solvency.last(), uow.ledger.head(), uow.receipt_log.head()
    found = owed(account for account, _, _ in uow.ledger.all_accounts())
    tree = LiabilityTree(
        [liability_leaf(name, balance, salt_of(secret, name)) for _, name, balance in found.accounts]
    )
    facts = SolvencyFacts(
        statement_id=1 if last is None else last.facts.statement_id + 1,
        made_at_us=max(now_us, ledger.recorded_at_us, last.facts.made_at_us if last is not None else 0),
        ledger_sequence=ledger.transfer_id,
        ledger_hash=ledger.chain_hash,
        liabilities=found.by_kind,
        liabilities_micros=found.total_micros,
        liability_count=len(found.accounts),
        liability_root=tree.root.hash,
        bank_micros=bank_micros,
        bank_as_of=bank_as_of,
        books_micros=found.books_micros,
        tree_size=0 if head is None else head.tree_size,
        tree_root=b"" if head is None else head.root_hash,
    )
    row = SolvencyRow(
        facts=facts,
        entered_by=entered_by,
        signed=signer.sign_solvency(facts, currency=uow.terms.currency),
        secret=secret,
        leaves=pack_leaves(found.accounts),
    )
    uow.solvency.append(row)
    return row


def get_statement(uow: UnitOfWork, *, date: str) -> SolvencyRow | None:
    """Return the newest statement, or the last one that was made on a day; None when there is none at all.

    Raises:
        PoolError: INVALID_ARGUMENT for a date that is none; NOT_FOUND when none was made on that day.
    """
    if not date:
        return uow.solvency.last()
    day = _parse_day(date, field="date")
    ends_us = ((dt.date.fromisoformat(day) - _EPOCH).days + 1) * DAY_US
    row = uow.solvency.last_before(ends_us)
    if row is None or row.facts.made_at_us < ends_us - DAY_US:
        raise PoolError(ErrorCode.NOT_FOUND, f"no statement was made on {day}", context={"field": "date"})
    return row


def known_tree(uow: UnitOfWork, *, statement_id: int) -> KnownTree | None:
    """Return a statement with its tree, the newest for 0; None when there is none at all.

    Raises:
        PoolError: NOT_FOUND for a number that no statement has.
    """
    row = uow.solvency.statement(statement_id) if statement_id else uow.solvency.last()
    if row is None:
        if not statement_id:
            return None
        raise PoolError(
            ErrorCode.NOT_FOUND, f"no statement {statement_id}", context={"field": "statement_id"}
        )
    balances = dict(unpack_leaves(row.leaves))
    names = {account.account_id: account.name for account in uow.ledger.accounts(balances).values()}
    tree = LiabilityTree(
        [
            liability_leaf(names[account_id], balance, salt_of(row.secret, names[account_id]))
            for account_id, balance in balances.items()
        ]
    )
    return KnownTree(row=row, tree=tree, balances=balances)


def prove_liabilities(uow: UnitOfWork, known: KnownTree, *, principal_id: str) -> list[LiabilityProof]:
    """Prove that an owner's or a buyer's balances are counted: one proof for each account that had any."""
    own = uow.ledger.accounts_by_prefix(f"owner:{principal_id}:")
    buyer = uow.ledger.accounts_by_name([chart.buyer_available_name(principal_id)])
    for account in buyer.values():
        own += [account, *uow.ledger.accounts_swept_to(account.account_id)]
    return [
        known.tree.prove(
            account.name, known.balances[account.account_id], salt_of(known.row.secret, account.name)
        )
        for account in own
        if account.account_id in known.balances
    ]


def present_coverage(uow: UnitOfWork, *, now_us: int, about_to_pay_micros: int = 0) -> Coverage:
    """Say whether the bank's last figure covers what is owed at this moment."""
    last = uow.solvency.last()
    age_days = 0
    if last is not None:
        age_days = now_us // DAY_US - (dt.date.fromisoformat(last.facts.bank_as_of) - _EPOCH).days
    return coverage(
        bank_micros=None if last is None else last.facts.bank_micros,
        bank_age_days=age_days,
        liabilities_micros=owed_in_all(uow.ledger.totals_by_code()),
        about_to_pay_micros=about_to_pay_micros,
    )


def bank_warnings(uow: UnitOfWork, *, now_us: int) -> list[str]:
    """Return what whoever pays should know of the bank's last figure; nothing where none was ever entered.

    Whether the figure covers the payment itself is weighed by the payout's review.
    """
    found = present_coverage(uow, now_us=now_us)
    if found.state is CoverageState.UNKNOWN or not found.is_warning:
        return []
    return [f"By the bank's own figure: {' '.join(coverage_sentences(found, currency=uow.terms.currency))}"]


def coverage_sentences(found: Coverage, *, currency: str) -> list[str]:
    """Say what a coverage means, in plain words; the first sentence is what matters most."""
    if found.state is CoverageState.UNKNOWN:
        return ["What the bank holds is not known: enter it with `pool-server solvency enter`."]

    def write(amount_micros: int) -> str:
        return amounts.amount(amount_micros, currency)

    sentences = [f"The bank holds {write(found.bank_micros)}, {write(found.liabilities_micros)} are owed."]
    if found.state is CoverageState.INSOLVENT:
        sentences.insert(0, f"INSOLVENT by {write(-found.surplus_micros)}.")
    if not found.pays:
        sentences.append(f"The payment of {write(found.about_to_pay_micros)} is not covered.")
    if found.is_old:
        sentences.append(f"The bank's figure is {found.bank_age_days} days old: enter it again.")
    return sentences


def _parse_day(text: str, *, field: str) -> str:
    try:
        day = dt.date.fromisoformat(text)
    except ValueError as error:
        raise _invalid(field, f"{text[:40]!r} is not a day such as 2026-11-25") from error
    if day.isoformat() != text or day < _EPOCH:
        raise _invalid(field, f"{text[:40]!r} is not a day such as 2026-11-25")
    return text


def _invalid(field: str, reason: str) -> PoolError:
    return PoolError(ErrorCode.INVALID_ARGUMENT, reason, context={"field": field})
