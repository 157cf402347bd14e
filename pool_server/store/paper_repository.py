"""Papers in SQL: issued documents, and sums over the log that only papers ask for."""

from collections.abc import Sequence
from typing import Any

from pool_protocol.limits import DAY_US, HOUR_US
from pool_server.core.ledger import accounts as chart
from pool_server.core.ledger.model import AccountCode, TransferCode
from pool_server.ports.papers import BuyerFlow, ChargeRow, IssuedDocument, OwnerFlow
from pool_server.store.driver import Driver
from pool_server.store.statements import insert_many
from pool_server.store.tables.ledger import OUTSIDE_HOT_PATH

_DOCUMENT_COLUMNS = (
    "document_id, buyer_id, month, kind, number, total_micros, pdf, pdf_sha256, csv, csv_sha256, issued_at_us"
)
#: Accounts whose money is an owner's.
_OWNERS = ", ".join(
    str(int(code))
    for code in (AccountCode.OWNER_HELD, AccountCode.OWNER_AVAILABLE, AccountCode.OWNER_QUESTIONED)
)
#: Kinds of transfers that move posted money: SINGLE and POST.
_POSTS = "t.kind IN (0, 2)"
_CHARGED = (
    "FROM receipts r JOIN transfers t ON t.transfer_id = r.transfer_id "
    "JOIN accounts a ON a.account_id = t.debit_account_id "
    "LEFT JOIN attempt_energy e ON e.attempt_id = r.attempt_id "
    "WHERE r.verified_at_us >= ? AND r.verified_at_us < ? AND a.sweep_to_account_id > 0 "
    "AND (? = 0 OR a.sweep_to_account_id = ?) AND r.receipt_id >= ? AND r.receipt_id <= ? "
)
#: One side of what crosses the border of a buyer's accounts, found through the buyer's few accounts.
_BUYER_FLOW = (
    "SELECT t.transfer_id, t.recorded_at_us, t.code, t.reference_id, {sign}t.amount_micros AS amount "
    "FROM accounts a JOIN transfers t ON t.{mine}_account_id = a.account_id "
    "JOIN accounts o ON o.account_id = t.{other}_account_id "
    "WHERE (a.account_id = ? OR (a.sweep_to_account_id = ? AND a.sweep_to_account_id > 0)) "
    f"AND {_POSTS} AND {OUTSIDE_HOT_PATH.replace('code', 't.code')} "
    "AND t.recorded_at_us >= ? AND t.recorded_at_us < ? "
    "AND o.account_id <> ? AND o.sweep_to_account_id <> ?"
)
_BUYER_FLOWS = (
    _BUYER_FLOW.format(sign="", mine="credit", other="debit")
    + " UNION ALL "
    + _BUYER_FLOW.format(sign="-", mine="debit", other="credit")
)


