"""Caps on what buyers and their tokens may reserve."""

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
