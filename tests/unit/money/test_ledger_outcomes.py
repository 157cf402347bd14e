"""Every outcome of the ledger, in the order of checking: a request wrong in two ways gets the earlier one."""

from dataclasses import replace
from typing import Any

import pytest

from pool_protocol.money import AMOUNT_MICROS_MAX
from pool_server.core.ledger.chain import EMPTY_HEAD, canonical_bytes, next_hash
from pool_server.core.ledger.decision import FAILED_FOR_EVER, decide, input_hash
from pool_server.core.ledger.model import (
    Account,
    AccountCode,
    AccountState,
    CounterDelta,
    Decision,
    KeyRecord,
    LedgerHead,
    LedgerState,
    Outcome,
    PendingTransfer,
    TransferCode,
    TransferKind,
    TransferRequest,
)

NOW = 1_000
BANK, RICH, POOR, CLOSED, DRAINING, FULL, CAPPED = range(1, 8)
OPEN, POSTED, VOIDED, TIMED_OUT, EXPIRED = range(11, 16)


def account(
    account_id: int, *, has: int = 0, owes: int = 0, state: AccountState = AccountState.OPEN
) -> Account:
    return Account(
        account_id=account_id,
        name=f"account:{account_id}",
        code=AccountCode.BUYER_AVAILABLE,
        state=state,
        debits_must_not_exceed_credits=account_id not in (BANK, CAPPED),
        credits_must_not_exceed_debits=account_id == CAPPED,
        sweep_to_account_id=RICH if account_id == DRAINING else 0,
        credits_posted_micros=has,
        debits_posted_micros=owes,
    )


def pending(transfer_id: int, *, kind: int = 0, code: int = 0, expires_at_us: int = 0) -> PendingTransfer:
    return PendingTransfer(transfer_id, RICH, POOR, 100, transfer_id, 0, expires_at_us, kind, code)


def state(**changes: Any) -> LedgerState:
    rich = replace(account(RICH, has=500), debits_pending_micros=500)
    accounts = [
        account(BANK),
        rich,
        replace(account(POOR), credits_pending_micros=500),
        account(CLOSED, state=AccountState.CLOSED),
        account(DRAINING, has=50, state=AccountState.DRAINING),
        account(FULL, has=AMOUNT_MICROS_MAX),
        account(CAPPED, owes=10),
    ]
    values: dict[str, Any] = {
        "head": LedgerHead(transfer_id=20, chain_hash=b"h" * 32, recorded_at_us=NOW - 1),
        "accounts": {entry.account_id: entry for entry in accounts},
        "pendings": {
            entry.transfer_id: entry
            for entry in (
                pending(OPEN, expires_at_us=NOW + 1),
                pending(POSTED, kind=TransferKind.POST, code=TransferCode.VERIFIED),
                pending(VOIDED, kind=TransferKind.VOID, code=TransferCode.REJECTED),
                pending(TIMED_OUT, expires_at_us=NOW),
                pending(EXPIRED, kind=TransferKind.VOID, code=TransferCode.EXPIRED),
            )
        },
        "keys": {
            "failed": KeyRecord(key="failed", input_hash=input_hash(single(1)), failed=True, transfer_id=0),
            "used": KeyRecord(key="used", input_hash=input_hash(single(1)), failed=False, transfer_id=7),
        },
        **changes,
    }
    return LedgerState(**values)


def single(amount: int, *, debit: int = BANK, credit: int = RICH, **changes: Any) -> TransferRequest:
    request = TransferRequest(TransferKind.SINGLE, TransferCode.DEPOSIT, debit, credit, amount)
    return request._replace(**changes)


def post(pending_id: int, amount: int = 100, **changes: Any) -> TransferRequest:
    request = TransferRequest(TransferKind.POST, TransferCode.VERIFIED, 0, 0, amount, pending_id)
    return request._replace(**changes)


def void(pending_id: int, code: TransferCode = TransferCode.REJECTED, **changes: Any) -> TransferRequest:
    request = TransferRequest(TransferKind.VOID, code, pending_id=pending_id)
    return request._replace(**changes)


def reserve(amount: int, *, debit: int = BANK, credit: int = RICH, expires: int = 0) -> TransferRequest:
    return TransferRequest(
        TransferKind.PENDING, TransferCode.LEASE, debit, credit, amount, expires_at_us=expires
    )


