"""Tables of what banks report, of what became of payments, and of owners who leave."""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, blob, partial_index, row_id, text


class BankReportTable(SQLModel, table=True):
    """A bank's report, byte for byte: imported once, kept for ever."""

    __tablename__ = "bank_reports"
    __table_args__ = (Index("bank_report_hash", "sha256_hex", unique=True),)
    report_id: int = Field(sa_column=row_id())
    sha256_hex: str = Field(sa_column=text())
    file_name: str = Field(sa_column=text())
    format: str = Field(sa_column=text())
    message_id: str = Field(sa_column=text())
    imported_by: str = Field(sa_column=text())
    imported_at_us: int = Field(sa_column=big_int())
    content: bytes = Field(sa_column=blob())


class BankReportResultTable(SQLModel, table=True):
    """What became of a report's lines: the answer to its import, and to every later one."""

    __tablename__ = "bank_report_results"
    report_id: int = Field(sa_column=big_int(primary_key=True, foreign_key="bank_reports.report_id"))
    result_number: int = Field(sa_column=big_int(primary_key=True))
    line_number: int = Field(sa_column=big_int())
    reference: str = Field(sa_column=text())
    payout_id: int = Field(sa_column=big_int())
    owner_id: str = Field(sa_column=text())
    status: str = Field(sa_column=text())
    verdict: str = Field(sa_column=text())
    reason_code: str = Field(sa_column=text())
    reason_text: str = Field(sa_column=text())
    amount_micros: int = Field(sa_column=big_int())
    outcome: str = Field(sa_column=text())
    from_state: str = Field(sa_column=text())
    detail: str = Field(sa_column=text())


class PayoutStepTable(SQLModel, table=True):
    """What became of a payment after planning; the database itself lets money come back only once."""

    __tablename__ = "payout_steps"
    __table_args__ = (
        CheckConstraint("state IN ('withheld', 'settled', 'rejected', 'returned')", name="payout_step_state"),
        CheckConstraint("amount_micros > 0", name="payout_step_amount"),
        partial_index(
            "payout_step_back_once",
            "payout_id",
            "owner_id",
            unique=True,
            where="state IN ('withheld', 'rejected', 'returned')",
        ),
        partial_index(
            "payout_step_settled_once",
            "payout_id",
            "owner_id",
            unique=True,
            where="state IN ('withheld', 'rejected', 'settled')",
        ),
        Index("payout_step_owner", "owner_id", "step_id"),
    )
    step_id: int = Field(sa_column=row_id())
    payout_id: int = Field(sa_column=big_int(foreign_key="payout_runs.payout_id"))
    owner_id: str = Field(sa_column=text())
    state: str = Field(sa_column=text())
    from_state: str = Field(sa_column=text())
    amount_micros: int = Field(sa_column=big_int())
    reason_code: str = Field(sa_column=text())
    reason_text: str = Field(sa_column=text())
    report_id: int = Field(sa_column=big_int())
    at_us: int = Field(sa_column=big_int())


class LeavingOwnerTable(SQLModel, table=True):
    """Owners who close their accounts: paid below the threshold, to the cent."""

    __tablename__ = "leaving_owners"
    __table_args__ = (
        CheckConstraint("rounding_micros >= 0 AND closed_at_us >= 0", name="leaving_owner_sign"),
    )
    owner_id: str = Field(sa_column=text(primary_key=True))
    asked_by: str = Field(sa_column=text())
    asked_at_us: int = Field(sa_column=big_int())
    closed_at_us: int = Field(sa_column=big_int())
    rounding_micros: int = Field(sa_column=big_int())
