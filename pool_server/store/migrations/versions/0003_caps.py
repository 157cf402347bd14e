"""Caps on what buyers and their tokens may reserve."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_RESERVE, _RELEASE = 200, 210


def upgrade() -> None:
    op.create_table(
        "spend_limits",
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("limit_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("holder IN ('account', 'token')", name="spend_limit_holder_known"),
        sa.CheckConstraint("period IN ('ever', 'month')", name="spend_limit_period_known"),
        sa.CheckConstraint("limit_micros >= 0", name="spend_limit_sign"),
        sa.PrimaryKeyConstraint("holder", "subject_id", "period"),
    )
    op.create_table(
        "spend_counters",
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("used_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("limit_micros", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("cap_micros", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.CheckConstraint("holder IN ('account', 'token')", name="spend_counter_holder_known"),
        sa.CheckConstraint("used_micros >= 0", name="spend_counter_sign"),
        sa.CheckConstraint("cap_micros IS NULL OR used_micros <= cap_micros", name="spend_counter_cap"),
        sa.CheckConstraint(
            "(limit_micros IS NULL) = (cap_micros IS NULL)", name="spend_counter_cap_of_limit"
        ),
        sa.CheckConstraint(
            "limit_micros IS NULL OR cap_micros >= limit_micros", name="spend_counter_cap_at_least_limit"
        ),
        sa.PrimaryKeyConstraint("holder", "subject_id", "period"),
    )
    op.create_table(
        "job_reservations",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("month", sa.String(), nullable=False),
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("buyer_id", sa.String(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.CheckConstraint("amount_micros >= 0", name="job_reservation_sign"),
        sa.PrimaryKeyConstraint("job_id", "month", "token_id"),
    )
    op.create_index("job_reservations_by_buyer", "job_reservations", ["buyer_id", "job_id"], unique=False)
    _count_what_was_reserved_before()


def _count_what_was_reserved_before() -> None:
    """Fill reservations and counters from the books: which token reserved is not known."""
    connection = op.get_bind()
    rows = connection.execute(
        sa.text(
            "SELECT t.reference_id, a.name, t.code, t.amount_micros, t.recorded_at_us FROM transfers AS t "
            "JOIN accounts AS a ON a.account_id = "
            "CASE WHEN t.code = :reserve THEN t.debit_account_id ELSE t.credit_account_id END "
            "WHERE t.code IN (:reserve, :release) AND (t.code < 300 OR t.code >= 400) ORDER BY t.transfer_id"
        ),
        {"reserve": _RESERVE, "release": _RELEASE},
    )
    reserved: dict[int, list[tuple[str, str, int]]] = {}
    for job_id, account, code, amount_micros, recorded_at_us in rows:
        parts = reserved.setdefault(job_id, [])
        if code == _RESERVE:
            month = datetime.fromtimestamp(recorded_at_us // 1_000_000, tz=UTC).strftime("%Y-%m")
            parts.append((account.split(":")[1], month, amount_micros))
            continue
        left = amount_micros
        while left and parts:
            buyer_id, month, amount = parts.pop()
            taken = min(left, amount)
            left -= taken
            if amount > taken:
                parts.append((buyer_id, month, amount - taken))
    by_key: dict[tuple[int, str, str], int] = {}
    used: dict[tuple[str, str], int] = {}
    for job_id, parts in reserved.items():
        for buyer_id, month, amount in parts:
            by_key[job_id, month, buyer_id] = by_key.get((job_id, month, buyer_id), 0) + amount
            for period in ("ever", month):
                used[buyer_id, period] = used.get((buyer_id, period), 0) + amount
    if by_key:
        connection.execute(
            sa.text(
                "INSERT INTO job_reservations (job_id, month, token_id, buyer_id, amount_micros) "
                "VALUES (:job_id, :month, '', :buyer_id, :amount)"
            ),
            [
                {"job_id": job_id, "month": month, "buyer_id": buyer_id, "amount": amount}
                for (job_id, month, buyer_id), amount in by_key.items()
            ],
        )
        connection.execute(
            sa.text(
                "INSERT INTO spend_counters (holder, subject_id, period, used_micros) "
                "VALUES ('account', :buyer_id, :period, :amount)"
            ),
            [
                {"buyer_id": buyer_id, "period": period, "amount": amount}
                for (buyer_id, period), amount in used.items()
            ],
        )


def downgrade() -> None:
    raise RuntimeError("the books are not taken back to an older schema; restore a backup instead")
