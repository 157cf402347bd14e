"""What the use cases need of a store about the market: posted prices, epochs, standing orders, fair shares.

The manners are those of `ports.work`: plain rows, guarded writes, times in microseconds since the epoch, UTC.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pool_server.core.jobs import PriceTerms
from pool_server.core.matching import BuyerShare
from pool_server.core.pricing.history import HeldEpoch, PostingMode
from pool_server.core.verification import VerificationLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedPrice:
    """A price that was posted: by an operator, or by an epoch's auction."""

    price_micros_per_wu: int
    set_by: str
    """The operator's id; `AUCTION` of `app.pricing` when an epoch moved it."""
    set_at_us: int
    mode: PostingMode = PostingMode.FIXED
    """What holds from here on."""
    epoch_id: int = 0
    """The epoch that moved it; 0 for an operator."""
    price_id: int = 0
    """Its number; given by the store."""


class PriceRepository(Protocol):
    """Posted prices and the epochs that moved them, both append-only: `uow.prices`."""

    def current(self) -> PostedPrice | None:
        """Return the price in force; None before any was set."""
        ...

    def chosen_mode(self) -> PostingMode | None:
        """Return the mode that an operator chose last; None when none ever did."""
        ...

    def append(self, price: PostedPrice) -> int:
        """Post a price; return its number."""
        ...

    def posted_after(self, price_id: int, *, limit: int) -> list[PostedPrice]:
        """Return posted prices with larger numbers, in order."""
        ...

    def append_epoch(self, epoch: HeldEpoch, book: bytes) -> None:
        """Keep an epoch and the bytes of its order book."""
        ...

    def last_epoch(self) -> HeldEpoch | None:
        """Return the epoch that was held last."""
        ...

    def epoch_at(self, starts_at_us: int) -> HeldEpoch | None:
        """Return the epoch that starts at a time."""
        ...

    def epochs_before(self, epoch_id: int, *, limit: int) -> list[HeldEpoch]:
        """Return epochs with smaller numbers (0: from the newest), newest first."""
        ...

    def epoch(self, epoch_id: int) -> HeldEpoch | None:
        """Return an epoch by its number."""
        ...

    def book(self, epoch_id: int) -> bytes | None:
        """Return the canonical bytes of an epoch's order book."""
        ...


class OfferRow(NamedTuple):
    """An active job with ready tasks, as matching sees it."""

    job_id: int
    buyer_id: str
    program_sha256: str
    terms: PriceTerms
    left_uwu: int
    """Work of its undecided tasks."""
    last_lease_id: int
    share: BuyerShare


class AskRow(NamedTuple):
    """A vehicle's standing ask."""

    vehicle_id: str
    owner_id: str
    price_micros_per_wu: int
    """Its reserve price."""
    available_until_us: int
    """0: it did not say."""
    speed_uwu_per_s: int
    """As it says itself; 0: unknown."""
    verified_uwu: int
    """Work of all its results that were accepted."""


class BidRow(NamedTuple):
    """A job that wants work done."""

    job_id: int
    buyer_id: str
    terms: PriceTerms
    undecided_count: int
    work_uwu_per_task: int
    level: VerificationLevel


class MarketRepository(Protocol):
    """Standing orders and fair shares: `uow.market`."""

    def asked(
        self, vehicle_id: str, *, price_micros_per_wu: int, available_until_us: int, now_us: int
    ) -> None:
        """Note that a vehicle called, and what it asks for from now on."""
        ...

    def asks(self, *, heard_after_us: int) -> list[AskRow]:
        """Asks of vehicles that are given leases and asked for work after a time, by vehicle."""
        ...

    def bids(self) -> list[BidRow]:
        """Active jobs with undecided tasks, by job; donated ones are left out."""
        ...

    def bidder_count(self) -> int:
        """Return how many buyers `bids` are of."""
        ...

    def virtual_uwu(self) -> int:
        """Return where the scale of fair shares begins; 0 at first."""
        ...

    def put_share(self, buyer_id: str, share: BuyerShare, *, virtual_uwu: int) -> None:
        """Write a buyer's share, and where the scale begins from now on."""
        ...

    def give_back(self, buyer_id: str, work_uwu: int) -> None:
        """Take work that was leased and not done off a buyer's tag."""
        ...

    def restart_scale(self, virtual_uwu: int) -> None:
        """Let the scale of fair shares begin at 0 again: take off every tag where it began so far."""
        ...
