"""Tables of the market: price epochs, append-only and chained, and what each buyer was served.

Orders are not kept as rows. A vehicle's standing ask stands in its own row of the fleet, a job's bid follows
from its terms, and the book of an epoch is kept as the bytes that were hashed, without owners and buyers.
"""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, blob, row_id, text


class PriceEpochTable(SQLModel, table=True):
    """What each auction found, one row per epoch, in the order in which they were held."""

    __tablename__ = "price_epochs"
    __table_args__ = (
        CheckConstraint("mode IN ('fixed', 'auction')", name="price_epoch_mode_known"),
        CheckConstraint(
            "length_us > 0 AND step_ppm >= 0 AND floor_micros_per_wu >= 0 "
            "AND cap_micros_per_wu >= floor_micros_per_wu",
            name="price_epoch_rule",
        ),
        CheckConstraint(
            "before_micros_per_wu >= 0 AND after_micros_per_wu >= 0 AND target_micros_per_wu >= 0 "
            "AND proposed_micros_per_wu >= 0",
            name="price_epoch_prices_sign",
        ),
        CheckConstraint(
            "bid_uwu >= 0 AND ask_uwu >= 0 AND traded_uwu >= 0 AND traded_uwu <= bid_uwu "
            "AND traded_uwu <= ask_uwu",
            name="price_epoch_volumes_fit",
        ),
        Index("price_epochs_by_start", "starts_at_us", unique=True),
    )
    epoch_id: int = Field(sa_column=row_id())
    starts_at_us: int = Field(sa_column=big_int())
    length_us: int = Field(sa_column=big_int())
    held_at_us: int = Field(sa_column=big_int())
    mode: str = Field(sa_column=text())
    step_ppm: int = Field(sa_column=big_int())
    floor_micros_per_wu: int = Field(sa_column=big_int())
    cap_micros_per_wu: int = Field(sa_column=big_int())
    before_price_id: int = Field(sa_column=big_int())
    before_micros_per_wu: int = Field(sa_column=big_int())
    clearing_micros_per_wu: int | None = Field(sa_column=big_int(nullable=True))
    target_micros_per_wu: int = Field(sa_column=big_int())
    proposed_micros_per_wu: int = Field(sa_column=big_int())
    after_price_id: int = Field(sa_column=big_int())
    after_micros_per_wu: int = Field(sa_column=big_int())
    bid_count: int = Field(sa_column=big_int())
    ask_count: int = Field(sa_column=big_int())
    bid_uwu: int = Field(sa_column=big_int())
    ask_uwu: int = Field(sa_column=big_int())
    traded_uwu: int = Field(sa_column=big_int())
    book: bytes = Field(sa_column=blob())
    book_sha256: bytes = Field(sa_column=blob())
    chain_sha256: bytes = Field(sa_column=blob())


class BuyerShareTable(SQLModel, table=True):
    """How far each buyer is in its fair share; see `core.pricing.fair_share`.

    `virtual_uwu` is where the common scale began at the buyer's last lease: the largest of all is where it
    begins now.
    """

    __tablename__ = "buyer_shares"
    __table_args__ = (
        CheckConstraint("tag_uwu >= 0 AND lease_uwu >= 0 AND virtual_uwu >= 0", name="buyer_share_sign"),
        Index("buyer_shares_by_virtual", "virtual_uwu"),
    )
    buyer_id: str = Field(sa_column=text(primary_key=True))
    tag_uwu: int = Field(sa_column=big_int())
    lease_uwu: int = Field(sa_column=big_int())
    virtual_uwu: int = Field(sa_column=big_int())
