"""Tables of the books: accounts, transfers, idempotency keys, receipts, prices, counters and marks.

What the core promises, the schema enforces: limits as CHECKs that count pending money, a pending transfer
resolved once and an attempt paid once by partial unique indexes, immutable rows by triggers
(`store.triggers`).
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, String
from sqlalchemy import text as sql
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, blob, partial_index, row_id, text

#: Codes of the hot path (lease, verified, fee, rejected, expired, audit) stand outside the indexes by
#: account: an owner's work is found through receipts. Queries must repeat this text for the database to use
#: the index.
OUTSIDE_HOT_PATH = "(code < 300 OR code >= 400)"


class AccountTable(SQLModel, table=True):
    """Accounts: four counters that are a cache of the log, and limit flags."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("account_id > 0", name="account_id_positive"),
        CheckConstraint("debits_pending >= 0", name="account_debits_pending_sign"),
        CheckConstraint("debits_posted >= 0", name="account_debits_posted_sign"),
        CheckConstraint("credits_pending >= 0", name="account_credits_pending_sign"),
        CheckConstraint("credits_posted >= 0", name="account_credits_posted_sign"),
        CheckConstraint(
            "debits_must_not_exceed_credits = 0 OR debits_pending + debits_posted <= credits_posted",
            name="account_debits_limit",
        ),
        CheckConstraint(
            "credits_must_not_exceed_debits = 0 OR credits_pending + credits_posted <= debits_posted",
            name="account_credits_limit",
        ),
        CheckConstraint("debits_must_not_exceed_credits IN (0, 1)", name="account_debits_flag"),
        CheckConstraint("credits_must_not_exceed_debits IN (0, 1)", name="account_credits_flag"),
        CheckConstraint("state IN (0, 1, 2)", name="account_state_known"),
        CheckConstraint(
            "state <> 2 OR (debits_pending = 0 AND credits_pending = 0 AND debits_posted = credits_posted)",
            name="account_closed_is_empty",
        ),
        Index("account_name", "name", unique=True),
        partial_index("account_sweep_to", "sweep_to_account_id", where="sweep_to_account_id > 0"),
    )
    account_id: int = Field(sa_column=row_id())
    name: str = Field(sa_column=text())
    code: int = Field(sa_column=big_int())
    state: int = Field(sa_column=big_int())
    debits_must_not_exceed_credits: int = Field(sa_column=big_int())
    credits_must_not_exceed_debits: int = Field(sa_column=big_int())
    sweep_to_account_id: int = Field(sa_column=big_int())
    debits_pending: int = Field(sa_column=big_int())
    debits_posted: int = Field(sa_column=big_int())
    credits_pending: int = Field(sa_column=big_int())
    credits_posted: int = Field(sa_column=big_int())
    opened_at_us: int = Field(sa_column=big_int())
    chain_hash: bytes = Field(sa_column=blob())


class TransferTable(SQLModel, table=True):
    """Transfers: append-only, hash-chained."""

    __tablename__ = "transfers"
    __table_args__ = (
        # Cheap ones only: this table takes most of the pool's rows, and a check of the books sees the rest.
        CheckConstraint("kind BETWEEN 0 AND 3", name="transfer_kind_known"),
        CheckConstraint("amount_micros > 0", name="transfer_amount_positive"),
        CheckConstraint("debit_account_id <> credit_account_id", name="transfer_accounts_differ"),
        CheckConstraint("(kind >= 2) = (pending_id IS NOT NULL)", name="transfer_pending_id_of_resolution"),
        CheckConstraint("pending_id IS NULL OR pending_id < transfer_id", name="transfer_pending_id_before"),
        CheckConstraint("expires_at_us IS NULL OR kind = 1", name="transfer_timeout_of_pending"),
        partial_index("transfer_resolves_once", "pending_id", unique=True, where="pending_id IS NOT NULL"),
        partial_index(
            "transfer_funds_attempt_once", "reference_id", "reference_round", unique=True, where="kind = 1"
        ),
        partial_index("transfer_pays_attempt_once", "reference_id", unique=True, where="code = 310"),
        partial_index("transfer_timeout", "expires_at_us", "transfer_id", where="expires_at_us IS NOT NULL"),
        partial_index("transfer_debit", "debit_account_id", "transfer_id", where=OUTSIDE_HOT_PATH),
        partial_index("transfer_credit", "credit_account_id", "transfer_id", where=OUTSIDE_HOT_PATH),
    )
    transfer_id: int = Field(sa_column=row_id())
    kind: int = Field(sa_column=big_int())
    code: int = Field(sa_column=big_int())
    debit_account_id: int = Field(sa_column=big_int(foreign_key="accounts.account_id"))
    credit_account_id: int = Field(sa_column=big_int(foreign_key="accounts.account_id"))
    amount_micros: int = Field(sa_column=big_int())
    pending_id: int | None = Field(sa_column=big_int(nullable=True, foreign_key="transfers.transfer_id"))
    reference_id: int = Field(sa_column=big_int())
    reference_round: int = Field(sa_column=big_int())
    expires_at_us: int | None = Field(sa_column=big_int(nullable=True))
    recorded_at_us: int = Field(sa_column=big_int())
    canonical: bytes = Field(sa_column=blob())
    chain_hash: bytes = Field(sa_column=blob())


