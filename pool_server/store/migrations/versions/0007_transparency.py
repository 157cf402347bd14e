"""The transparency log: hashes, signed tree heads and statements of solvency."""

import sqlalchemy as sa
from alembic import op

from pool_server.store.triggers import append_only

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _row_id(name: str) -> "sa.Column[int]":
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, autoincrement=False, nullable=False)


def upgrade() -> None:
    op.create_table(
        "log_tiles",
        _row_id("tile_index"),
        sa.Column("leaf_hashes", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("length(leaf_hashes) = 8192", name="log_tile_whole"),
        sa.PrimaryKeyConstraint("tile_index"),
    )
    op.create_table(
        "log_nodes",
        _row_id("node_id"),
        sa.Column("node_hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("length(node_hash) = 32", name="log_node_size"),
        sa.PrimaryKeyConstraint("node_id"),
    )
    op.create_table(
        "log_heads",
        _row_id("tree_size"),
        sa.Column("root_hash", sa.LargeBinary(), nullable=False),
        sa.Column("signed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("tree_size > 0", name="log_head_not_empty"),
        sa.CheckConstraint("length(root_hash) = 32", name="log_head_root_size"),
        sa.PrimaryKeyConstraint("tree_size"),
    )
    op.create_table(
        "solvency_statements",
        _row_id("statement_id"),
        sa.Column("made_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ledger_sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ledger_hash", sa.LargeBinary(), nullable=False),
        sa.Column("liabilities", sa.String(), nullable=False),
        sa.Column("liabilities_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("liability_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("liability_root", sa.LargeBinary(), nullable=False),
        sa.Column("bank_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bank_as_of", sa.String(), nullable=False),
        sa.Column("books_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tree_size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tree_root", sa.LargeBinary(), nullable=False),
        sa.Column("entered_by", sa.String(), nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("leaves", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("liabilities_micros >= 0 AND liability_count >= 0", name="solvency_signs"),
        sa.CheckConstraint("length(liability_root) = 32 AND length(secret) = 32", name="solvency_sizes"),
        sa.CheckConstraint("length(leaves) = 16 * liability_count", name="solvency_leaves_whole"),
        sa.PrimaryKeyConstraint("statement_id"),
    )
    op.create_index("solvency_time", "solvency_statements", ["made_at_us", "statement_id"], unique=False)
    dialect = op.get_context().dialect.name
    for table in ("log_tiles", "log_nodes", "log_heads", "solvency_statements"):
        for statement in append_only(dialect, table):
            op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
