"""Orders, epochs and prices of the market."""

import sqlalchemy as sa
from alembic import op

from pool_server.store.triggers import append_only

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _row_id(name: str) -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, autoincrement=False, nullable=False)


def _big(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=nullable)


def _added(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "price_epochs",
        _row_id("epoch_id"),
        _big("starts_at_us"),
        _big("length_us"),
        _big("held_at_us"),
        sa.Column("mode", sa.String(), nullable=False),
        _big("step_ppm"),
        _big("floor_micros_per_wu"),
        _big("cap_micros_per_wu"),
        _big("before_price_id"),
        _big("before_micros_per_wu"),
        _big("clearing_micros_per_wu", nullable=True),
        _big("target_micros_per_wu"),
        _big("proposed_micros_per_wu"),
        _big("after_price_id"),
        _big("after_micros_per_wu"),
        _big("bid_count"),
        _big("ask_count"),
        _big("bid_uwu"),
        _big("ask_uwu"),
        _big("traded_uwu"),
        sa.Column("book", sa.LargeBinary(), nullable=False),
        sa.Column("book_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("chain_sha256", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("mode IN ('fixed', 'auction')", name="price_epoch_mode_known"),
        sa.CheckConstraint(
            "length_us > 0 AND step_ppm >= 0 AND floor_micros_per_wu >= 0 "
            "AND cap_micros_per_wu >= floor_micros_per_wu",
            name="price_epoch_rule",
        ),
        sa.CheckConstraint(
            "before_micros_per_wu >= 0 AND after_micros_per_wu >= 0 AND target_micros_per_wu >= 0 "
            "AND proposed_micros_per_wu >= 0",
            name="price_epoch_prices_sign",
        ),
        sa.CheckConstraint(
            "bid_uwu >= 0 AND ask_uwu >= 0 AND traded_uwu >= 0 AND traded_uwu <= bid_uwu "
            "AND traded_uwu <= ask_uwu",
            name="price_epoch_volumes_fit",
        ),
        sa.PrimaryKeyConstraint("epoch_id"),
    )
    op.create_index("price_epochs_by_start", "price_epochs", ["starts_at_us"], unique=True)
    op.create_table(
        "buyer_shares",
        sa.Column("buyer_id", sa.String(), nullable=False),
        _big("tag_uwu"),
        _big("lease_uwu"),
        _big("virtual_uwu"),
        sa.CheckConstraint("tag_uwu >= 0 AND lease_uwu >= 0 AND virtual_uwu >= 0", name="buyer_share_sign"),
        sa.PrimaryKeyConstraint("buyer_id"),
    )
    op.create_index("buyer_shares_by_virtual", "buyer_shares", ["virtual_uwu"], unique=False)
    op.add_column("jobs", _added("price_start_micros_per_wu"))
    op.add_column("jobs", _added("quoted_task_count"))
    op.add_column("fleet_vehicles", _added("asked_at_us"))
    op.add_column("fleet_vehicles", _added("ask_micros_per_wu"))
    op.add_column("fleet_vehicles", _added("available_until_us"))
    op.add_column("fleet_vehicles", _added("verified_uwu"))
    # Whoever set a price before there were auctions meant it to stay.
    op.add_column(
        "posted_prices", sa.Column("mode", sa.String(), server_default=sa.text("'fixed'"), nullable=False)
    )
    op.add_column("posted_prices", _added("epoch_id"))
    for statement in append_only(op.get_context().dialect.name, "price_epochs"):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
