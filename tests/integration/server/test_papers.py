"""Papers over the wire: whose they are, that they are whole, and what the three commands make of them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
from click.testing import CliRunner, Result

from chargepool.cli import cli as buyer_cli
from chargepool.cli import run_command
from pool_protocol import amounts
from pool_protocol.errors import ErrorCode
from pool_protocol.file_parts import ReceivedFile, whole_files
from pool_protocol.system import SystemClock
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import particulars_service_pb2 as particulars_pb
from pool_protocol.v1 import report_service_pb2 as pb
from pool_server.cli.root import cli as operator_cli
from pool_server.core.statement import date_of
from pool_server.reports.paper import pages_of
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, PrincipalHandle, code_of, running_pool
from tui.cli import main as owner_cli

PDF, CSV = pb.PAPER_FORMAT_PDF, pb.PAPER_FORMAT_CSV
HOUR_S = 3_600


class Month:
    """A pool in which one car worked for one buyer, in a month that is over."""

    def __init__(self, pool: PoolHandle) -> None:
        clock = pool.clock
        assert isinstance(clock, ManualClock)
        self.pool = pool
        self.month = date_of(clock.now_us())[:7]
        self.buyer = FakeBuyer.with_money(pool, name="Bea & Söhne")
        self.car = FakeCar(pool, name="=cmd|' /C calc'!A0")
        self.idle = pool.create_principal("owner", "Idle")
        self.buyer.open_job([1, 2])
        self.car.work()
        while date_of(clock.now_us())[:7] == self.month:
            clock.advance(seconds=12 * HOUR_S)

    @property
    def owner(self) -> PrincipalHandle:
        return self.car.owner


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Month]:
    clock = ManualClock(SystemClock().now_us())
    settings: dict[str, Any] = {
        "legal_name": "Rechenpool GmbH",
        "vat_ppm": 190_000,
        "buyer_document": "invoice",
    }
    with running_pool(
        tmp_path_factory.mktemp("papers"), vet=vet_without_jax, clock=clock, dispute_window_s=60, **settings
    ) as pool:
        yield Month(pool)


@pytest.fixture(autouse=True)
def _no_locale_is_left_behind() -> Iterator[None]:
    yield
    amounts.use_locale("")


def one_file(answers: Iterable[Any]) -> ReceivedFile:
    [file] = whole_files(answer.part for answer in answers)
    return file


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def refused(call: Any, code: ErrorCode) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        list(call)
    assert code_of(refusal.value) == code.value


# --- over the wire ------------------------------------------------------------------------------


def test_an_owner_gets_its_own_statement_the_same_bytes_each_time(month: Month) -> None:
    def ask(wanted: pb.PaperFormat.ValueType, who: PrincipalHandle) -> ReceivedFile:
        request = pb.GetOwnerStatementRequest(month=month.month, format=wanted)
        return one_file(month.pool.reports().GetOwnerStatement(request, metadata=who.metadata))

    pdf = ask(PDF, month.owner)
    assert pdf.content.startswith(b"%PDF-")
    assert pdf.content == ask(PDF, month.owner).content
    assert hashlib.sha256(pdf.content).hexdigest() == pdf.sha256
    assert pages_of(pdf.content) == 1
    statement = month.pool.account().GetStatement(
        account_pb.GetStatementRequest(month=month.month), metadata=month.owner.metadata
    )
    text = ask(CSV, month.owner)
    assert text.content == statement.csv
    assert [row["receipt"] for row in rows(text.content) if row["kind"] == "work"] == ["1", "2"]
    assert "work" not in {row["kind"] for row in rows(ask(CSV, month.idle).content)}
    for wrong in ("2026-13", "", "november"):
        request = pb.GetOwnerStatementRequest(month=wrong)
        refused(
            month.pool.reports().GetOwnerStatement(request, metadata=month.owner.metadata),
            ErrorCode.INVALID_ARGUMENT,
        )
    strange = pb.GetOwnerStatementRequest(month=month.month, format=9)  # type: ignore[arg-type] # a liar's
    refused(
        month.pool.reports().GetOwnerStatement(strange, metadata=month.owner.metadata),
        ErrorCode.INVALID_ARGUMENT,
    )


def test_a_buyers_invoice_is_issued_once_and_its_usage_adds_up_to_it(month: Month) -> None:
    who = month.buyer.principal.metadata

    def ask(wanted: pb.PaperFormat.ValueType) -> tuple[ReceivedFile, str]:
        request = pb.GetBuyerInvoiceRequest(month=month.month, format=wanted)
        answers = list(month.pool.reports().GetBuyerInvoice(request, metadata=who))
        return one_file(answers), answers[0].number

    pdf, number = ask(PDF)
    assert number == f"INV-{month.month[:4]}-000001"
    assert pdf.name == f"{number}.pdf"
    particulars = particulars_pb.Particulars(display_name="Bea", vat_scheme="exempt")
    month.pool.particulars().SetBuyerParticulars(
        particulars_pb.SetBuyerParticularsRequest(particulars=particulars), metadata=who
    )
    assert ask(PDF) == (pdf, number), "issued before the name was given: it stays as it was"
    lines = rows(ask(CSV)[0].content)
    total = next(row for row in lines if row["line"] == "total work")
    assert (total["amount"], total["vat_rate_percent"]) == ("-2.000000", "19.0000")
    assert total["vat_amount"] == "0.319327"
    assert next(row for row in lines if row["line"] == "work")["job_name"] == "squares"

    usage = one_file(
        month.pool.reports().GetBuyerUsage(pb.GetBuyerUsageRequest(month=month.month), metadata=who)
    )
    billed = [row for row in rows(usage.content) if row["InvoiceId"] == number]
    assert sum(Decimal(row["BilledCost"]) for row in billed) == 2
    assert {row["x_VerificationLevel"] for row in billed} == {"none"}

    now = date_of(month.pool.clock.now_us())[:7]
    request = pb.GetBuyerInvoiceRequest(month=now)
    refused(month.pool.reports().GetBuyerInvoice(request, metadata=who), ErrorCode.NOT_FOUND)
    month.pool.deposit(month.buyer.principal, 1_000_000, reference="later")
    preview = list(month.pool.reports().GetBuyerInvoice(request, metadata=who))
    assert (preview[0].number, preview[0].part.file_name) == ("", f"preview_{now}.pdf")


def test_invoices_that_are_asked_for_at_once_have_numbers_without_gaps(tmp_path: Path) -> None:
    clock = ManualClock(SystemClock().now_us())
    with running_pool(tmp_path, vet=vet_without_jax, clock=clock) as pool:
        buyers = [pool.create_principal("buyer", f"buyer {number}") for number in range(6)]
        for buyer in buyers:
            pool.deposit(buyer, 1_000_000)
        month = date_of(clock.now_us())[:7]
        while date_of(clock.now_us())[:7] == month:
            clock.advance(seconds=12 * HOUR_S)
        reports = pool.reports()

        def ask(buyer: PrincipalHandle) -> tuple[str, bytes]:
            request = pb.GetBuyerInvoiceRequest(month=month)
            answers = list(reports.GetBuyerInvoice(request, metadata=buyer.metadata))
            return answers[0].number, one_file(answers).content

        with ThreadPoolExecutor(max_workers=12) as threads:
            first = dict(zip(buyers * 2, threads.map(ask, buyers * 2), strict=True))
        numbers = sorted(number for number, _ in first.values())
        assert numbers == [f"USE-{month[:4]}-{number:06d}" for number in range(1, 7)]
        assert {buyer: ask(buyer) for buyer in buyers} == first


def test_operators_get_everybodys_papers(month: Month) -> None:
    who, reports = month.pool.operator.metadata, month.pool.reports()
    answers = list(reports.ExportStatements(pb.ExportStatementsRequest(month=month.month), metadata=who))
    assert {answer.owner_id for answer in answers} == {month.owner.principal_id}, "the idle one has none"
    names = [file.name for file in whole_files(answer.part for answer in answers)]
    assert names == [
        f"statement_{month.month}_{month.owner.principal_id}.{ending}" for ending in ("pdf", "csv")
    ]
    invoices = list(
        reports.ExportInvoices(pb.ExportInvoicesRequest(month=month.month, formats=[PDF]), metadata=who)
    )
    assert [answer.total_micros for answer in invoices] == [2_000_000]
    running = pb.ExportInvoicesRequest(month=date_of(month.pool.clock.now_us())[:7])
    refused(reports.ExportInvoices(running, metadata=who), ErrorCode.INVALID_ARGUMENT)

    report = month.pool.admin().GetReport(admin_pb.GetReportRequest(month=month.month), metadata=who)
    assert (report.take_rate_ppm, report.net_take_rate_ppm) == (100_000, 100_000)
    assert [mover.net_micros for mover in report.movers] == [1_800_000]
    text = one_file(reports.ExportReport(pb.ExportReportRequest(month=month.month, format=CSV), metadata=who))
    assert text.content.count(b"\r\n") == report.csv.count(b"\r\n")
    paper = one_file(reports.ExportReport(pb.ExportReportRequest(), metadata=who))
    assert paper.content.startswith(b"%PDF-")

    year = int(month.month[:4])
    for wanted in (pb.YEARLY_FORMAT_DAC7, pb.YEARLY_FORMAT_1099):
        request = pb.ExportYearlyRequest(year=year, format=wanted)
        yearly = list(reports.ExportYearly(request, metadata=who))
        [line] = rows(one_file(yearly).content)
        assert line["owner_id"] == month.owner.principal_id
        [missing] = yearly[0].missing
        assert list(missing.fields) == line["missing"].split()
    refused(reports.ExportYearly(pb.ExportYearlyRequest(year=year), metadata=who), ErrorCode.INVALID_ARGUMENT)
    wrong = pb.ExportYearlyRequest(year=7, format=pb.YEARLY_FORMAT_DAC7)
    refused(reports.ExportYearly(wrong, metadata=who), ErrorCode.INVALID_ARGUMENT)


def test_particulars_are_kept_for_their_holder_and_for_operators(month: Month) -> None:
    stub = month.pool.particulars()
    wanted = particulars_pb.Particulars(
        locale="de-de", display_name="Jürgen", country="de", kind="person", address_lines=["Hauptstr. 1"]
    )
    kept = stub.SetOwnerParticulars(
        particulars_pb.SetOwnerParticularsRequest(particulars=wanted), metadata=month.idle.metadata
    ).particulars
    assert (kept.locale, kept.country) == ("de_DE", "DE")
    request = particulars_pb.GetAccountParticularsRequest(principal_id=month.idle.principal_id)
    seen = stub.GetAccountParticulars(request, metadata=month.pool.operator.metadata).particulars
    assert seen == kept
    for field, value in (("locale", "xx_XX"), ("country", "ZZ"), ("kind", "robot"), ("vat_scheme", "none")):
        bad = particulars_pb.Particulars(**{field: value})
        with pytest.raises(grpc.RpcError) as refusal:
            stub.SetOwnerParticulars(
                particulars_pb.SetOwnerParticularsRequest(particulars=bad), metadata=month.idle.metadata
            )
        assert code_of(refusal.value) == ErrorCode.INVALID_ARGUMENT.value
    for nobody in ("owner_nobody", month.pool.operator.principal_id, ""):
        ask = particulars_pb.GetAccountParticularsRequest(principal_id=nobody)
        with pytest.raises(grpc.RpcError) as refusal:
            stub.GetAccountParticulars(ask, metadata=month.pool.operator.metadata)
        assert code_of(refusal.value) == ErrorCode.NOT_FOUND.value


def test_news_are_in_the_locale_of_the_account(month: Month) -> None:
    def news() -> str:
        answer = month.pool.account().ListEvents(
            account_pb.ListEventsRequest(), metadata=month.owner.metadata
        )
        return next(event.message for event in answer.events if event.code == "VERIFIED")

    assert "1.800000 EUR net" in news()
    month.pool.particulars().SetOwnerParticulars(
        particulars_pb.SetOwnerParticularsRequest(particulars=particulars_pb.Particulars(locale="de_DE")),
        metadata=month.owner.metadata,
    )
    assert "1,800000 EUR net" in news()
    month.pool.particulars().SetOwnerParticulars(
        particulars_pb.SetOwnerParticularsRequest(), metadata=month.owner.metadata
    )


# --- the three commands -------------------------------------------------------------------------


def run(command: click.Command, arguments: list[str], *, expect: int = 0) -> Result:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == expect, (result.output, result.exception)
    return result


def client_options(pool: PoolHandle, who: PrincipalHandle, tmp_path: Path) -> list[str]:
    token = tmp_path / f"{who.principal_id}.token"
    token.write_text(who.token)
    return ["--address", pool.api_address, "--token-file", str(token)]


def test_the_owners_commands(month: Month, tmp_path: Path) -> None:
    options = [*client_options(month.pool, month.owner, tmp_path), "--ca-file", str(month.pool.ca_file)]
    pdf, text = tmp_path / "s.pdf", tmp_path / "s.csv"
    told = run(
        owner_cli, [*options, "statement", "--month", month.month, "--pdf", str(pdf), "--csv", str(text)]
    )
    assert "net                       1.800000 EUR" in told.output
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert rows(text.read_bytes())[-1]["kind"] == "closing"
    run(owner_cli, [*options, "account", "set", "--locale", "de_DE", "--name", "Olga"])
    assert "1,800000 EUR" in run(owner_cli, [*options, "statement", "--month", month.month]).output
    shown = json.loads(run(owner_cli, [*options, "account", "show", "--json"]).output)
    assert (shown["locale"], shown["display_name"]) == ("de_DE", "Olga")
    cleared = run(owner_cli, [*options, "account", "set", "--clear", "locale", "--clear", "display_name"])
    assert "name          -" in cleared.output
    figures = json.loads(run(owner_cli, [*options, "statement", "--month", month.month, "--json"]).output)
    assert figures["net_micros"] == 1_800_000
    for arguments in (["account", "set"], ["account", "set", "--name", "x", "--clear", "display_name"]):
        run(owner_cli, [*options, *arguments], expect=2)
    refusal = run(owner_cli, [*options, "account", "set", "--tax-id", "=1"], expect=1)
    assert "tax_id: 3 to 24 letters and digits" in refusal.output
    nowhere = [*options, "statement", "--month", month.month, "--pdf", str(tmp_path / "no" / "where.pdf")]
    assert "cannot write" in run(owner_cli, nowhere, expect=1).output


def test_the_buyers_commands(month: Month, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*client_options(month.pool, month.buyer.principal, tmp_path), "--ca", str(month.pool.ca_file)]
    pdf, usage = tmp_path / "i.pdf", tmp_path / "u.csv"
    asked = run(buyer_cli, ["invoice", "--month", month.month, "--out", str(pdf), "--json", *options])
    assert json.loads(asked.output)["number"].startswith("INV-")
    assert pdf.read_bytes().startswith(b"%PDF-")
    run(buyer_cli, ["invoice", "--month", month.month, "--out", str(tmp_path / "i.doc"), *options], expect=2)
    empty = run_command(["invoice", "--month", "2020-01", "--out", str(pdf), *options])
    assert empty == 1
    assert "Nothing was paid in or used in 2020-01" in capsys.readouterr().err
    run(buyer_cli, ["usage", "--focus", str(usage), "--month", month.month, *options])
    assert rows(usage.read_bytes())[0]["ProviderName"] == "Rechenpool GmbH"
    run(buyer_cli, ["usage", "--focus", str(usage), *options])
    assert len(usage.read_bytes().splitlines()) >= 1, "this month by the machine's own clock"
    run(buyer_cli, ["account", "set", "--locale", "fr_FR", *options])
    assert "locale        fr_FR" in run(buyer_cli, ["account", "show", *options]).output
    balance = run(buyer_cli, ["balance", *options]).output
    assert "2,000000" in balance, "what was spent, as the account reads it"
    run(buyer_cli, ["account", "set", "--clear", "locale", *options])


def test_the_operators_commands(month: Month, tmp_path: Path) -> None:
    options = ["--data", str(month.pool.data_dir)]
    folder, dac7, pdf = tmp_path / "out", tmp_path / "dac7.csv", tmp_path / "report.pdf"
    done = run(operator_cli, [*options, "report", "statements", "--month", month.month, "--out", str(folder)])
    assert f"2 files in {folder}" in done.output
    assert sorted(path.suffix for path in folder.iterdir()) == [".csv", ".pdf"]
    asked = [*options, "report", "invoices", "--month", month.month, "--out", str(folder), "--format", "pdf"]
    written = json.loads(run(operator_cli, [*asked, "--json"]).stdout)
    [entry] = written["files"]
    assert hashlib.sha256((folder / entry["name"]).read_bytes()).hexdigest() == entry["sha256"]
    year = month.month[:4]
    yearly = [*options, "report", "yearly", "--year", year, "--format", "dac7", "--out", str(dac7)]
    assert "1 owners have not said" in run(operator_cli, yearly).output
    owner_id = month.owner.principal_id
    run(operator_cli, [*options, "account", "set", owner_id, "--kind", "company", "--name", "=cmd()"])
    assert json.loads(run(operator_cli, [*yearly, "--json"]).output)["missing"][owner_id] == [
        "address_lines",
        "country",
        "tax_id",
    ]
    assert rows(dac7.read_bytes())[0]["name"] == "'=cmd()"
    run(operator_cli, [*options, "account", "set", owner_id, "--clear", "kind", "--clear", "display_name"])
    told = run(operator_cli, [*options, "report", "--month", month.month, "--pdf", str(pdf)]).output
    for words in (
        "take rate (fees per gross)",
        "10 %",
        "held money by age",
        "movers against the month before",
    ):
        assert words in told
    assert pdf.read_bytes().startswith(b"%PDF-")
    german = run(operator_cli, ["--locale", "de_DE", *options, "report", "--month", month.month]).output
    assert "1,800000 EUR" in german
    misplaced = [*options, "report", "--month", month.month, "statements", "--out", str(folder)]
    run(operator_cli, misplaced, expect=2)