IN_ORDER: list[tuple[str, TransferRequest, Outcome]] = [
    # 2. the key, before anything else about the request is looked at
    ("failed key, also malformed", single(-1, key="failed"), Outcome.ID_ALREADY_FAILED),
    ("used key, other amount", single(2, key="used"), Outcome.EXISTS_WITH_DIFFERENT),
    ("used key, same input", single(1, key="used"), Outcome.EXISTS),
    # 3. wrong in itself
    ("unknown kind", single(0)._replace(kind=9), Outcome.REQUEST_MALFORMED),
    ("single with a timeout, no amount", single(0, expires_at_us=NOW + 1), Outcome.REQUEST_MALFORMED),
    ("single with a pending id", single(1, pending_id=OPEN), Outcome.REQUEST_MALFORMED),
    ("post without a pending id", post(0), Outcome.REQUEST_MALFORMED),
    ("post that names accounts", post(OPEN, debit_account_id=RICH), Outcome.REQUEST_MALFORMED),
    ("void with an amount", void(OPEN, amount_micros=1), Outcome.REQUEST_MALFORMED),
    ("no amount, same accounts", single(0, debit=RICH), Outcome.AMOUNT_NOT_POSITIVE),
    ("negative amount", single(-5), Outcome.AMOUNT_NOT_POSITIVE),
    ("post of nothing, unknown", post(99, amount=0), Outcome.AMOUNT_NOT_POSITIVE),
    ("same accounts, unknown", single(1, debit=98, credit=98), Outcome.ACCOUNTS_NOT_DIFFERENT),
    ("timeout now, unknown account", reserve(1, debit=98, expires=NOW), Outcome.TIMEOUT_IN_THE_PAST),
    ("post that balances", post(OPEN, balancing_debit=True), Outcome.REQUEST_MALFORMED),
    # 4. the pending transfer
    ("post unknown", post(99), Outcome.PENDING_NOT_FOUND),
    ("post posted, too much", post(POSTED, amount=101), Outcome.PENDING_ALREADY_POSTED),
    ("void posted", void(POSTED), Outcome.PENDING_ALREADY_POSTED),
    ("post voided", post(VOIDED), Outcome.PENDING_ALREADY_VOIDED),
    ("void voided", void(VOIDED), Outcome.PENDING_ALREADY_VOIDED),
    ("post timed out, too much", post(TIMED_OUT, amount=101), Outcome.PENDING_EXPIRED),
    ("void timed out as rejected", void(TIMED_OUT), Outcome.PENDING_EXPIRED),
    ("void expired", void(EXPIRED, TransferCode.EXPIRED), Outcome.PENDING_EXPIRED),
    ("post too much", post(OPEN, amount=101), Outcome.EXCEEDS_PENDING_AMOUNT),
    # 5. accounts
    ("debit unknown, credit unknown", single(1, debit=98, credit=99), Outcome.DEBIT_ACCOUNT_NOT_FOUND),
    ("credit unknown, debit closed", single(1, debit=CLOSED, credit=99), Outcome.CREDIT_ACCOUNT_NOT_FOUND),
    ("debit closed, credit closed", single(1, debit=DRAINING, credit=CLOSED), Outcome.DEBIT_ACCOUNT_CLOSED),
    ("debit draining elsewhere", single(1, debit=DRAINING, credit=POOR), Outcome.DEBIT_ACCOUNT_CLOSED),
    ("credit closed", single(AMOUNT_MICROS_MAX, credit=CLOSED), Outcome.CREDIT_ACCOUNT_CLOSED),
    ("credit draining", single(1, credit=DRAINING), Outcome.CREDIT_ACCOUNT_CLOSED),
    # 6. overflow
    ("overflow, no funds", single(1, debit=POOR, credit=FULL), Outcome.OVERFLOW),
    # 7. limits, reserved money included
    ("no funds, over the cap", single(11, debit=POOR, credit=CAPPED), Outcome.EXCEEDS_CREDITS),
    ("funds reserved already", single(1, debit=RICH, credit=POOR), Outcome.EXCEEDS_CREDITS),
    ("over the credit cap", single(11, credit=CAPPED), Outcome.EXCEEDS_DEBITS),
    # and what succeeds
    ("single", single(1), Outcome.CREATED),
    ("reserve", reserve(1, expires=NOW + 1), Outcome.CREATED),
    ("up to the credit cap", single(10, credit=CAPPED), Outcome.CREATED),
    ("draining back to its payer", single(50, debit=DRAINING, credit=RICH), Outcome.CREATED),
    ("post in full", post(OPEN), Outcome.CREATED),
    ("post in part", post(OPEN, amount=1), Outcome.CREATED),
    ("void", void(OPEN), Outcome.CREATED),
    ("void timed out as expired", void(TIMED_OUT, TransferCode.EXPIRED), Outcome.CREATED),
]


