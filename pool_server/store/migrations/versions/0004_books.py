"""What the books keep beside accounts and transfers: operators' entries."""

import sqlalchemy as sa
from alembic import op

from pool_server.store.triggers import append_only

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("idempotency_key_transfer", "idempotency_keys", ["transfer_id"], unique=False)
    op.create_table(
        "operator_entries",
        sa.Column(
            "entry_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("code", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("debit_account", sa.String(), nullable=False),
        sa.Column("credit_account", sa.String(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("is_at_most", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("amount_micros > 0", name="operator_entry_amount"),
        sa.CheckConstraint("is_at_most IN (0, 1)", name="operator_entry_at_most"),
        sa.CheckConstraint("debit_account <> credit_account", name="operator_entry_accounts_differ"),
        sa.CheckConstraint("reason <> ''", name="operator_entry_has_a_reason"),
        sa.PrimaryKeyConstraint("entry_id"),
    )
    op.create_index("operator_entry_key", "operator_entries", ["idempotency_key"], unique=True)
    op.create_table(
        "operator_entry_ends",
        sa.Column("entry_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("transfer_id", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint("state IN ('booked', 'withdrawn')", name="operator_entry_end_state"),
        sa.CheckConstraint(
            "(state = 'booked') = (transfer_id IS NOT NULL)", name="operator_entry_end_transfer"
        ),
        sa.CheckConstraint("state <> 'booked' OR decided_by <> proposed_by", name="operator_entry_four_eyes"),
        sa.ForeignKeyConstraint(["entry_id"], ["operator_entries.entry_id"]),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.transfer_id"]),
        sa.PrimaryKeyConstraint("entry_id"),
    )
    op.create_index(
        "operator_entry_transfer",
        "operator_entry_ends",
        ["transfer_id"],
        unique=True,
        sqlite_where=sa.text("transfer_id IS NOT NULL"),
        postgresql_where=sa.text("transfer_id IS NOT NULL"),
    )
    for table in ("operator_entries", "operator_entry_ends"):
        for statement in append_only(op.get_context().dialect.name, table):
            op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
