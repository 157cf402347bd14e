"""Tables of caps: what may be spent, what is used of it, and what each job has in it.

That nothing is used beyond a cap is a CHECK. `cap_micros` is what is enforced: the limit that was set, or,
where more was used already when it was set, what is used: it falls with it, down to the limit.
"""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, text

_HOLDERS = "holder IN ('account', 'token')"


class SpendLimitTable(SQLModel, table=True):
    """Caps as they were set; one of a month holds for every month to come."""

    __tablename__ = "spend_limits"
    __table_args__ = (
        CheckConstraint(_HOLDERS, name="spend_limit_holder_known"),
        CheckConstraint("period IN ('ever', 'month')", name="spend_limit_period_known"),
        CheckConstraint("limit_micros >= 0", name="spend_limit_sign"),
    )
    holder: str = Field(sa_column=text(primary_key=True))
    subject_id: str = Field(sa_column=text(primary_key=True))
    period: str = Field(sa_column=text(primary_key=True))
    limit_micros: int = Field(sa_column=big_int())
    set_by: str = Field(sa_column=text())
    set_at_us: int = Field(sa_column=big_int())


class SpendCounterTable(SQLModel, table=True):
    """What is reserved or spent of each cap, in all and in each month."""

    __tablename__ = "spend_counters"
    __table_args__ = (
        CheckConstraint(_HOLDERS, name="spend_counter_holder_known"),
        CheckConstraint("used_micros >= 0", name="spend_counter_sign"),
        CheckConstraint("cap_micros IS NULL OR used_micros <= cap_micros", name="spend_counter_cap"),
        CheckConstraint("(limit_micros IS NULL) = (cap_micros IS NULL)", name="spend_counter_cap_of_limit"),
        CheckConstraint(
            "limit_micros IS NULL OR cap_micros >= limit_micros", name="spend_counter_cap_at_least_limit"
        ),
    )
    holder: str = Field(sa_column=text(primary_key=True))
    subject_id: str = Field(sa_column=text(primary_key=True))
    period: str = Field(sa_column=text(primary_key=True))
    used_micros: int = Field(sa_column=big_int())
    limit_micros: int | None = Field(sa_column=big_int(nullable=True))
    cap_micros: int | None = Field(sa_column=big_int(nullable=True))


class JobReservationTable(SQLModel, table=True):
    """What of each job's reserve counts in which counters."""

    __tablename__ = "job_reservations"
    __table_args__ = (
        CheckConstraint("amount_micros >= 0", name="job_reservation_sign"),
        Index("job_reservations_by_buyer", "buyer_id", "job_id"),
    )
    job_id: int = Field(sa_column=big_int(primary_key=True))
    month: str = Field(sa_column=text(primary_key=True))
    token_id: str = Field(sa_column=text(primary_key=True))
    buyer_id: str = Field(sa_column=text())
    amount_micros: int = Field(sa_column=big_int())
