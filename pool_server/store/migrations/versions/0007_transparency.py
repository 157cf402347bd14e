"""The transparency log: signed tree heads and statements of solvency."""

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
