"""Operator commands for what follows a payout's file: the bank's reports, and owners who leave."""

import sys
from pathlib import Path

import click

from pool_protocol import amounts
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import payout_service_pb2 as pb
from pool_protocol.v1.payout_service_pb2_grpc import PayoutServiceStub
from pool_server.cli.output import json_option, print_json, print_pairs, print_table, time
from pool_server.cli.remote import Remote

#: Outcomes that a person must look at, with what they mean.
_ATTENTION = {
    "unknown": "not a payment of this pool",
    "amount_differs": "another amount than was sent: not booked",
    "contradicts": "the opposite of what was said before: refused",
}
#: The process's exit code when a report holds something that a person must look at.
EXIT_ATTENTION = 3


@click.command("import-status")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="Only say what would become of it; book and keep nothing.")
@json_option
@click.pass_obj
def import_status(remote: Remote, *, file: Path, check: bool, as_json: bool) -> None:
    r"""Take the bank's report FILE: settled payments leave clearing, rejected and returned ones go back.

    \b
    Formats: pain.002.001.03 and .10 (status of a payment file), camt.054.001.02 and .08 (bookings), and for
    other banks a CSV with the columns reference,status,amount,currency,reason, where status is settled,
    rejected or returned. The same file again changes nothing and answers the same.

    Payments are matched by reference and amount, never guessed. Lines that do not match, or that say the
    opposite of what the bank said before, change nothing and are listed; the command then ends with code 3.
    """
    answer: pb.ImportBankStatusResponse = remote.call(
        "ImportBankStatus",
        pb.ImportBankStatusRequest(file=file.read_bytes(), file_name=file.name[-80:], check_only=check),
        service=PayoutServiceStub,
    )
    if as_json:
        print_json(answer)
    else:
        _show(answer, check=check)
    if any(result.outcome in _ATTENTION for result in answer.results):
        sys.exit(EXIT_ATTENTION)


def _show(answer: pb.ImportBankStatusResponse, *, check: bool) -> None:
    report = answer.report
    print_pairs(
        [
            ("report", str(report.report_id) if report.report_id else "(only checked)"),
            ("format", report.format),
            ("bank's name for it", report.message_id or "-"),
            ("SHA-256", report.sha256),
            *(
                [("imported", f"{time(report.imported_at_us)} by {report.imported_by}")]
                if report.report_id
                else []
            ),
        ]
    )
    if answer.was_known:
        click.echo("\nThese bytes were imported before; nothing was changed now. The answer was:")
    elif check:
        click.echo("\nOnly checked; nothing was changed. An import would answer:")
    click.echo()
    print_table(["what", "payments", "amount"], _sums(answer))
    back = [
        result
        for result in answer.results
        if result.outcome == "applied" and result.verdict in ("rejected", "returned")
    ]
    if back:
        click.echo("\nMoney back to its owners, who are told why:")
        print_table(
            ["owner", "amount", "payout", "what", "why"],
            [
                [
                    result.owner_id,
                    amounts.cents(result.amount_micros, answer.currency),
                    result.payout_id,
                    result.verdict,
                    result.reason,
                ]
                for result in back
            ],
        )
    attention = [result for result in answer.results if result.outcome in _ATTENTION]
    if attention:
        click.echo(click.style("\nLook at these; nothing was booked for them:", fg="yellow"))
        print_table(
            ["line", "reference", "bank says", "amount", "outcome", "why"],
            [
                [
                    str(result.line_number),
                    result.reference,
                    result.status,
                    amounts.cents(result.amount_micros, answer.currency),
                    result.outcome,
                    result.detail or _ATTENTION[result.outcome],
                ]
                for result in attention
            ],
        )


def _sums(answer: pb.ImportBankStatusResponse) -> list[list[str]]:
    sums: dict[str, list[int]] = {}
    for result in answer.results:
        what = result.verdict if result.outcome == "applied" else result.outcome
        entry = sums.setdefault(what, [0, 0])
        entry[0] += 1
        entry[1] += result.amount_micros
    return [
        [what, str(count), amounts.cents(micros, answer.currency)]
        for what, (count, micros) in sorted(sums.items())
    ]


@click.command("reports")
@click.option(
    "--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="At most this many."
)
@json_option
@click.pass_obj
def reports(remote: Remote, *, limit: int, as_json: bool) -> None:
    """List imported bank reports, newest first."""
    answer: pb.ListBankReportsResponse = remote.call(
        "ListBankReports", pb.ListBankReportsRequest(limit=limit), service=PayoutServiceStub
    )
    if as_json:
        print_json(answer)
        return
    print_table(
        ["report", "format", "file", "imported", "by"],
        [
            [
                str(report.report_id),
                report.format,
                report.file_name,
                time(report.imported_at_us),
                report.imported_by,
            ]
            for report in answer.reports
        ],
    )


def _close(remote: Remote, owner: str) -> pb.CloseOutView:
    try:
        answer: pb.CloseOutResponse = remote.call(
            "CloseOut", pb.CloseOutRequest(owner_id=owner), service=PayoutServiceStub
        )
    except PoolError as error:
        if error.code is not ErrorCode.INVALID_STATE:
            raise
        raise PoolError(
            error.code,
            f"{owner} still has vehicles, {error.context.get('vehicle_id', '')} for one.",
            context=error.context,
            advice="The owner closes the account with `pool-tui close-account`, which retires them.",
        ) from error
    return answer.close_out


@click.command("close-out")
@click.argument("owner", required=False)
@json_option
@click.pass_obj
def close_out(remote: Remote, *, owner: str | None, as_json: bool) -> None:
    """Close the account of OWNER, who leaves; without OWNER list closed accounts.

    From now on every run pays what there is, below the threshold too, to the cent. When nothing is held or
    under way any more, what is left is less than a cent; it goes to the pool's rounding account and stays on
    the books there. The owner's vehicles must be retired. Running it again shows how far it is.
    """
    if owner is None:
        listed: pb.ListCloseOutsResponse = remote.call(
            "ListCloseOuts", pb.ListCloseOutsRequest(), service=PayoutServiceStub
        )
        if as_json:
            print_json(listed)
            return
        print_table(
            ["owner", "closed", "payable", "held", "under way", "obstacle"],
            [
                [
                    view.owner_id,
                    time(view.closed_at_us),
                    amounts.cents(view.available_micros, view.currency),
                    amounts.cents(view.held_micros, view.currency),
                    str(view.under_way),
                    view.obstacle or "-",
                ]
                for view in listed.close_outs
            ],
        )
        return
    view = _close(remote, owner)
    if as_json:
        print_json(view)
        return
    print_pairs(
        [
            ("owner", view.owner_id),
            ("closed", time(view.closed_at_us) if view.closed_at_us else "not yet"),
            ("payable by the next run", amounts.cents(view.available_micros, view.currency)),
            ("held, payable later", amounts.cents(view.held_micros, view.currency)),
            ("payments under way", str(view.under_way)),
            ("to rounding", amounts.amount(view.rounding_micros, view.currency)),
        ]
    )
    if view.obstacle:
        click.echo(f"\nThe next run cannot pay it: {view.obstacle}. Ask the owner for new payout details.")
