"""Accounts' particulars in SQL: one row per account, replaced as a whole."""

from collections.abc import Sequence
from typing import Any

from pool_server.core.particulars import EMPTY, HolderKind, Particulars, VatScheme
from pool_server.store.driver import Driver
from pool_server.store.statements import fetch_in, write_many

_COLUMNS = (
    "principal_id",
    "locale",
    "display_name",
    "address",
    "country",
    "kind",
    "tax_id",
    "birth_date",
    "vat_id",
    "vat_scheme",
)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM account_particulars WHERE principal_id IN ({{marks}})"
_PUT = (
    f"INSERT INTO account_particulars ({', '.join(_COLUMNS)}, set_by, set_at_us) "
    f"VALUES ({','.join('?' * (len(_COLUMNS) + 2))}) ON CONFLICT (principal_id) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in (*_COLUMNS[1:], "set_by", "set_at_us"))
)


def _particulars(row: Sequence[Any]) -> Particulars:
    return Particulars(
        locale=row[1],
        display_name=row[2],
        address_lines=tuple(row[3].split("\n")) if row[3] else (),
        country=row[4],
        kind=HolderKind(row[5]),
        tax_id=row[6],
        birth_date=row[7],
        vat_id=row[8],
        vat_scheme=VatScheme(row[9]),
    )


class SqlParticularsRepository:
    """Implements `ports.papers.ParticularsRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def get(self, principal_id: str) -> Particulars:
        return self.of([principal_id]).get(principal_id, EMPTY)

    def of(self, principal_ids: Sequence[str]) -> dict[str, Particulars]:
        return {row[0]: _particulars(row) for row in fetch_in(self._driver, _SELECT, principal_ids)}

    def put(self, principal_id: str, particulars: Particulars, *, set_by: str, now_us: int) -> None:
        row = (
            principal_id,
            particulars.locale,
            particulars.display_name,
            "\n".join(particulars.address_lines),
            particulars.country,
            particulars.kind.value,
            particulars.tax_id,
            particulars.birth_date,
            particulars.vat_id,
            particulars.vat_scheme.value,
            set_by,
            now_us,
        )
        write_many(self._driver, _PUT, [row])
