"""`pool-tui receipts verify` and `pool-tui solvency`: is every receipt in the log, and is the money there?

Both check on this machine what the pool sends, under the pool's root document, whose fingerprint is shown: it
is the one that the car pinned when it was paired (`car-agent receipts verify --json` says it).
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from google.protobuf.message import Message

from chargepool._config import ClientConfig
from pool_protocol import amounts, log_follow
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.log_audit import AuditReport, KeptHead, KeptReceipt, audit
from pool_protocol.receipts import ReceiptVerifier
from pool_protocol.roots import Role, TrustedRoot
from pool_protocol.solvency import Statement, open_solvency, verify_counted
from pool_protocol.system import SystemClock
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import log_service_pb2 as pb
from tui.receipt_check import open_roots

_TIMEOUT_S = 60.0
_PAGE = 1_000

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """An open pool: its calls, and the root that everything is checked with."""

    account: Any
    log: Any
    root: TrustedRoot
    clock: Clock

    def call(self, method: str, request: Message) -> Any:
        """Make a call of LogService; refusals are raised as PoolError."""
        return _called(self.log, method, request)

    @property
    def words(self) -> dict[str, Any]:
        """What every check of a signature takes."""
        return {
            "keys": self.root.keys_for(Role.RECEIPT),
            "pool_id": self.root.document.pool_id,
            "now_us": self.clock.now_us(),
        }


@click.group()
def receipts() -> None:
    """Check all your receipts, of all your vehicles."""


@receipts.command("verify")
@json_option
@click.pass_obj
def verify_receipts(pool: ClientConfig, *, as_json: bool) -> None:
    """Fetch all receipts and check signature, sums, and their place in the pool's log.

    Exit status 1 when anything does not hold.
    """
    with _opened(pool) as opened:
        report = _audit(opened)
        fingerprint = opened.root.fingerprint
    if as_json:
        click.echo(json.dumps(_report_json(report, fingerprint), indent=2))
    else:
        waiting = f", {report.waiting} not in the log yet" if report.waiting else ""
        click.echo(
            f"{report.receipts} receipts: {report.signed} signed, {report.logged} in the log{waiting}; "
            f"net {amounts.amount(report.net_micros)}. Root fingerprint {fingerprint[:16]}."
        )
        for fault in report.faults:
            click.echo(f"WRONG {fault.code} {fault.what}: {fault.sentence}")
    if not report.ok:
        sys.exit(1)


@click.group()
def solvency() -> None:
    """What the pool owes against what its bank is said to hold."""


@solvency.command("show")
@click.option("--date", default="", help="The last statement made on this day (UTC).")
@json_option
@click.pass_obj
def show_solvency(pool: ClientConfig, *, date: str, as_json: bool) -> None:
    """Show the pool's signed statement."""
    with _opened(pool) as opened:
        statement = _statement(opened, date=date)
    _show(statement, as_json=as_json, counted=None)


@solvency.command("verify")
@json_option
@click.pass_obj
def verify_solvency(pool: ClientConfig, *, as_json: bool) -> None:
    """Have it proved that your own balances are counted in the newest statement.

    What your receipts come to, less what you were paid, must be counted. Exit status 1 when it is not.
    """
    with _opened(pool) as opened:
        statement = _statement(opened, date="")
        request = pb.GetLiabilityProofsRequest(statement_id=statement.statement_id)
        answer: pb.GetLiabilityProofsResponse = opened.call("GetLiabilityProofs", request)
        counted = {proof.account: verify_counted(proof, statement) for proof in answer.proofs}
        missing = _missing(opened, statement, counted_micros=sum(counted.values()))
    _show(statement, as_json=as_json, counted=counted, missing_micros=missing)
    if missing:
        if not as_json:
            click.echo(
                f"MISSING: by your receipts {amounts.amount(missing, statement.currency)} more should be "
                "counted. Unless a look-back took that much back (`pool-tui evidence VEHICLE`), the pool "
                "left you out."
            )
        sys.exit(1)


def _missing(opened: _Pool, statement: Statement, *, counted_micros: int) -> int:
    """Return what of the receipts signed before the statement was neither counted in it nor paid out."""
    from pool_protocol.v1 import account_service_pb2 as account_pb

    verifier = ReceiptVerifier(opened.words["keys"], pool_id=opened.words["pool_id"])
    found = (verifier.verify(one, now_us=opened.words["now_us"]) for one in _all_receipts(opened))
    earned = sum(one.receipt.net_micros for one in found if one.signed_at_us <= statement.made_at_us)
    # What was paid since the statement makes this too lenient, never too strict.
    paid = _called(opened.account, "GetEarnings", account_pb.GetEarningsRequest()).paid_micros
    return max(0, earned - int(paid) - counted_micros)


