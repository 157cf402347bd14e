"""Tables of energy as vehicles told it: the figures of each attempt, and sums by owner, day and vehicle."""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, row_id, text


class AttemptEnergyTable(SQLModel, table=True):
    """What a vehicle told of an attempt's energy: append-only."""

    __tablename__ = "attempt_energy"
    __table_args__ = (
        CheckConstraint("energy_mj >= 0", name="attempt_energy_sign"),
        CheckConstraint(
            "source IN ('rapl', 'nvml', 'rapl+nvml', 'declared')", name="attempt_energy_source_known"
        ),
        Index("attempt_energy_owner", "owner_id", "told_at_us"),
    )
    attempt_id: int = Field(sa_column=row_id())
    owner_id: str = Field(sa_column=text())
    vehicle_id: str = Field(sa_column=text())
    energy_mj: int = Field(sa_column=big_int())
    source: str = Field(sa_column=text())
    electricity_micros: int | None = Field(sa_column=big_int(nullable=True))
    told_at_us: int = Field(sa_column=big_int())


class EnergyDayTable(SQLModel, table=True):
    """Sums over what was told on a day: a cache, so that screens need not scan attempts."""

    __tablename__ = "energy_days"
    __table_args__ = (
        CheckConstraint("unpriced_attempts BETWEEN 0 AND attempts", name="energy_day_unpriced"),
        CheckConstraint("measured_mj BETWEEN 0 AND energy_mj", name="energy_day_measured"),
    )
    owner_id: str = Field(sa_column=text(primary_key=True))
    day: int = Field(sa_column=big_int(primary_key=True))
    vehicle_id: str = Field(sa_column=text(primary_key=True))
    source: str = Field(sa_column=text(primary_key=True))
    energy_mj: int = Field(sa_column=big_int())
    measured_mj: int = Field(sa_column=big_int())
    electricity_micros: int = Field(sa_column=big_int())
    attempts: int = Field(sa_column=big_int())
    unpriced_attempts: int = Field(sa_column=big_int())
