"""Energy and its cost, as owners' agents reported them."""

import sqlalchemy as sa
from alembic import op

from pool_server.store.triggers import append_only

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "attempt_energy",
        sa.Column(
            "attempt_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("energy_mj", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("electricity_micros", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("told_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("energy_mj >= 0", name="attempt_energy_sign"),
        sa.CheckConstraint(
            "source IN ('rapl', 'nvml', 'rapl+nvml', 'declared')", name="attempt_energy_source_known"
        ),
        sa.PrimaryKeyConstraint("attempt_id"),
    )
    op.create_index("attempt_energy_owner", "attempt_energy", ["owner_id", "told_at_us"], unique=False)
    op.create_table(
        "energy_days",
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("vehicle_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("energy_mj", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("measured_mj", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("electricity_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("unpriced_attempts", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("unpriced_attempts BETWEEN 0 AND attempts", name="energy_day_unpriced"),
        sa.CheckConstraint("measured_mj BETWEEN 0 AND energy_mj", name="energy_day_measured"),
        sa.PrimaryKeyConstraint("owner_id", "day", "vehicle_id", "source"),
    )
    for statement in append_only(op.get_context().dialect.name, "attempt_energy"):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
