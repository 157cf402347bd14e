"""The transparency log: hashes, signed tree heads, statements of solvency. All append-only."""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, blob, row_id, text


class LogTileTable(SQLModel, table=True):
    """Hashes of 256 neighbouring leaves."""

    __tablename__ = "log_tiles"
    __table_args__ = (CheckConstraint("length(leaf_hashes) = 8192", name="log_tile_whole"),)
    tile_index: int = Field(sa_column=row_id())
    leaf_hashes: bytes = Field(sa_column=blob())


class LogNodeTable(SQLModel, table=True):
    """Hashes of complete subtrees of whole tiles."""

    __tablename__ = "log_nodes"
    __table_args__ = (CheckConstraint("length(node_hash) = 32", name="log_node_size"),)
    node_id: int = Field(sa_column=row_id())
    node_hash: bytes = Field(sa_column=blob())


class LogHeadTable(SQLModel, table=True):
    """Signed tree heads: one for each size that was signed, so never two roots for one size."""

    __tablename__ = "log_heads"
    __table_args__ = (
        CheckConstraint("tree_size > 0", name="log_head_not_empty"),
        CheckConstraint("length(root_hash) = 32", name="log_head_root_size"),
    )
    tree_size: int = Field(sa_column=row_id())
    root_hash: bytes = Field(sa_column=blob())
    signed_at_us: int = Field(sa_column=big_int())
    signed: bytes = Field(sa_column=blob())


class SolvencyTable(SQLModel, table=True):
    """Signed statements of what the pool owes and what its bank holds."""

    __tablename__ = "solvency_statements"
    __table_args__ = (
        CheckConstraint("liabilities_micros >= 0 AND liability_count >= 0", name="solvency_signs"),
        CheckConstraint("length(liability_root) = 32 AND length(secret) = 32", name="solvency_sizes"),
        CheckConstraint("length(leaves) = 16 * liability_count", name="solvency_leaves_whole"),
        Index("solvency_time", "made_at_us", "statement_id"),
    )
    statement_id: int = Field(sa_column=row_id())
    made_at_us: int = Field(sa_column=big_int())
    ledger_sequence: int = Field(sa_column=big_int())
    ledger_hash: bytes = Field(sa_column=blob())
    liabilities: str = Field(sa_column=text())
    liabilities_micros: int = Field(sa_column=big_int())
    liability_count: int = Field(sa_column=big_int())
    liability_root: bytes = Field(sa_column=blob())
    bank_micros: int = Field(sa_column=big_int())
    bank_as_of: str = Field(sa_column=text())
    books_micros: int = Field(sa_column=big_int())
    tree_size: int = Field(sa_column=big_int())
    tree_root: bytes = Field(sa_column=blob())
    entered_by: str = Field(sa_column=text())
    signed: bytes = Field(sa_column=blob())
    secret: bytes = Field(sa_column=blob())
    leaves: bytes = Field(sa_column=blob())
