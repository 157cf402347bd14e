"""What an estimate of a job's price, time and energy is made of. Read only."""

from typing import Protocol

from pool_server.core.forecast.price import PricePoint


class OutlookRepository(Protocol):
    """Facts for estimates: `uow.outlook`."""

    def speeds(self, *, at_most: int) -> list[int]:
        """Speeds of vehicles that are given leases, micro-WU per second, 0 where unknown; a sample."""
        ...

    def waiting_work(self, *, price_micros_per_wu: int) -> dict[str, int]:
        """Undecided work of active jobs that pay this price, by buyer, micro-WU, one execution per task."""
        ...

    def prices_since(self, since_us: int) -> list[PricePoint]:
        """Posted prices from the one in force at a time on, oldest first."""
        ...

    def work_by_day(self, *, from_day: int) -> list[int]:
        """Verified work of each day with any, from a day (since the epoch) on, micro-WU."""
        ...

    def energy_per_work(self, *, attempts: int) -> tuple[int, int]:
        """Millijoules and micro-WU of the newest paid attempts that reported energy, in sum."""
        ...
