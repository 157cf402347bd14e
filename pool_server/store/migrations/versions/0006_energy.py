"""Energy and its cost, as owners' agents reported them."""

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
