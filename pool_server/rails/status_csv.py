"""Reads a table of what became of payments, for banks that report neither pain.002 nor camt.054.

Columns `reference,status,amount,currency,reason`, RFC 4180, UTF-8; status is settled, rejected or returned;
the amount must be the payment's. A message's name as reference stands for all of its run, with the run's
total as amount: so a file that never went to the bank is taken back in one line.
"""

import csv
import io

from pool_server.core.payouts.bank_report import BankReport, ReportLine, Verdict
from pool_server.core.payouts.references import payout_id_of
from pool_server.rails.amounts import amount_micros
from pool_server.rails.bank_xml import REPORT_BYTES_MAX, unreadable

COLUMNS = ("reference", "status", "amount", "currency", "reason")
FORMAT = "csv"
_VERDICTS = {
    "settled": Verdict.SETTLED,
    "rejected": Verdict.REJECTED,
    "returned": Verdict.RETURNED,
}
_REASON_CHARACTERS_MAX = 140


def read(content: bytes) -> BankReport:
    """Read a table.

    Raises:
        PoolError: INVALID_ARGUMENT naming the line that is wrong.
    """
    if len(content) > REPORT_BYTES_MAX:
        raise unreadable(f"it has {len(content)} bytes, more than {REPORT_BYTES_MAX}")
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise unreadable(f"its first line is not {','.join(COLUMNS)}")
        lines = tuple(_line(number, row) for number, row in enumerate(reader, start=2))
    except (UnicodeDecodeError, csv.Error) as error:
        raise unreadable(f"it is not a table in UTF-8 ({error})") from error
    if not lines:
        raise unreadable("it says nothing of any payment")
    return BankReport(format=FORMAT, message_id="", lines=lines)


def _line(number: int, row: dict[str, str | None]) -> ReportLine:
    values = {column: (row.get(column) or "").strip() for column in COLUMNS}
    verdict = _VERDICTS.get(values["status"].lower())
    if verdict is None or not values["reference"] or None in row:
        raise unreadable(f"line {number} needs a reference and a status: settled, rejected or returned")
    reason = values["reason"]
    if len(reason) > _REASON_CHARACTERS_MAX:
        raise unreadable(f"line {number}: a reason has at most {_REASON_CHARACTERS_MAX} characters")
    is_code = len(reason) == 4 and reason.isascii() and reason.isalnum() and reason.isupper()
    is_whole_run = payout_id_of(values["reference"]) is not None
    return ReportLine(
        verdict=verdict,
        status=values["status"].lower(),
        reference="" if is_whole_run else values["reference"],
        message=values["reference"] if is_whole_run else "",
        amount_micros=amount_micros(values["amount"]),
        currency=values["currency"],
        reason_code=reason if is_code else "",
        reason_text="" if is_code else reason,
    )
