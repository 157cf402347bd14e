"""Tables of what operators enter by hand: the proposals, and how each one ended. Both append-only."""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, partial_index, row_id, text


class OperatorEntryTable(SQLModel, table=True):
    """Entries as proposed, each with its reason."""

    __tablename__ = "operator_entries"
    __table_args__ = (
        CheckConstraint("amount_micros > 0", name="operator_entry_amount"),
        CheckConstraint("is_at_most IN (0, 1)", name="operator_entry_at_most"),
        CheckConstraint("debit_account <> credit_account", name="operator_entry_accounts_differ"),
        CheckConstraint("reason <> ''", name="operator_entry_has_a_reason"),
        Index("operator_entry_key", "idempotency_key", unique=True),
    )
    entry_id: int = Field(sa_column=row_id())
    code: int = Field(sa_column=big_int())
    debit_account: str = Field(sa_column=text())
    credit_account: str = Field(sa_column=text())
    amount_micros: int = Field(sa_column=big_int())
    is_at_most: int = Field(sa_column=big_int())
    reason: str = Field(sa_column=text())
    idempotency_key: str = Field(sa_column=text())
    proposed_by: str = Field(sa_column=text())
    proposed_at_us: int = Field(sa_column=big_int())


class OperatorEntryEndTable(SQLModel, table=True):
    """How entries ended: booked as one transfer by another operator, or withdrawn. Once each."""

    __tablename__ = "operator_entry_ends"
    __table_args__ = (
        CheckConstraint("state IN ('booked', 'withdrawn')", name="operator_entry_end_state"),
        CheckConstraint("(state = 'booked') = (transfer_id IS NOT NULL)", name="operator_entry_end_transfer"),
        CheckConstraint("state <> 'booked' OR decided_by <> proposed_by", name="operator_entry_four_eyes"),
        partial_index("operator_entry_transfer", "transfer_id", unique=True, where="transfer_id IS NOT NULL"),
    )
    entry_id: int = Field(sa_column=big_int(primary_key=True, foreign_key="operator_entries.entry_id"))
    state: str = Field(sa_column=text())
    proposed_by: str = Field(sa_column=text())
    decided_by: str = Field(sa_column=text())
    decided_at_us: int = Field(sa_column=big_int())
    transfer_id: int | None = Field(sa_column=big_int(nullable=True, foreign_key="transfers.transfer_id"))
