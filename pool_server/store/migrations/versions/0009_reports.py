"""Owners' and buyers' particulars for statements, invoices and yearly totals."""

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
