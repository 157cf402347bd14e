"""Facts for estimates in SQL."""

from collections import defaultdict

from pool_server.core.fleet import ACTIVE_STATES
from pool_server.core.forecast.price import PricePoint
from pool_server.store.driver import Driver

_ACTIVE = ", ".join(f"'{state.value}'" for state in ACTIVE_STATES)


class SqlOutlookRepository:
    """Implements `ports.outlook.OutlookRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def speeds(self, *, at_most: int) -> list[int]:
        rows = self._driver.run(
            f"SELECT speed_uwu_per_s FROM fleet_vehicles WHERE state IN ({_ACTIVE}) "
            "ORDER BY last_seen_us DESC LIMIT ?",
            (at_most,),
        )
        return [int(row[0]) for row in rows]

    def waiting_work(self, *, price_micros_per_wu: int) -> dict[str, int]:
        rows = self._driver.run(
            "SELECT buyer_id, task_count - accepted_count - failed_count - cancelled_count, "
            "work_uwu_per_task FROM jobs WHERE state IN ('open', 'closing') "
            "AND (price_mode <> 'spot' OR price_micros_per_wu >= ?)",
            (price_micros_per_wu,),
        )
        # Added up here: one job's work may be more than the database's numbers hold.
        waiting: dict[str, int] = defaultdict(int)
        for buyer_id, task_count, work_uwu in rows:
            waiting[buyer_id] += task_count * work_uwu
        return {buyer_id: work_uwu for buyer_id, work_uwu in waiting.items() if work_uwu}

    def prices_since(self, since_us: int) -> list[PricePoint]:
        rows = self._driver.run(
            "SELECT set_at_us, price_micros_per_wu FROM posted_prices WHERE price_id >= COALESCE("
            "(SELECT MAX(price_id) FROM posted_prices WHERE set_at_us <= ?), 0) ORDER BY price_id",
            (since_us,),
        )
        return [PricePoint(row[0], row[1]) for row in rows]

    def work_by_day(self, *, from_day: int) -> list[int]:
        rows = self._driver.run(
            "SELECT SUM(work_uwu) FROM owner_days WHERE day >= ? GROUP BY day ORDER BY day", (from_day,)
        )
        return [int(row[0]) for row in rows]

    def energy_per_work(self, *, attempts: int) -> tuple[int, int]:
        row = self._driver.run(
            "SELECT COALESCE(SUM(energy_mj), 0), COALESCE(SUM(work_uwu), 0) FROM ("
            "SELECT a.energy_mj AS energy_mj, r.work_uwu AS work_uwu FROM receipts r "
            "JOIN attempts a ON a.attempt_id = r.attempt_id WHERE r.receipt_id > "
            "(SELECT COALESCE(MAX(receipt_id), 0) FROM receipts) - ? AND a.energy_mj > 0) newest",
            (attempts,),
        ).one()
        return int(row[0]), int(row[1])
