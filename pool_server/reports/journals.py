"""The books as journals that other accounting programs check: beancount v3, hledger, and a plain CSV.

Amounts are exact, six decimals. What is only reserved is not posted; it stands in the file as a comment, so
that the file holds every link of the hash chain in order. At the end each account's balance is asserted as
the ledger's own counters have it, so that both programs hold two things against each other that the pool
derives separately.

Account names keep the ledger's parts, behind the root that says what the account is in a balance sheet:
`owner:owner_abc:held` is `Liabilities:Owner:Owner--abc:Held` in both formats. No two accounts share a name:
see `account_part`.
"""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from pool_protocol.amounts import decimal
from pool_server.app.books_export import BooksSnapshot, Journal, JournalFormat, JournalPiece
from pool_server.core.ledger.about import about, code_name
from pool_server.core.ledger.chart import NATURE, Nature
from pool_server.core.ledger.model import Account, AccountCode, TransferKind, TransferRow

_ROOTS = {
    Nature.ASSET: "Assets",
    Nature.LIABILITY: "Liabilities",
    Nature.INCOME: "Income",
    Nature.EXPENSE: "Expenses",
    Nature.EQUITY: "Equity",
}
_HLEDGER_TYPES = {
    Nature.ASSET: "A",
    Nature.LIABILITY: "L",
    Nature.INCOME: "R",
    Nature.EXPENSE: "X",
    Nature.EQUITY: "E",
}
_POSTED = frozenset({TransferKind.SINGLE.value, TransferKind.POST.value})
_MICROSECONDS = 1_000_000
#: Nothing in these programs' calendars comes later; the exact time stands beside each transaction.
_LAST_SECOND = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp())


def account_part(part: str) -> str:
    """Write one part of an account's name as both programs allow it; no two parts become the same.

    A part must begin with a capital letter or a digit and go on with letters, digits and hyphens. Its first
    small letter becomes a capital, `_` becomes `--`, any other byte `-` and two hexadecimal digits; a part
    that begins otherwise is put behind `X-Z`, which nothing else begins with.
    """
    first = part[:1]
    if "a" <= first <= "z":
        return first.upper() + _escaped(part[1:])
    if "0" <= first <= "9":
        return first + _escaped(part[1:])
    return "X-Z" + _escaped(part)


def _escaped(text: str) -> str:
    return "".join(
        chr(byte)
        if chr(byte).isascii() and chr(byte).isalnum()
        else "--"
        if byte == ord("_")
        else f"-{byte:02x}"
        for byte in text.encode()
    )


def journal_account(account: Account) -> str:
    """Return an account's name in a journal."""
    root = _ROOTS[NATURE[AccountCode(account.code)]]
    return ":".join((root, *(account_part(part) for part in account.name.split(":"))))


