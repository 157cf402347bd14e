"""What a payout report says beyond its sums: movers, age of money, returns, take rate. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pool_protocol.limits import DAY_US
from pool_protocol.money import PPM

#: Owners that earned most more, and most less, than in the month before.
MOVERS_MAX = 5
#: Upper ends of the age classes, days; the last class has none.
AGE_CLASSES_DAYS = (1, 7, 30, 90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """An owner whose net changed much against the month before."""

    owner_id: str
    net_micros: int
    before_micros: int
    """In the month before."""

    @property
    def change_micros(self) -> int:
        """What it earned more, or less."""
        return self.net_micros - self.before_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeClass:
    """Money of an age."""

    from_days: int
    until_days: int
    """0: without end."""
    count: int
    amount_micros: int

    @property
    def label(self) -> str:
        """The class in words."""
        if not self.until_days:
            return f"over {self.from_days} days"
        if not self.from_days:
            return f"under {self.until_days} day" + ("" if self.until_days == 1 else "s")
        return f"{self.from_days} to {self.until_days} days"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutRow:
    """A payout row that was quarantined in a run of the period."""

    payout_id: str
    owner_id: str
    amount_micros: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFigures:
    """The report's further figures. Ages are of the time at which the report was made."""

    movers: tuple[Mover, ...] = ()
    """Those that earned more first, by how much; then those that earned less."""
    held_by_age: tuple[AgeClass, ...] = ()
    """Verified and inside the dispute window; by the time since verification."""
    questioned_micros: int = 0
    """Of results that are checked again."""
    escrow_by_age: tuple[AgeClass, ...] = ()
    """Reserved for jobs; by the time since the job's first reservation."""
    left_out: tuple[LeftOutRow, ...] = ()
    returned_count: int = 0
    """Payouts that came back in the period."""
    returned_micros: int = 0
    clawed_back_micros: int = 0
    """Taken back from owners in the period for results that proved wrong."""
    appealed_micros: int = 0
    """Paid in the period for rejections that were overturned."""
    take_rate_ppm: int = 0
    """Fees per gross, parts per million."""
    net_take_rate_ppm: int = 0
    """Fees minus what audits cost, per what buyers paid; negative when audits cost more."""


NO_FIGURES = ReportFigures()


def movers_of(net_micros: Mapping[str, int], before_micros: Mapping[str, int]) -> tuple[Mover, ...]:
    """Return the owners whose net rose most and fell most, at most `MOVERS_MAX` of each."""
    movers = [
        Mover(
            owner_id=owner_id,
            net_micros=net_micros.get(owner_id, 0),
            before_micros=before_micros.get(owner_id, 0),
        )
        for owner_id in sorted(net_micros.keys() | before_micros.keys())
    ]
    risen = sorted((one for one in movers if one.change_micros > 0), key=lambda one: -one.change_micros)
    fallen = sorted((one for one in movers if one.change_micros < 0), key=lambda one: one.change_micros)
    return (*risen[:MOVERS_MAX], *fallen[:MOVERS_MAX])


def by_age(entries: Iterable[tuple[int, int, int]], *, now_us: int) -> tuple[AgeClass, ...]:
    """Sum money by age; every class is there, empty or not.

    Args:
        entries: (since when in microseconds, count, amount) of each sum.
        now_us: Until when; what is younger than nothing has no age.
    """
    ends = (*AGE_CLASSES_DAYS, 0)
    sums = [[0, 0] for _ in ends]
    for since_us, count, amount_micros in entries:
        days = max(0, now_us - since_us) // DAY_US
        place = next((place for place, end in enumerate(AGE_CLASSES_DAYS) if days < end), len(ends) - 1)
        sums[place][0] += count
        sums[place][1] += amount_micros
    return tuple(
        AgeClass(from_days=start, until_days=end, count=count, amount_micros=amount_micros)
        for start, end, (count, amount_micros) in zip((0, *AGE_CLASSES_DAYS), ends, sums, strict=True)
    )


def share_ppm(part_micros: int, whole_micros: int) -> int:
    """Return a share in parts per million, rounded down; 0 of nothing."""
    return part_micros * PPM // whole_micros if whole_micros else 0
