"""CSV as RFC 4180 has it, UTF-8; and cells that no spreadsheet reads as a formula."""

import csv
import io
from collections.abc import Iterable, Sequence

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def written(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Return a file: a header and rows, all of one length."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def typed(text: str) -> str:
    """Return what somebody typed as a cell: what looks like a formula is led by an apostrophe."""
    line = " ".join(text.splitlines())
    return f"'{line}" if line.startswith(_FORMULA_STARTS) else line