def _audit(opened: _Pool) -> AuditReport:
    followed = log_follow.run(log_follow.follow_head(None, **opened.words), opened.call)
    proven = [receipt.SerializeToString() for receipt in _all_receipts(opened)]
    if followed is None:
        kept = [KeptReceipt(proven=one, proof=b"", tree_size=0) for one in proven]
        return audit(kept, [], **opened.words)
    head = followed.head
    proofs = log_follow.run(log_follow.prove_places(proven, head), opened.call)
    kept = [
        KeptReceipt(
            proven=one,
            proof=b"" if proof is None else proof.SerializeToString(),
            tree_size=0 if proof is None else head.tree_size,
        )
        for one, proof in zip(proven, proofs, strict=True)
    ]
    return audit(kept, [KeptHead(envelope=head.envelope, path=())], **opened.words)


def _all_receipts(opened: _Pool) -> Iterator[common_pb2.ProvenReceipt]:
    from pool_protocol.v1 import account_service_pb2 as account_pb

    token = ""
    while True:
        page = common_pb2.PageRequest(page_size=_PAGE, page_token=token)
        answer = _called(opened.account, "ListReceipts", account_pb.ListReceiptsRequest(page=page))
        yield from answer.receipts
        token = answer.next_page_token
        if not token:
            return


def _statement(opened: _Pool, *, date: str) -> Statement:
    answer: pb.GetSolvencyResponse = opened.call("GetSolvency", pb.GetSolvencyRequest(date=date))
    if not answer.HasField("statement"):
        raise PoolError(
            ErrorCode.NOT_FOUND, "the pool has made no statement yet", advice="Ask its operator for one."
        )
    return open_solvency(answer.statement, **opened.words)


def _show(
    statement: Statement, *, as_json: bool, counted: dict[str, int] | None, missing_micros: int = 0
) -> None:
    if as_json:
        content = {
            **statement.to_json(),
            "own_counted": counted,
            "own_missing_micros": None if counted is None else missing_micros,
        }
        click.echo(json.dumps(content, indent=2))
        return
    click.echo(statement.sentence(amounts.amount))
    for kind, amount in statement.owed:
        click.echo(f"  {kind.replace('_', ' '):<20} {amounts.amount(amount):>18}")
    if counted is None:
        return
    if not counted and not missing_micros:
        click.echo("You had no money in the pool when it was made: there is nothing of yours to count.")
    for account, balance in counted.items():
        click.echo(f"Counted: {account.rsplit(':', 1)[-1]} {amounts.amount(balance, statement.currency)}")


@contextmanager
def _opened(config: ClientConfig) -> Iterator[_Pool]:
    """Open a pool for checks; what is refused, or does not hold, ends the command with its words."""
    from chargepool._channel import open_channel
    from pool_protocol.v1 import (
        account_service_pb2_grpc,
        fleet_service_pb2,
        fleet_service_pb2_grpc,
        log_service_pb2_grpc,
    )

    channel = open_channel(config.address, ca_pem=config.ca_pem, token=config.token)
    clock = SystemClock()
    try:
        fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
        roots = _called(fleet, "GetRoot", fleet_service_pb2.GetRootRequest()).roots
        root = open_roots(roots, now_us=clock.now_us())
        if root is None:
            raise PoolError(ErrorCode.ROOT_INVALID, "the pool sent no root document")
        yield _Pool(
            account=account_service_pb2_grpc.AccountServiceStub(channel),
            log=log_service_pb2_grpc.LogServiceStub(channel),
            root=root,
            clock=clock,
        )
    except PoolError as error:
        raise click.ClickException(
            f"{error.public} ({error.detail}) {error.next_step} ({error.code.value})"
        ) from error
    finally:
        channel.close()


def _called(stub: Any, method: str, request: Message) -> Any:
    import grpc

    from pool_protocol.grpc_status import from_rpc_error

    try:
        return getattr(stub, method)(request, timeout=_TIMEOUT_S)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


def _report_json(report: AuditReport, fingerprint: str) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "receipts": report.receipts,
        "signed": report.signed,
        "logged": report.logged,
        "waiting": report.waiting,
        "gross_micros": report.gross_micros,
        "net_micros": report.net_micros,
        "tree_size": 0 if report.head is None else report.head.tree_size,
        "root_fingerprint": fingerprint,
        "faults": [fault.to_json() for fault in report.faults],
    }
