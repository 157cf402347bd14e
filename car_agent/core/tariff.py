"""What electricity costs the owner: one price, or prices by weekday and hour. Pure.

Prices are micro-units of a currency per kWh, and may be negative where a tariff is. Local time, daylight
saving included, comes with the time zone that the tariff brings.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol

MINUTES_PER_DAY: Final = 24 * 60
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class TariffPrice:
    """The price at a moment, or why there is none."""

    micros_per_kwh: int | None
    why_not: str = ""
    """A plain sentence when there is no price."""


NO_TARIFF: Final = TariffPrice(None, "No tariff is set: `car-agent tariff set` says how.")


class Tariff(Protocol):
    """Where prices come from. A source of another kind (a charger's own service) is one more of these."""

    @property
    def currency(self) -> str:
        """ISO 4217 code; empty without a tariff."""
        ...

    def price(self, now_us: int) -> TariffPrice:
        """Return the price at a moment. Must not block."""
        ...

    def describe(self) -> str:
        """Return the tariff in a few words."""
        ...


@dataclass(frozen=True, slots=True)
class NoTariff:
    """The owner has set none."""

    currency: str = ""

    def price(self, now_us: int) -> TariffPrice:
        """Return none."""
        del now_us
        return NO_TARIFF

    def describe(self) -> str:
        """Say so."""
        return "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedTariff:
    """One price."""

    currency: str
    micros_per_kwh: int

    def price(self, now_us: int) -> TariffPrice:
        """Return the price."""
        del now_us
        return TariffPrice(self.micros_per_kwh)

    def describe(self) -> str:
        """Say so."""
        return "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours of some weekdays, at a price. Midnight may lie inside: the evening's weekday then counts."""

    days: frozenset[int]
    """Monday is 0."""
    start_minute: int
    """Of the local day, 0 to 1,439."""
    end_minute: int
    """1 to 1,440; at or before `start_minute` it is on the next day."""
    micros_per_kwh: int

    def holds(self, local: datetime) -> bool:
        """Whether a local time lies in the window: from its start, up to but not at its end."""
        minute, weekday = local.hour * 60 + local.minute, local.weekday()
        if self.start_minute < self.end_minute:
            return weekday in self.days and self.start_minute <= minute < self.end_minute
        yesterday = (local - timedelta(days=1)).weekday()
        return (weekday in self.days and minute >= self.start_minute) or (
            yesterday in self.days and minute < self.end_minute
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOfUseTariff:
    """Prices by weekday and hour; the first window that holds counts, and else the base price."""

    currency: str
    zone: tzinfo
    zone_name: str
    base_micros_per_kwh: int
    windows: tuple[Window, ...]

    def price(self, now_us: int) -> TariffPrice:
        """Return the price of the local hour."""
        local = datetime.fromtimestamp(now_us // _MICROSECONDS, UTC).astimezone(self.zone)
        for window in self.windows:
            if window.holds(local):
                return TariffPrice(window.micros_per_kwh)
        return TariffPrice(self.base_micros_per_kwh)

    def describe(self) -> str:
        """Say so."""
        return f"by the hour in {self.zone_name}"
