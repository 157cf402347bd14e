"""What a quote tells beyond its price: where the spot price may go, how long, how much energy; levels."""

from dataclasses import dataclass
from datetime import timedelta

from pool_protocol import amounts
from pool_protocol.v1 import market_service_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteEstimate:
    """Figures that bind nobody. One job in ten stays below p10, nine in ten below p90."""

    price_p10_micros_per_wu: int
    price_p50_micros_per_wu: int
    price_p90_micros_per_wu: int
    price_epochs: int
    """Quarters of an hour of price history behind it; with 0 the price is taken to stay."""
    total_p10_micros: int
    """All tasks at these prices, as a spot job would pay them."""
    total_p50_micros: int
    total_p90_micros: int
    time_p10_s: float
    """From the first task to the last result; 0 while no car's speed is known."""
    time_p50_s: float
    time_p90_s: float
    time_basis: str
    """What the times were read from."""
    energy_wh: float
    """Of all executions, audits included."""
    co2_g: float
    energy_basis: str
    """What energy and CO2 were read from."""

    @property
    def has_time(self) -> bool:
        """Whether the pool could say how long it will take."""
        return self.time_p90_s > 0

    def lines(self, currency: str) -> list[str]:
        """Return the estimate in words, a sentence each."""
        price = (
            f"Spot price: {self.price_p50_micros_per_wu} micros per WU, 8 times in 10 between "
            f"{self.price_p10_micros_per_wu} and {self.price_p90_micros_per_wu} "
            f"({amounts.amount(self.total_p10_micros)} to {amounts.amount(self.total_p90_micros, currency)} "
            f"in all); from {self.price_epochs} quarter hours of history."
        )
        if self.has_time:
            time = (
                f"Time: about {duration(self.time_p50_s)}, 8 times in 10 between "
                f"{duration(self.time_p10_s)} and {duration(self.time_p90_s)}. {self.time_basis}"
            )
        else:
            time = f"Time: not known. {self.time_basis}"
        energy = f"Energy: about {self.energy_wh:.3g} Wh, {self.co2_g:.3g} g CO2. {self.energy_basis}"
        return [price, time, energy]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelOffer:
    """What the same job costs at a level."""

    level: str
    attempts_per_task: int
    cost_micros_per_task: int
    epsilon: float
    """Error target; 0 for levels without one."""


def estimate_of_wire(message: market_service_pb2.QuoteEstimate) -> QuoteEstimate:
    """Return the estimate out of the pool's message."""
    return QuoteEstimate(
        price_p10_micros_per_wu=message.price_p10_micros_per_wu,
        price_p50_micros_per_wu=message.price_p50_micros_per_wu,
        price_p90_micros_per_wu=message.price_p90_micros_per_wu,
        price_epochs=message.price_epochs,
        total_p10_micros=message.total_p10_micros,
        total_p50_micros=message.total_p50_micros,
        total_p90_micros=message.total_p90_micros,
        time_p10_s=message.time_p10_ms / 1_000,
        time_p50_s=message.time_p50_ms / 1_000,
        time_p90_s=message.time_p90_ms / 1_000,
        time_basis=message.time_basis,
        energy_wh=message.energy_mwh / 1_000,
        co2_g=message.co2_mg / 1_000,
        energy_basis=message.energy_basis,
    )


def duration(seconds: float) -> str:
    """Write a span as people say it: "4 s", "12 min", "3 h 20 min", "2 days 4 h"."""
    if seconds < 1:
        return "under 1 s"
    whole = timedelta(seconds=round(seconds))
    hours, minutes = divmod(whole.seconds // 60, 60)
    if whole.days:
        days = f"{whole.days} day" + ("s" if whole.days > 1 else "")
        return f"{days} {hours} h" if hours else days
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes and round(seconds) >= 120 else f"{round(seconds)} s"
