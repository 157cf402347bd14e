"""Operator commands for statements of solvency, and for the heads of the log of receipts."""

import re
from typing import Any

import click

from pool_protocol import amounts
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.money import MICROS_PER_UNIT
from pool_protocol.solvency import solvency_sentence
from pool_protocol.v1 import common_pb2, log_service_pb2_grpc
from pool_protocol.v1 import log_service_pb2 as pb
from pool_server.cli.output import json_option, money, plain, print_json, print_pairs, print_table, time
from pool_server.cli.remote import Remote

_AMOUNT = re.compile(r"(?P<sign>-?)(?P<whole>[0-9]{1,12})(?:\.(?P<part>[0-9]{1,6}))?")
_STUB = log_service_pb2_grpc.LogServiceStub
_PAGE = 1_000


class _Amount(click.ParamType[int]):
    """An amount as a bank writes it: 12345.67."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _AMOUNT.fullmatch(str(value).strip())
        if match is None:
            self.fail(
                f"{value!r} is not an amount such as 12345.67 (a point, no thousands separators)", param, ctx
            )
        micros = int(match["whole"]) * MICROS_PER_UNIT + int((match["part"] or "").ljust(6, "0"))
        return -micros if match["sign"] else micros


@click.group()
def solvency() -> None:
    """What the pool owes against what its bank holds: signed statements.

    Enter the bank's balance as often as you look at it; a statement is made of it at once, and one every day
    from then on. Owners and buyers can see every statement, and check that their own balances are counted.
    """


@solvency.command(
    epilog="""\b
Examples:
  pool-server --data ./pool solvency enter --balance 12345.67
  pool-server --data ./pool solvency enter --balance 12345.67 --as-of 2026-11-24
"""
)
@click.option("--balance", required=True, type=_Amount(), help="What the bank says, for example 12345.67.")
@click.option("--as-of", default="", help="The day that it is of, YYYY-MM-DD (UTC). Default: today.")
@json_option
@click.pass_obj
def enter(remote: Remote, *, balance: int, as_of: str, as_json: bool) -> None:
    """Enter what the bank holds, and sign a statement of it."""
    answer: pb.EnterBankBalanceResponse = remote.call(
        "EnterBankBalance", pb.EnterBankBalanceRequest(balance_micros=balance, as_of=as_of), service=_STUB
    )
    _show(_body(answer.statement), as_json=as_json)


@solvency.command("show")
@click.option("--date", default="", help="The last statement made on this day (UTC).")
@json_option
@click.pass_obj
def show_statement(remote: Remote, *, date: str, as_json: bool) -> None:
    """Show the newest statement."""
    try:
        answer: pb.GetSolvencyResponse = remote.call(
            "GetSolvency", pb.GetSolvencyRequest(date=date), service=_STUB
        )
    except PoolError as error:
        if error.code is not ErrorCode.NOT_FOUND:
            raise
        raise click.ClickException(
            f"no statement was made on {date}.\nSee when there were any: pool-server solvency history"
        ) from error
    if not answer.HasField("statement"):
        raise click.ClickException(
            "no statement was made yet.\n"
            "Enter what the bank holds: pool-server solvency enter --balance 12345.67"
        )
    _show(_body(answer.statement), as_json=as_json)


@solvency.command()
@json_option
@click.pass_obj
def history(remote: Remote, *, as_json: bool) -> None:
    """List all statements, newest first."""
    bodies: list[pb.SolvencyBody] = []
    token = ""
    while True:
        page = common_pb2.PageRequest(page_size=_PAGE, page_token=token)
        answer: pb.ListSolvencyResponse = remote.call(
            "ListSolvency", pb.ListSolvencyRequest(page=page), service=_STUB
        )
        bodies += [_body(statement) for statement in answer.statements]
        token = answer.next_page_token
        if not token:
            break
    if as_json:
        print_json([_json(body) for body in bodies])
        return
    print_table(
        ["statement", "made", "owed", "bank", "bank as of", "surplus", ""],
        [
            [
                str(body.statement_id),
                time(body.made_at_us),
                amounts.amount(body.liabilities_micros),
                amounts.amount(body.bank_micros),
                body.bank_as_of,
                amounts.amount(body.bank_micros - body.liabilities_micros),
                "" if body.bank_micros >= body.liabilities_micros else "INSOLVENT",
            ]
            for body in bodies
        ],
    )


@click.group()
def log() -> None:
    """The log of receipts."""


@log.command()
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, _PAGE), help="How many.")
@json_option
@click.pass_obj
def heads(remote: Remote, *, last: int, as_json: bool) -> None:
    """List the newest signed tree heads."""
    request = pb.ListTreeHeadsRequest(page=common_pb2.PageRequest(page_size=last))
    answer: pb.ListTreeHeadsResponse = remote.call("ListTreeHeads", request, service=_STUB)
    bodies = [(pb.TreeHeadBody.FromString(head.body), head.key_id) for head in answer.heads]
    if as_json:
        print_json([{**plain(body), "key_id": key_id} for body, key_id in bodies])
        return
    print_table(
        ["receipts", "signed", "root", "key"],
        [
            [str(body.tree_size), time(body.timestamp_us), body.root_hash.hex(), key_id]
            for body, key_id in bodies
        ],
    )


def _body(envelope: common_pb2.Envelope) -> pb.SolvencyBody:
    return pb.SolvencyBody.FromString(envelope.body)


def _json(body: pb.SolvencyBody) -> dict[str, Any]:
    surplus = body.bank_micros - body.liabilities_micros
    return {**plain(body), "surplus_micros": surplus, "solvent": surplus >= 0}


def _show(body: pb.SolvencyBody, *, as_json: bool) -> None:
    if as_json:
        print_json(_json(body))
        return
    click.echo(
        solvency_sentence(
            amounts.amount,
            bank_micros=body.bank_micros,
            bank_as_of=body.bank_as_of,
            liabilities_micros=body.liabilities_micros,
            currency=body.currency,
        )
    )
    print_pairs(
        [
            ("statement", f"{body.statement_id}, made {time(body.made_at_us)}"),
            *(
                (one.kind.replace("_", " "), money(one.amount_micros, body.currency))
                for one in body.liabilities
            ),
            (
                "owed in all",
                f"{money(body.liabilities_micros, body.currency)} to {body.liability_count} accounts",
            ),
            ("the bank", f"{money(body.bank_micros, body.currency)} on {body.bank_as_of}"),
            ("the books say", money(body.books_micros, body.currency)),
            ("ledger", f"transfer {body.ledger_sequence}"),
        ]
    )
