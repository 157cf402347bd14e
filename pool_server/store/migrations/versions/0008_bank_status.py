"""What the bank said of payouts, what owners' addresses are, and owners who leave."""

import sqlalchemy as sa
from alembic import op

from pool_server.store.triggers import append_only, refuse

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("payout_details", "payout_rows"):
        for column in ("town", "country", "bic"):
            op.add_column(table, _later_text(column, ""))
    op.add_column("payout_runs", _later_text("rail", "csv"))
    op.create_index("payout_row_reference", "payout_rows", ["reference"], unique=False)
    _create_reports()
    _create_steps()
    op.create_table(
        "leaving_owners",
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("closed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("rounding_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("rounding_micros >= 0 AND closed_at_us >= 0", name="leaving_owner_sign"),
        sa.PrimaryKeyConstraint("owner_id"),
    )
    dialect = op.get_context().dialect.name
    for table in ("bank_reports", "bank_report_results", "payout_steps"):
        for statement in append_only(dialect, table):
            op.execute(statement)
    op.execute(refuse(dialect, "payout_runs_rail", "UPDATE OF rail", "payout_runs", "figures are immutable"))


def _later_text(name: str, default: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), server_default=sa.text(f"'{default}'"), nullable=False)


def _create_reports() -> None:
    op.create_table(
        "bank_reports",
        sa.Column(
            "report_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("sha256_hex", sa.String(), nullable=False),
        sa.Column("file_name", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("imported_by", sa.String(), nullable=False),
        sa.Column("imported_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("report_id"),
    )
    op.create_index("bank_report_hash", "bank_reports", ["sha256_hex"], unique=True)
    op.create_table(
        "bank_report_results",
        sa.Column("report_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("result_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("line_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("payout_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("reason_text", sa.String(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("from_state", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["report_id"], ["bank_reports.report_id"]),
        sa.PrimaryKeyConstraint("report_id", "result_number"),
    )


def _create_steps() -> None:
    op.create_table(
        "payout_steps",
        sa.Column(
            "step_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("payout_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("from_state", sa.String(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("reason_code", sa.String(), nullable=False),
        sa.Column("reason_text", sa.String(), nullable=False),
        sa.Column("report_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("amount_micros > 0", name="payout_step_amount"),
        sa.CheckConstraint(
            "state IN ('withheld', 'settled', 'rejected', 'returned')", name="payout_step_state"
        ),
        sa.ForeignKeyConstraint(["payout_id"], ["payout_runs.payout_id"]),
        sa.PrimaryKeyConstraint("step_id"),
    )
    for name, states in (
        ("payout_step_back_once", "state IN ('withheld', 'rejected', 'returned')"),
        ("payout_step_settled_once", "state IN ('withheld', 'rejected', 'settled')"),
    ):
        op.create_index(
            name,
            "payout_steps",
            ["payout_id", "owner_id"],
            unique=True,
            sqlite_where=sa.text(states),
            postgresql_where=sa.text(states),
        )
    op.create_index("payout_step_owner", "payout_steps", ["owner_id", "step_id"], unique=False)


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
