"""Standing orders and fair shares in SQL. A vehicle's ask stands in its own row, a job's bid in its terms."""

from pool_protocol.errors import InvariantError
from pool_server.core.fleet import ACTIVE_STATES
from pool_server.core.jobs import PriceMode, PriceTerms
from pool_server.core.matching import BuyerShare
from pool_server.core.verification import VerificationLevel
from pool_server.ports.market import AskRow, BidRow
from pool_server.store.driver import Driver

_ACTIVE = ", ".join(f"'{state.value}'" for state in ACTIVE_STATES)
_UNDECIDED = "task_count - accepted_count - failed_count - cancelled_count"

_BIDS = f"state IN ('open', 'closing') AND price_mode <> 'donate' AND {_UNDECIDED} > 0"


class SqlMarketRepository:
    """Implements `ports.market.MarketRepository`."""

    def __init__(self, driver: Driver) -> None:
        """Bind to a transaction."""
        self._driver = driver

    def asked(
        self, vehicle_id: str, *, price_micros_per_wu: int, available_until_us: int, now_us: int
    ) -> None:
        """Note that a vehicle called, and what it asks for from now on."""
        result = self._driver.run(
            "UPDATE fleet_vehicles SET asked_at_us = ?, ask_micros_per_wu = ?, available_until_us = ?, "
            "last_seen_us = CASE WHEN last_seen_us < ? THEN ? ELSE last_seen_us END WHERE vehicle_id = ?",
            (now_us, price_micros_per_wu, available_until_us, now_us, now_us, vehicle_id),
        )
        if result.rowcount != 1:
            raise InvariantError(f"{vehicle_id} is not there to ask")

    def asks(self, *, heard_after_us: int) -> list[AskRow]:
        """Asks of vehicles that are given leases and asked for work after a time, by vehicle."""
        rows = self._driver.run(
            "SELECT vehicle_id, owner_id, ask_micros_per_wu, available_until_us, speed_uwu_per_s, "
            f"verified_uwu FROM fleet_vehicles WHERE state IN ({_ACTIVE}) AND asked_at_us > ? "
            "ORDER BY vehicle_id",
            (heard_after_us,),
        )
        return [AskRow._make(row) for row in rows]

    def bids(self) -> list[BidRow]:
        """Active jobs with undecided tasks, by job; donated ones are left out."""
        rows = self._driver.run(
            "SELECT job_id, buyer_id, price_mode, price_micros_per_wu, price_start_micros_per_wu, "
            f"deadline_us, {_UNDECIDED}, work_uwu_per_task, level FROM jobs "
            f"WHERE {_BIDS} ORDER BY job_id"
        )
        return [
            BidRow(
                job_id=row[0],
                buyer_id=row[1],
                terms=PriceTerms(
                    mode=PriceMode(row[2]),
                    price_micros_per_wu=row[3],
                    start_micros_per_wu=row[4],
                    deadline_us=row[5],
                ),
                undecided_count=row[6],
                work_uwu_per_task=row[7],
                level=VerificationLevel(row[8]),
            )
            for row in rows
        ]

    def bidder_count(self) -> int:
        """Return how many buyers `bids` are of."""
        return int(self._driver.run(f"SELECT COUNT(DISTINCT buyer_id) FROM jobs WHERE {_BIDS}").scalar_one())

    def virtual_uwu(self) -> int:
        """Return where the scale of fair shares begins; 0 at first."""
        return int(self._driver.run("SELECT COALESCE(MAX(virtual_uwu), 0) FROM buyer_shares").scalar_one())

    def put_share(self, buyer_id: str, share: BuyerShare, *, virtual_uwu: int) -> None:
        """Write a buyer's share, and where the scale begins from now on."""
        self._driver.run(
            "INSERT INTO buyer_shares (buyer_id, tag_uwu, lease_uwu, virtual_uwu) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (buyer_id) DO UPDATE SET tag_uwu = excluded.tag_uwu, "
            "lease_uwu = excluded.lease_uwu, virtual_uwu = excluded.virtual_uwu",
            (buyer_id, share.tag_uwu, share.lease_uwu, virtual_uwu),
        )

    def give_back(self, buyer_id: str, work_uwu: int) -> None:
        """Take work that was leased and not done off a buyer's tag."""
        self._driver.run(
            "UPDATE buyer_shares SET tag_uwu = CASE WHEN tag_uwu > ? THEN tag_uwu - ? ELSE 0 END "
            "WHERE buyer_id = ?",
            (work_uwu, work_uwu, buyer_id),
        )

    def restart_scale(self, virtual_uwu: int) -> None:
        """Let the scale of fair shares begin at 0 again: take off every tag where it began so far."""
        self._driver.run(
            "UPDATE buyer_shares SET virtual_uwu = 0, "
            "tag_uwu = CASE WHEN tag_uwu > ? THEN tag_uwu - ? ELSE 0 END",
            (virtual_uwu, virtual_uwu),
        )