class IdempotencyKeyTable(SQLModel, table=True):
    """Keys of money commands that succeeded, each with the hash of its inputs and its answer."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        CheckConstraint("length(input_hash) = 32", name="idempotency_key_hash_size"),
        # A history shows the bank's reference of a deposit.
        Index("idempotency_key_transfer", "transfer_id"),
    )
    key: str = Field(sa_column=text(primary_key=True))
    input_hash: bytes = Field(sa_column=blob())
    transfer_id: int = Field(sa_column=big_int(foreign_key="transfers.transfer_id"))
    recorded_at_us: int = Field(sa_column=big_int())


class FailedIdTable(SQLModel, table=True):
    """Keys whose command failed for a reason of state: they stay failed, so that a retry never pays later."""

    __tablename__ = "failed_ids"
    __table_args__ = (CheckConstraint("length(input_hash) = 32", name="failed_id_hash_size"),)
    key: str = Field(sa_column=text(primary_key=True))
    input_hash: bytes = Field(sa_column=blob())
    failed_at_us: int = Field(sa_column=big_int())


class ReceiptBatchTable(SQLModel, table=True):
    """Signed batches of receipts: append-only."""

    __tablename__ = "receipt_batches"
    __table_args__ = (
        CheckConstraint("leaf_count > 0", name="receipt_batch_not_empty"),
        CheckConstraint("length(merkle_root) = 32", name="receipt_batch_root_size"),
        Index("receipt_batch_first", "first_receipt_id", unique=True),
        Index("receipt_batch_time", "signed_at_us", "batch_id"),
    )
    batch_id: int = Field(sa_column=row_id())
    first_receipt_id: int = Field(sa_column=big_int())
    leaf_count: int = Field(sa_column=big_int())
    merkle_root: bytes = Field(sa_column=blob())
    signed: bytes = Field(sa_column=blob())
    signed_at_us: int = Field(sa_column=big_int())


class ReceiptTable(SQLModel, table=True):
    """Receipts: append-only, one per paid attempt."""

    __tablename__ = "receipts"
    __table_args__ = (
        CheckConstraint("gross_micros = fee_micros + net_micros", name="receipt_adds_up"),
        CheckConstraint("fee_micros >= 0 AND net_micros >= 0", name="receipt_signs"),
        CheckConstraint("(transfer_id IS NULL) = (gross_micros = 0)", name="receipt_transfer_unless_donated"),
        Index("receipt_attempt", "attempt_id", unique=True),
        partial_index("receipt_transfer", "transfer_id", unique=True, where="transfer_id IS NOT NULL"),
        Index("receipt_owner", "owner_id", "receipt_id"),
    )
    receipt_id: int = Field(sa_column=row_id())
    batch_id: int = Field(sa_column=big_int(foreign_key="receipt_batches.batch_id"))
    attempt_id: int = Field(sa_column=big_int())
    transfer_id: int | None = Field(sa_column=big_int(nullable=True, foreign_key="transfers.transfer_id"))
    owner_id: str = Field(sa_column=text())
    vehicle_id: str = Field(sa_column=text())
    job_id: int = Field(sa_column=big_int())
    work_uwu: int = Field(sa_column=big_int())
    price_micros_per_wu: int = Field(sa_column=big_int())
    gross_micros: int = Field(sa_column=big_int())
    fee_micros: int = Field(sa_column=big_int())
    net_micros: int = Field(sa_column=big_int())
    verified_at_us: int = Field(sa_column=big_int())
    receipt: bytes = Field(sa_column=blob())


class OwnerDayTable(SQLModel, table=True):
    """Sums over receipts per owner, day and vehicle: a cache that `check_ledger` re-derives."""

    __tablename__ = "owner_days"
    owner_id: str = Field(sa_column=text(primary_key=True))
    day: int = Field(sa_column=big_int(primary_key=True))
    vehicle_id: str = Field(sa_column=text(primary_key=True))
    attempts: int = Field(sa_column=big_int())
    work_uwu: int = Field(sa_column=big_int())
    gross_micros: int = Field(sa_column=big_int())
    fee_micros: int = Field(sa_column=big_int())
    net_micros: int = Field(sa_column=big_int())


class PostedPriceTable(SQLModel, table=True):
    """Posted prices in the order they were set: append-only."""

    __tablename__ = "posted_prices"
    __table_args__ = (CheckConstraint("price_micros_per_wu >= 0", name="posted_price_sign"),)
    price_id: int = Field(sa_column=row_id())
    price_micros_per_wu: int = Field(sa_column=big_int())
    set_by: str = Field(sa_column=text())
    set_at_us: int = Field(sa_column=big_int())
    mode: str = Field(sa_column=Column(String, nullable=False, server_default=sql("'fixed'")))
    epoch_id: int = Field(sa_column=Column(BigInteger, nullable=False, server_default=sql("0")))


class IdCounterTable(SQLModel, table=True):
    """The next sequential id of each kind."""

    __tablename__ = "id_counters"
    name: str = Field(sa_column=text(primary_key=True))
    next_value: int = Field(sa_column=big_int())


class MarkTable(SQLModel, table=True):
    """How far a sweep has come; only moves forward."""

    __tablename__ = "marks"
    name: str = Field(sa_column=text(primary_key=True))
    value: int = Field(sa_column=big_int())