@pytest.mark.parametrize(
    ("request_", "outcome"), [case[1:] for case in IN_ORDER], ids=[case[0] for case in IN_ORDER]
)
def test_outcomes_in_precedence_order(request_: TransferRequest, outcome: Outcome) -> None:
    decision = decide(state(), [request_], now_us=NOW)

    [answer] = decision.answers
    assert answer.outcome is outcome
    assert bool(answer.transfer_id) == (outcome in (Outcome.CREATED, Outcome.EXISTS))
    assert len(decision.rows) == (outcome is Outcome.CREATED)
    assert bool(decision.deltas) == (outcome is Outcome.CREATED)


def test_every_outcome_stands_in_the_table() -> None:
    chains = {Outcome.LINKED_CHAIN_OPEN, Outcome.LINKED_EVENT_FAILED}

    assert {case[2] for case in IN_ORDER} == set(Outcome) - chains


def test_a_partial_post_releases_the_rest() -> None:
    decision = decide(state(), [post(OPEN, amount=30)], now_us=NOW)

    assert decision.deltas == (
        CounterDelta(-100, 30, 0, 0, RICH),
        CounterDelta(0, 0, -100, 30, POOR),
    )


@pytest.mark.parametrize(("free", "moved"), [(500, 300), (300, 300), (299, 299), (1, 1)])
def test_a_balancing_debit_moves_what_is_free_and_never_more_than_it_may(free: int, moved: int) -> None:
    books = state(accounts={RICH: account(RICH, has=free), POOR: account(POOR)})

    decision = decide(books, [single(300, debit=RICH, credit=POOR, balancing_debit=True)], now_us=NOW)

    assert outcomes(decision) == [Outcome.CREATED]
    assert [row.amount_micros for row in decision.rows] == [moved]
    assert canonical_bytes(decision.rows[0]) == decision.rows[0].canonical


def test_a_balancing_debit_moves_nothing_that_is_reserved() -> None:
    request = single(300, debit=RICH, credit=POOR, balancing_debit=True)

    assert outcomes(decide(state(), [request], now_us=NOW)) == [Outcome.EXCEEDS_CREDITS]


def test_an_account_without_a_limit_balances_down_to_nothing_too() -> None:
    request = single(300, debit=CAPPED, credit=RICH, balancing_debit=True)

    assert outcomes(decide(state(), [request], now_us=NOW)) == [Outcome.EXCEEDS_CREDITS]


def test_a_balancing_request_is_another_than_one_for_the_whole_amount() -> None:
    whole = single(300, debit=RICH, credit=POOR)

    assert input_hash(whole) != input_hash(whole._replace(balancing_debit=True))


def test_later_requests_see_what_earlier_ones_did() -> None:
    requests = [void(OPEN), single(100, debit=RICH, credit=POOR), single(1, debit=RICH, credit=POOR)]

    decision = decide(state(), requests, now_us=NOW)

    assert outcomes(decision) == [Outcome.CREATED, Outcome.CREATED, Outcome.EXCEEDS_CREDITS]


def test_a_pending_transfer_of_the_same_batch_resolves_once() -> None:
    first = state().head.transfer_id + 1

    decision = decide(state(), [reserve(5), post(first, amount=5), void(first)], now_us=NOW)

    assert outcomes(decision) == [Outcome.CREATED, Outcome.CREATED, Outcome.PENDING_ALREADY_POSTED]


def test_a_key_is_answered_again_inside_one_batch() -> None:
    decision = decide(state(), [single(5, key="k"), single(5, key="k"), single(6, key="k")], now_us=NOW)

    assert outcomes(decision) == [Outcome.CREATED, Outcome.EXISTS, Outcome.EXISTS_WITH_DIFFERENT]
    assert decision.answers[1].transfer_id == decision.answers[0].transfer_id
    assert len(decision.rows) == 1


