"""Operator commands for entries by hand, under `ledger`: propose, refund, approve, withdraw, list."""

import click

from pool_protocol.system import SystemIds
from pool_protocol.v1 import books_service_pb2 as pb
from pool_protocol.v1 import books_service_pb2_grpc, common_pb2
from pool_server.cli.books_stream import NearNames, read_balance
from pool_server.cli.output import json_option, money, print_json, print_pairs, print_table, time
from pool_server.cli.remote import Remote
from pool_server.core.ledger.entries import ENTRY_CODES

_CODES = sorted(code.name.lower() for code in ENTRY_CODES)
_STUB = books_service_pb2_grpc.BooksServiceStub
_AMOUNT = click.IntRange(min=1, max=2**63 - 1)


@click.command()
@click.option(
    "--code",
    type=click.Choice(_CODES),
    default="correction",
    show_default=True,
    help="Why money moves; docs/reference/ledger.md says between which accounts each may move it.",
)
@click.option("--debit", required=True, help="The account to debit, for example x:goodwill.")
@click.option("--credit", required=True, help="The account to credit, for example buyer:buyer_abc:available.")
@click.option("--amount-micros", type=_AMOUNT, required=True, help="Millionths of the currency.")
@click.option("--at-most", is_flag=True, help="Book what the debit account has free, the amount at most.")
@click.option("--reason", required=True, help="Why, in words; it stays in the books.")
@click.option("--key", default="", help="Idempotency key; default: a new one.")
@json_option
@click.pass_obj
def correct(
    remote: Remote,
    *,
    code: str,
    debit: str,
    credit: str,
    amount_micros: int,
    at_most: bool,
    reason: str,
    key: str,
    as_json: bool,
) -> None:
    """Propose an entry by hand: a correction, a fee of the bank, a gift, a refund, a tax, an opening balance.

    Nothing that was booked is changed; the entry is one further transfer, booked when another operator
    approves it. Money moves between the pool's own accounts, or between one of them and a buyer's or an
    owner's available account; what follows from jobs, receipts and payout runs cannot be written to.
    """
    _propose(
        remote,
        pb.ProposeEntryRequest(
            code_name=code,
            debit_account=debit,
            credit_account=credit,
            amount_micros=amount_micros,
            is_at_most=at_most,
            reason=reason,
            idempotency_key=key,
        ),
        as_json=as_json,
    )


@click.command()
@click.option("--buyer", required=True, help="The buyer's id.")
@click.option("--amount-micros", type=_AMOUNT, help="Default: all of the buyer's free money.")
@click.option("--bank", default="main", show_default=True, help="The bank account that pays it.")
@click.option("--reason", required=True, help="Why, in words; it stays in the books.")
@click.option("--key", default="", help="Idempotency key; default: a new one.")
@json_option
@click.pass_obj
def refund(
    remote: Remote, *, buyer: str, amount_micros: int | None, bank: str, reason: str, key: str, as_json: bool
) -> None:
    """Propose to give a buyer free money back; another operator approves it.

    Pay it from the bank when it is approved. Without an amount, all that is free now is proposed, and less is
    booked if less is free then; what is reserved for jobs stays with them.
    """
    account = f"buyer:{buyer}:available"
    _propose(
        remote,
        pb.ProposeEntryRequest(
            code_name="refund",
            debit_account=account,
            credit_account=f"bank:{bank}",
            amount_micros=amount_micros or _free_micros(remote, account),
            is_at_most=amount_micros is None,
            reason=reason,
            idempotency_key=key,
        ),
        as_json=as_json,
    )


@click.command()
@click.argument("entry")
@click.option("--amount-micros", type=_AMOUNT, required=True, help="The amount that you saw.")
@json_option
@click.pass_obj
def approve(remote: Remote, *, entry: str, amount_micros: int, as_json: bool) -> None:
    """Book ENTRY, for example entry_3; must be another operator than the one who proposed it."""
    answer: pb.ApproveEntryResponse = remote.call(
        "ApproveEntry",
        pb.ApproveEntryRequest(entry_id=entry, expected_amount_micros=amount_micros),
        service=_STUB,
    )
    if as_json:
        print_json(answer.entry)
        return
    _show_entry(answer.entry)


@click.command()
@click.argument("entry")
@json_option
@click.pass_obj
def withdraw(remote: Remote, *, entry: str, as_json: bool) -> None:
    """Drop a proposed ENTRY; nothing was booked."""
    answer: pb.WithdrawEntryResponse = remote.call(
        "WithdrawEntry", pb.WithdrawEntryRequest(entry_id=entry), service=_STUB
    )
    if as_json:
        print_json(answer.entry)
        return
    click.echo(f"{answer.entry.entry_id} is {answer.entry.state}.")


@click.command()
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Entries.")
@click.option("--after", "page_token", default="", help="Go on behind the last page: its token.")
@json_option
@click.pass_obj
def entries(remote: Remote, *, limit: int, page_token: str, as_json: bool) -> None:
    """List entries by hand, newest first."""
    page = common_pb2.PageRequest(page_size=limit, page_token=page_token)
    answer: pb.ListEntriesResponse = remote.call(
        "ListEntries", pb.ListEntriesRequest(page=page), service=_STUB
    )
    if as_json:
        print_json(answer)
        return
    print_table(
        ["entry", "state", "code", "debit", "credit", "amount", "proposed", "reason"],
        [
            [
                entry.entry_id,
                entry.state,
                entry.code_name,
                entry.debit_account,
                entry.credit_account,
                _entry_amount(entry),
                time(entry.proposed_at_us),
                entry.reason,
            ]
            for entry in answer.entries
        ],
    )
    if answer.next_page_token:
        click.echo(f"\nMore: --after {answer.next_page_token}")


def _free_micros(remote: Remote, account: str) -> int:
    """Return what an account has free now.

    Raises:
        click.ClickException: nothing is.
    """
    counters = read_balance(remote, pb.GetAccountAtRequest(account=account)).counters
    free = counters.credits_posted_micros - counters.debits_posted_micros - counters.debits_pending_micros
    if free <= 0:
        raise click.ClickException(f"{account} has nothing free: there is nothing to refund")
    return free


def _propose(remote: Remote, request: pb.ProposeEntryRequest, *, as_json: bool) -> None:
    request.idempotency_key = request.idempotency_key or f"cli-{SystemIds().nonce().hex()}"
    with NearNames():
        answer: pb.ProposeEntryResponse = remote.call("ProposeEntry", request, service=_STUB)
    entry = answer.entry
    if as_json:
        print_json(entry)
        return
    _show_entry(entry)
    click.echo(
        "\nNothing is booked yet. Next: another operator approves with\n  pool-server ... ledger approve "
        f"{entry.entry_id} --amount-micros {entry.amount_micros}"
    )


def _show_entry(entry: pb.EntryView) -> None:
    decided = f"{time(entry.decided_at_us)} by {entry.decided_by}" if entry.decided_by else "-"
    print_pairs(
        [
            ("entry", entry.entry_id),
            ("state", entry.state),
            ("code", entry.code_name),
            ("debit", entry.debit_account),
            ("credit", entry.credit_account),
            ("amount", _entry_amount(entry)),
            ("reason", entry.reason),
            ("proposed", f"{time(entry.proposed_at_us)} by {entry.proposed_by}"),
            ("decided", decided),
            ("transfer", str(entry.transfer_id or "-")),
        ]
    )


def _entry_amount(entry: pb.EntryView) -> str:
    return money(entry.amount_micros, entry.currency) + (" at most" if entry.is_at_most else "")
