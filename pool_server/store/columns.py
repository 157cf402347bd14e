"""Column types that every table uses: the same on every database.

Integers are 64 bits wide. Texts are compared and sorted by the numbers of their characters, never by the
rules of a language: an operator's PostgreSQL may be set to any, and names that differ must not be equal.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Identity, Index, Integer, LargeBinary, String
from sqlalchemy import text as condition_text
from sqlalchemy.ext.compiler import compiles


@compiles(String, "postgresql")
def _text_on_postgresql(kind: String, compiler: Any, **options: Any) -> str:
    """Write the type of a text; that of a column, those of the revisions included, with its order."""
    written: str = compiler.visit_string(kind, **options)
    return f'{written} COLLATE "C"' if "type_expression" in options else written


def row_id(name: str | None = None) -> Column[Any]:
    """Make a sequential primary key that we allocate ourselves (on SQLite the row's own number)."""
    kind = BigInteger().with_variant(Integer(), "sqlite")
    return (
        Column(name, kind, primary_key=True, autoincrement=False)
        if name
        else Column(kind, primary_key=True, autoincrement=False)
    )


def numbered_row_id() -> Column[Any]:
    """Make a sequential primary key that the database allocates."""
    kind = BigInteger().with_variant(Integer(), "sqlite")
    return Column(kind, Identity(), primary_key=True, autoincrement=True)


def big_int(
    *, nullable: bool = False, primary_key: bool = False, foreign_key: str | None = None
) -> Column[Any]:
    """Make a 64-bit integer column: amounts, work, times, row ids."""
    constraints = [ForeignKey(foreign_key)] if foreign_key else []
    return Column(BigInteger(), *constraints, nullable=nullable, primary_key=primary_key, autoincrement=False)


def text(*, nullable: bool = False, primary_key: bool = False) -> Column[Any]:
    """Make a text column."""
    return Column(String(), nullable=nullable, primary_key=primary_key)


def later_text(default: str) -> Column[Any]:
    """Make a text column that a later revision added: rows that were there before have the default."""
    return Column(String(), server_default=condition_text(f"'{default}'"), nullable=False)


def blob(*, nullable: bool = False) -> Column[Any]:
    """Make a column of bytes."""
    return Column(LargeBinary(), nullable=nullable)


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Make an index over the rows for which `where` holds, on every database."""
    condition = condition_text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
