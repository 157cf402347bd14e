"""All tables, on one metadata. Each owner of a part adds its module here."""

from sqlmodel import SQLModel

from pool_server.store.tables import (
    banks,
    books,
    caps,
    energy,
    identity,
    ledger,
    market,
    papers,
    payouts,
    transparency,
    verification,
    work,
)

METADATA = SQLModel.metadata

__all__ = [
    "METADATA",
    "banks",
    "books",
    "caps",
    "energy",
    "identity",
    "ledger",
    "market",
    "papers",
    "payouts",
    "transparency",
    "verification",
    "work",
]