class SqlPaperRepository:
    """Implements `ports.papers.PaperRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def document(self, buyer_id: str, month: str) -> IssuedDocument | None:
        row = self._driver.run(
            f"SELECT {_DOCUMENT_COLUMNS} FROM buyer_documents WHERE buyer_id = ? AND month = ?",
            (buyer_id, month),
        ).one_or_none()
        return None if row is None else _document(row)

    def documents(self, month: str) -> list[IssuedDocument]:
        rows = self._driver.run(
            f"SELECT {_DOCUMENT_COLUMNS} FROM buyer_documents WHERE month = ? ORDER BY document_id", (month,)
        )
        return [_document(row) for row in rows]

    def next_document_id(self) -> int:
        last = self._driver.run("SELECT COALESCE(MAX(document_id), 0) FROM buyer_documents").scalar_one()
        return int(last) + 1

    def issue(self, document: IssuedDocument) -> None:
        row = (
            document.document_id,
            document.buyer_id,
            document.month,
            document.kind,
            document.number,
            document.total_micros,
            document.pdf,
            document.pdf_sha256,
            document.csv,
            document.csv_sha256,
            document.issued_at_us,
        )
        insert_many(self._driver, "buyer_documents", _DOCUMENT_COLUMNS, [row])

    def charges(self, *, from_us: int, until_us: int, buyer_account_id: int = 0) -> list[ChargeRow]:
        key = f"a.sweep_to_account_id, r.verified_at_us / {DAY_US}, r.job_id, r.price_micros_per_wu"
        rows = self._driver.run(
            f"SELECT {key}, COUNT(*), SUM(r.work_uwu), SUM(t.amount_micros), "
            f"COALESCE(SUM(e.energy_mj), 0), COUNT(e.attempt_id) {_CHARGED} "
            f"GROUP BY {key} ORDER BY a.sweep_to_account_id, r.job_id, 2, r.price_micros_per_wu",
            (
                from_us,
                until_us,
                buyer_account_id,
                buyer_account_id,
                *self._receipts_of(from_us=from_us, until_us=until_us),
            ),
        )
        return [ChargeRow(*map(int, row)) for row in rows]

    def charged(self, *, buyer_account_id: int) -> int:
        paid = self._driver.run(
            "SELECT COALESCE(SUM(debits_posted), 0) FROM accounts "
            "WHERE sweep_to_account_id = ? AND sweep_to_account_id > 0",
            (buyer_account_id,),
        ).scalar_one()
        returned = self._driver.run(
            "SELECT COALESCE(SUM(amount_micros), 0) FROM transfers "
            f"WHERE credit_account_id = ? AND code = {int(TransferCode.RELEASE)} AND {OUTSIDE_HOT_PATH}",
            (buyer_account_id,),
        ).scalar_one()
        return int(paid) - int(returned)

    def buyer_flows(self, *, buyer_account_id: int, from_us: int, until_us: int) -> list[BuyerFlow]:
        buyer = (buyer_account_id, buyer_account_id)
        rows = self._driver.run(_BUYER_FLOWS, (*buyer, from_us, until_us, *buyer) * 2)
        return sorted(BuyerFlow(*map(int, row)) for row in rows)

    def buyer_flows_before(self, *, buyer_account_id: int, before_us: int) -> int:
        buyer = (buyer_account_id, buyer_account_id)
        total = self._driver.run(
            f"SELECT COALESCE(SUM(amount), 0) FROM ({_BUYER_FLOWS}) AS flows",
            (*buyer, 0, before_us, *buyer) * 2,
        ).scalar_one()
        return int(total)

    def owner_flows(self, *, from_us: int, until_us: int) -> list[OwnerFlow]:
        names = {
            account_id: chart.owner_of(name)
            for account_id, name in self._driver.run(
                f"SELECT account_id, name FROM accounts WHERE code IN ({_OWNERS})"
            )
        }
        received, given = f"c.code IN ({_OWNERS})", f"d.code IN ({_OWNERS})"
        mine = f"CASE WHEN {received} THEN c.account_id ELSE d.account_id END"
        other = f"CASE WHEN {received} THEN d.code ELSE c.code END"
        sums: dict[tuple[str, int, int, bool], tuple[int, int]] = {}
        for account_id, other_code, code, amount, count in self._driver.run(
            f"SELECT {mine}, {other}, t.code, "
            f"SUM(CASE WHEN {received} THEN t.amount_micros ELSE -t.amount_micros END), COUNT(*) "
            "FROM transfers t JOIN accounts d ON d.account_id = t.debit_account_id "
            "JOIN accounts c ON c.account_id = t.credit_account_id "
            f"WHERE {_POSTS} AND t.recorded_at_us >= ? AND t.recorded_at_us < ? "
            f"AND (({received}) <> ({given})) GROUP BY 1, 2, 3, ({received})",
            (from_us, until_us),
        ):
            key = (names[account_id], int(other_code), int(code), int(amount) > 0)
            before = sums.get(key, (0, 0))
            sums[key] = (before[0] + int(amount), before[1] + int(count))
        return [
            OwnerFlow(owner_id, other_code, code, amount, count)
            for (owner_id, other_code, code, _), (amount, count) in sorted(sums.items())
        ]

    def held_since(self) -> list[tuple[int, int, int]]:
        rows = self._driver.run(
            f"SELECT verified_at_us / {HOUR_US}, COUNT(*), SUM(net_micros) FROM receipts "
            "WHERE receipt_id > COALESCE((SELECT value FROM marks WHERE name = ?), 0) AND net_micros > 0 "
            "AND NOT EXISTS (SELECT 1 FROM questioned_attempts AS q WHERE q.receipt_id = receipts.receipt_id "
            "AND q.state <> 'upheld' AND q.net_micros > 0) GROUP BY 1 ORDER BY 1",
            ("released_through_receipt_id",),
        )
        return [(int(hour) * HOUR_US, int(count), int(net)) for hour, count, net in rows]

    def escrow_since(self) -> list[tuple[int, int, int]]:
        rows = self._driver.run(
            "SELECT opened_at_us, credits_posted - debits_posted FROM accounts "
            f"WHERE code = {int(AccountCode.JOB_ESCROW)} AND credits_posted > debits_posted "
            "ORDER BY account_id"
        )
        return [(int(opened_at_us), 1, int(balance)) for opened_at_us, balance in rows]

    def _receipts_of(self, *, from_us: int, until_us: int) -> tuple[int, int]:
        """Return the first and last receipt that were signed, hence verified, in a time range."""
        first, last = self._driver.run(
            "SELECT COALESCE(MIN(first_receipt_id), 0), COALESCE(MAX(first_receipt_id + leaf_count - 1), -1) "
            "FROM receipt_batches WHERE signed_at_us >= ? AND signed_at_us < ?",
            (from_us, until_us),
        ).one()
        return int(first), int(last)


def _document(row: Sequence[Any]) -> IssuedDocument:
    return IssuedDocument(
        document_id=row[0],
        buyer_id=row[1],
        month=row[2],
        kind=row[3],
        number=row[4],
        total_micros=row[5],
        pdf=row[6],
        pdf_sha256=row[7],
        csv=row[8],
        csv_sha256=row[9],
        issued_at_us=row[10],
    )