@pytest.mark.parametrize(
    "case", [case for case in IN_ORDER if case[2] not in (Outcome.EXISTS, Outcome.CREATED)]
)
def test_only_failures_of_state_are_remembered(case: tuple[str, TransferRequest, Outcome]) -> None:
    _, request, outcome = case
    if request.key:
        return
    decision = decide(state(), [request._replace(key="new")], now_us=NOW)

    remembered = [(record.key, record.failed) for record in decision.keys]
    assert remembered == ([("new", True)] if outcome in FAILED_FOR_EVER else [])


def test_a_failed_key_stays_failed_although_it_would_succeed_now() -> None:
    refused = decide(state(), [single(1, debit=RICH, credit=POOR, key="k")], now_us=NOW)
    rich_now = {**state().accounts, RICH: account(RICH, has=10_000)}

    again = decide(
        state(accounts=rich_now, keys={record.key: record for record in refused.keys}),
        [single(1, debit=RICH, credit=POOR, key="k")],
        now_us=NOW,
    )

    assert outcomes(again) == [Outcome.ID_ALREADY_FAILED]


def test_linked_requests_succeed_or_fail_together() -> None:
    chain = [single(5, linked=True), single(5, debit=POOR, credit=RICH, linked=True), single(5)]

    decision = decide(state(), [single(1), *chain, single(2)], now_us=NOW)

    assert outcomes(decision) == [
        Outcome.CREATED,
        Outcome.LINKED_EVENT_FAILED,
        Outcome.EXCEEDS_CREDITS,
        Outcome.LINKED_EVENT_FAILED,
        Outcome.CREATED,
    ]
    assert [row.amount_micros for row in decision.rows] == [1, 2]
    assert [row.transfer_id for row in decision.rows] == [21, 22]
    assert decision.deltas == (CounterDelta(0, 3, 0, 0, BANK), CounterDelta(0, 0, 0, 3, RICH))


def test_a_chain_that_the_batch_does_not_end_is_refused() -> None:
    decision = decide(state(), [single(5, linked=True), single(5, linked=True)], now_us=NOW)

    assert outcomes(decision) == [Outcome.LINKED_EVENT_FAILED, Outcome.LINKED_CHAIN_OPEN]
    assert decision.rows == ()


def test_a_repeated_chain_exists_whole_and_never_half() -> None:
    chain = [single(5, key="a", linked=True), single(6, key="b")]
    done = {record.key: record for record in decide(state(), chain, now_us=NOW).keys}

    repeated = decide(state(keys=done), chain, now_us=NOW)
    half_new = decide(state(keys=done), [chain[0], single(7, key="c")], now_us=NOW)

    assert outcomes(repeated) == [Outcome.EXISTS, Outcome.EXISTS]
    assert outcomes(half_new) == [Outcome.EXISTS, Outcome.LINKED_EVENT_FAILED]
    assert half_new.rows == ()


def test_time_in_the_ledger_never_goes_back() -> None:
    decision = decide(state(), [single(1)], now_us=5)

    assert decision.rows[0].recorded_at_us == NOW - 1


def test_rows_chain_over_canonical_bytes_that_hold_the_sequence() -> None:
    decision = decide(state(head=EMPTY_HEAD), [single(1), single(1)], now_us=NOW)
    first, second = decision.rows

    assert first.canonical == canonical_bytes(first)
    assert first.canonical != second.canonical
    assert first.chain_hash == next_hash(EMPTY_HEAD.chain_hash, first.canonical)
    assert second.chain_hash == next_hash(first.chain_hash, second.canonical)


@pytest.mark.parametrize(
    "change",
    [
        {"transfer_id": 9},
        {"kind": 1},
        {"code": 200},
        {"debit_account_id": 9},
        {"credit_account_id": 9},
        {"amount_micros": 9},
        {"pending_id": 9},
        {"reference_id": 9},
        {"reference_round": 9},
        {"expires_at_us": 9},
        {"recorded_at_us": 9},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_column_of_a_transfer_is_outside_the_hash(change: dict[str, Any]) -> None:
    [row] = decide(state(head=EMPTY_HEAD), [single(1)], now_us=NOW).rows

    assert canonical_bytes(row._replace(**change)) != row.canonical


def outcomes(decision: Decision) -> list[Outcome]:
    return [answer.outcome for answer in decision.answers]
