"""Reads whatever a bank reports with: looks at what the file is, and hands it to its reader."""

from dataclasses import replace

from pool_server.core.payouts.bank_report import BankReport, ReportLine
from pool_server.rails import camt054, pain002, status_csv
from pool_server.rails.bank_xml import read_xml, unreadable

_NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:"
_READERS = {
    **dict.fromkeys(pain002.VERSIONS, pain002.read),
    **dict.fromkeys(camt054.VERSIONS, camt054.read),
}
_BOM = b"\xef\xbb\xbf"
#: Of what the bank says in words, this much is kept; it is shown, never sent on.
_TEXT_CHARACTERS_MAX = 500
_REFERENCE_CHARACTERS_MAX = 80


class BankReports:
    """Implements `ports.banks.BankReportReader`."""

    def read(self, content: bytes) -> BankReport:
        """Read a file: pain.002 (.03, .10), camt.054 (.02, .08) or this pool's CSV.

        Raises:
            PoolError: INVALID_ARGUMENT when it is none of them, or not sound.
        """
        if content.removeprefix(_BOM).startswith(",".join(status_csv.COLUMNS).encode()):
            report = status_csv.read(content)
        else:
            namespace, root = read_xml(content)
            version = namespace.removeprefix(_NAMESPACE)
            reader = _READERS.get(version)
            if root.name != "Document" or not namespace.startswith(_NAMESPACE) or reader is None:
                known = ", ".join(_READERS)
                raise unreadable(
                    f"it is {namespace[:80] or root.name[:80]!r}; this pool reads {known} and CSV"
                )
            report = reader(version, root)
        return replace(
            report,
            message_id=_clean(report.message_id, _REFERENCE_CHARACTERS_MAX),
            lines=tuple(_printable(line) for line in report.lines),
        )


def _printable(line: ReportLine) -> ReportLine:
    """Return a line whose texts are of sane length and hold nothing that moves a terminal's cursor."""
    return replace(
        line,
        status=_clean(line.status, _REFERENCE_CHARACTERS_MAX),
        reference=_clean(line.reference, _REFERENCE_CHARACTERS_MAX),
        message=_clean(line.message, _REFERENCE_CHARACTERS_MAX),
        block=_clean(line.block, _REFERENCE_CHARACTERS_MAX),
        currency=_clean(line.currency, 3),
        reason_code=_clean(line.reason_code, 35),
        reason_text=_clean(line.reason_text, _TEXT_CHARACTERS_MAX),
    )


def _clean(text: str, characters_max: int) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:characters_max]
