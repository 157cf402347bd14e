"""The CSV rail: one line per payment, RFC 4180, the same bytes for the same run."""

import csv
import hashlib
import io
from collections.abc import Sequence

from pool_protocol import amounts
from pool_protocol.money import MICROS_PER_CENT
from pool_server.core.payouts.model import PayoutRow, PayoutRun
from pool_server.ports.money import PayoutFile

COLUMNS = ("payout_id", "reference", "owner_id", "holder_name", "iban", "amount", "currency")
#: A spreadsheet takes a field that begins so for a formula, and runs it.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_field(text: str) -> str:
    """Return a field that no spreadsheet runs: one that looks like a formula is led by an apostrophe."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


class CsvRail:
    """Implements `ports.money.PayoutRail`."""

    def render(self, run: PayoutRun, rows: Sequence[PayoutRow]) -> PayoutFile:
        """Return the file of the rows that are paid, in the order of their owners."""
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for row in sorted(rows, key=lambda row: row.owner_id):
            if row.reason:
                continue
            writer.writerow(
                (
                    run.text_id,
                    row.reference,
                    row.owner_id,
                    safe_field(row.holder_name),
                    row.iban,
                    amounts.decimal(row.amount_micros, decimals=2),
                    run.currency,
                )
            )
        content = buffer.getvalue().encode()
        return PayoutFile(
            name=f"{run.text_id}.csv", content=content, sha256_hex=hashlib.sha256(content).hexdigest()
        )


def total_micros(content: bytes) -> int:
    """Return the sum of a file's amounts, to compare it with the ledger.

    Raises:
        ValueError: it is not a file of this rail.
    """
    reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(f"not a payout file: {reader.fieldnames}")
    return sum(int(row["amount"].replace(".", "")) for row in reader) * MICROS_PER_CENT
