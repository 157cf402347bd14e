"""Tables of payouts: how owners are paid, runs, rows and exported files."""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, blob, later_text, partial_index, row_id, text


class PayoutDetailsTable(SQLModel, table=True):
    """How an owner is paid now; a run copies what it uses."""

    __tablename__ = "payout_details"
    __table_args__ = (CheckConstraint("threshold_micros > 0", name="payout_details_threshold"),)
    owner_id: str = Field(sa_column=text(primary_key=True))
    holder_name: str = Field(sa_column=text())
    iban: str = Field(sa_column=text())
    threshold_micros: int = Field(sa_column=big_int())
    updated_at_us: int = Field(sa_column=big_int())
    # Since revision 0008, hence last and empty in older rows.
    town: str = Field(sa_column=later_text(""))
    country: str = Field(sa_column=later_text(""))
    bic: str = Field(sa_column=later_text(""))


class PayoutRunTable(SQLModel, table=True):
    """Payout runs; at most one is planned at a time, and the approver is never the planner."""

    __tablename__ = "payout_runs"
    __table_args__ = (
        CheckConstraint("state IN ('planned', 'approved', 'exported', 'cancelled')", name="payout_run_state"),
        CheckConstraint("approved_by <> planned_by OR approved_by = ''", name="payout_run_four_eyes"),
        CheckConstraint(
            "(state IN ('approved', 'exported')) = (approved_by <> '')", name="payout_run_approved_by_someone"
        ),
        CheckConstraint("total_micros >= 0 AND total_micros % 10000 = 0", name="payout_run_whole_cents"),
        partial_index("payout_run_one_planned", "state", unique=True, where="state = 'planned'"),
        Index("payout_run_key", "idempotency_key", unique=True),
    )
    payout_id: int = Field(sa_column=row_id())
    state: str = Field(sa_column=text())
    currency: str = Field(sa_column=text())
    total_micros: int = Field(sa_column=big_int())
    row_count: int = Field(sa_column=big_int())
    idempotency_key: str = Field(sa_column=text())
    planned_by: str = Field(sa_column=text())
    planned_at_us: int = Field(sa_column=big_int())
    approved_by: str = Field(sa_column=text())
    approved_at_us: int = Field(sa_column=big_int())
    ended_by: str = Field(sa_column=text())
    ended_at_us: int = Field(sa_column=big_int())
    file_sha256: str = Field(sa_column=text())
    rail: str = Field(sa_column=later_text("csv"))


class PayoutRowTable(SQLModel, table=True):
    """Rows of a run: fixed when it is planned."""

    __tablename__ = "payout_rows"
    __table_args__ = (
        CheckConstraint("amount_micros > 0 AND amount_micros % 10000 = 0", name="payout_row_whole_cents"),
        Index("payout_row_owner", "owner_id", "payout_id"),
        Index("payout_row_reference", "reference"),
    )
    payout_id: int = Field(sa_column=big_int(primary_key=True, foreign_key="payout_runs.payout_id"))
    owner_id: str = Field(sa_column=text(primary_key=True))
    holder_name: str = Field(sa_column=text())
    iban: str = Field(sa_column=text())
    amount_micros: int = Field(sa_column=big_int())
    reason: str = Field(sa_column=text())
    reference: str = Field(sa_column=text())
    town: str = Field(sa_column=later_text(""))
    country: str = Field(sa_column=later_text(""))
    bic: str = Field(sa_column=later_text(""))


class PayoutFileTable(SQLModel, table=True):
    """The bank's file of a run: written once."""

    __tablename__ = "payout_files"
    payout_id: int = Field(sa_column=big_int(primary_key=True, foreign_key="payout_runs.payout_id"))
    name: str = Field(sa_column=text())
    content: bytes = Field(sa_column=blob())
    sha256_hex: str = Field(sa_column=text())
