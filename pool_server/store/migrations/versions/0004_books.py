"""What the books keep beside accounts and transfers."""

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