def _date(at_us: int) -> date:
    return datetime.fromtimestamp(min(at_us // _MICROSECONDS, _LAST_SECOND), tz=UTC).date()


def _time(at_us: int) -> str:
    seconds, fraction = divmod(at_us, _MICROSECONDS)
    if seconds > _LAST_SECOND:
        return f"{at_us} us"
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{fraction:06d}Z"


def _plain(text: str) -> str:
    """Write a text into one line of ASCII that neither program, in no locale, takes for anything else."""
    return "".join(
        char if char.isascii() and char.isprintable() and char not in '"\\;' else f"<U+{ord(char):04X}>"
        for char in text
    )


def make_journal(journal_format: JournalFormat, books: BooksSnapshot) -> Journal:
    """Return the writer of a format."""
    if journal_format is JournalFormat.BEANCOUNT:
        return BeancountJournal(books)
    return HledgerJournal(books) if journal_format is JournalFormat.HLEDGER else CsvJournal(books)


class _PlainText(ABC):
    """What both plain-text formats share."""

    def __init__(self, books: BooksSnapshot) -> None:
        self._books = books
        self._names = {opened.account.account_id: opened.account.name for opened in books.accounts}
        self._journal_names = {
            opened.account.account_id: journal_account(opened.account) for opened in books.accounts
        }

    def piece(self, piece: JournalPiece) -> str:
        """Write the next transfers."""
        return "".join(
            self._transaction(row, piece) if row.kind in _POSTED else self._reserved(row)
            for row in piece.rows
        )

    @abstractmethod
    def _transaction(self, row: TransferRow, piece: JournalPiece) -> str:
        """Write what moves money."""

    def _heading(self) -> str:
        head = self._books.head
        return (
            f"; The books of {_plain(self._books.pool_id)}: transfers 1 to {head.transfer_id} of one\n"
            f"; chain of SHA-256, which ends in {head.chain_hash.hex()}.\n"
            "; Written by `pool-server ledger export`. Amounts are exact; what is only reserved stands in\n"
            "; comments. The balances asserted at the end are the counters of the ledger itself.\n\n"
        )

    def _facts(self, row: TransferRow, piece: JournalPiece) -> list[tuple[str, str]]:
        """Return what is known of a transfer beside its amount, as names and values."""
        facts = [("transfer", str(row.transfer_id)), ("time", _time(row.recorded_at_us))]
        if thing := about(row.code, row.reference_id):
            facts.append(("about", thing))
        if row.pending_id:
            facts.append(("reserved-by", str(row.pending_id)))
        if key := piece.keys.get(row.transfer_id):
            facts.append(("key", _plain(key)))
        if reason := piece.reasons.get(row.transfer_id):
            facts.append(("reason", _plain(reason)))
        facts.append(("chain", row.chain_hash.hex()))
        return facts

    def _reserved(self, row: TransferRow) -> str:
        """Write what reserves or releases and moves nothing."""
        what = "reserves" if row.kind == TransferKind.PENDING else f"releases {row.pending_id},"
        return (
            f"; {_date(row.recorded_at_us)} transfer {row.transfer_id} {code_name(row.code)} {what} "
            f"{self._amount(row.amount_micros)}, {self._route(row)}, chain {row.chain_hash.hex()}\n\n"
        )

    def _route(self, row: TransferRow) -> str:
        return _plain(f"{self._names[row.debit_account_id]} -> {self._names[row.credit_account_id]}")

    def _amount(self, micros: int) -> str:
        return f"{decimal(micros)} {self._books.currency}"

    def _sides(self, row: TransferRow) -> str:
        debit, credit = self._journal_names[row.debit_account_id], self._journal_names[row.credit_account_id]
        amount, contrary = self._amount(row.amount_micros), self._amount(-row.amount_micros)
        return f"  {debit}  {amount}\n  {credit}  {contrary}\n\n"


class BeancountJournal(_PlainText):
    """Beancount v3. `inferred_tolerance_default` is left alone: set, it would let a micro-unit pass."""

    def opening(self) -> Iterator[str]:
        """Write options, the commodity and every account, opened on the day of the first transfer."""
        yield self._heading()
        day = _date(self._books.first_at_us)
        currency = self._books.currency
        yield f'option "title" "Books of {_plain(self._books.pool_id)}"\n'
        yield f'option "operating_currency" "{currency}"\n\n{day} commodity {currency}\n\n'
        for account, opened_at_us in self._books.accounts:
            yield (
                f"{day} open {self._journal_names[account.account_id]} {currency}\n"
                f'  account: "{_plain(account.name)}"\n  opened: "{_time(opened_at_us)}"\n'
            )
        yield "\n"

    def closing(self) -> Iterator[str]:
        """Assert every balance on the day after the last transfer, to the micro-unit."""
        day = _date(self._books.head.recorded_at_us or self._books.first_at_us) + timedelta(days=1)
        for account, _ in self._books.accounts:
            # Without `~ 0` a micro-unit more or less would be tolerated: the last digit counts as a guess.
            yield (
                f"{day} balance {self._journal_names[account.account_id]} "
                f"{decimal(-account.balance_micros)} ~ 0.000000 {self._books.currency}\n"
            )

    def _transaction(self, row: TransferRow, piece: JournalPiece) -> str:
        facts = "".join(f'  {name}: "{value}"\n' for name, value in self._facts(row, piece))
        return (
            f'{_date(row.recorded_at_us)} * "{code_name(row.code)}" "{self._route(row)}"\n'
            f"{facts}{self._sides(row)}"
        )


class HledgerJournal(_PlainText):
    """hledger 1.25 or later; passes `hledger check --strict`."""

    def opening(self) -> Iterator[str]:
        """Declare the commodity and every account with its type."""
        yield self._heading()
        yield f"commodity {decimal(1_000 * _MICROSECONDS)} {self._books.currency}\n\n"
        for account, opened_at_us in self._books.accounts:
            kind = _HLEDGER_TYPES[NATURE[AccountCode(account.code)]]
            yield (
                f"account {self._journal_names[account.account_id]}  ; type:{kind}\n"
                f"  ; ledger account {_plain(account.name)}, opened {_time(opened_at_us)}\n"
            )
        yield "\n"

    def closing(self) -> Iterator[str]:
        """Assert every balance behind the last transfer."""
        day = _date(self._books.head.recorded_at_us or self._books.first_at_us)
        nothing = self._amount(0)
        for account, _ in self._books.accounts:
            yield (
                f"{day} * balance of {_plain(account.name)}\n"
                f"  {self._journal_names[account.account_id]}  {nothing} == "
                f"{self._amount(-account.balance_micros)}\n\n"
            )

    def _transaction(self, row: TransferRow, piece: JournalPiece) -> str:
        facts = "".join(f"  ; {name}: {value}\n" for name, value in self._facts(row, piece))
        return (
            f"{_date(row.recorded_at_us)} * {code_name(row.code)} | {self._route(row)}\n"
            f"{facts}{self._sides(row)}"
        )


class CsvJournal:
    """A line per transfer, reserved ones included (RFC 4180)."""

    COLUMNS = (
        "transfer",
        "time",
        "kind",
        "code",
        "code_name",
        "debit_account",
        "credit_account",
        "amount",
        "posted",
        "currency",
        "pending_transfer",
        "about",
        "key",
        "reason",
        "recorded_at_us",
        "chain_hash",
    )

    def __init__(self, books: BooksSnapshot) -> None:
        self._books = books
        self._names = {opened.account.account_id: opened.account.name for opened in books.accounts}

    def opening(self) -> Iterator[str]:
        """Write the columns' names."""
        yield _csv_lines([self.COLUMNS])

    def piece(self, piece: JournalPiece) -> str:
        """Write the next transfers."""
        return _csv_lines([self._line(row, piece) for row in piece.rows])

    def closing(self) -> Iterator[str]:
        """Write nothing: a file of lines has no end of its own."""
        return iter(())

    def _line(self, row: TransferRow, piece: JournalPiece) -> tuple[str, ...]:
        amount = decimal(row.amount_micros)
        return (
            str(row.transfer_id),
            _time(row.recorded_at_us),
            TransferKind(row.kind).name.lower(),
            str(row.code),
            code_name(row.code),
            self._names[row.debit_account_id],
            self._names[row.credit_account_id],
            amount,
            amount if row.kind in _POSTED else decimal(0),
            self._books.currency,
            str(row.pending_id or ""),
            about(row.code, row.reference_id),
            _unexecuted(piece.keys.get(row.transfer_id, "")),
            _unexecuted(piece.reasons.get(row.transfer_id, "")),
            str(row.recorded_at_us),
            row.chain_hash.hex(),
        )


def _unexecuted(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _csv_lines(lines: list[tuple[str, ...]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerows(lines)
    return buffer.getvalue()
