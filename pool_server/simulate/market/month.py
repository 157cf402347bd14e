"""One simulated month under one limiter: every quarter hour the pool's own auction, limiter, bids and shares.

At the start of a quarter hour all open jobs bid for the work they have left, on their stated path where they
have a deadline, and all charging vehicles ask with their reserve for what they can do in it. The auction
gives the target, the limiter the price that is posted. Then the willing trade at the posted price, which
leases lock for the whole quarter hour: jobs that bid no less, vehicles that ask no more. Where work is
scarce, all vehicles have an even share of their time filled; where cars are scarce, buyers get even shares of
their work (`fair_share`), and a buyer's jobs go by deadline, then by age.

A vehicle's ask is what it then really has time for: how well departures are forecast is not asked here. All
work counts as verified, and levels and audits as free.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from pool_protocol.limits import SECOND_US
from pool_protocol.money import fee_floor, work_price_micros
from pool_server.core.forecast.energy import JOULES_PER_KWH
from pool_server.core.pricing.bid_path import needed_us
from pool_server.core.pricing.clearing import clear
from pool_server.core.pricing.epoch import EPOCH_US
from pool_server.core.pricing.fair_share import FairShares, WaitingJob
from pool_server.core.pricing.limiter import limited
from pool_server.core.pricing.orders import PRICE_MICROS_PER_WU_MAX, Ask, Bid, order_work_uwu
from pool_server.simulate.market.demand import Job, draw_jobs
from pool_server.simulate.market.fleet import Vehicle, draw_fleet
from pool_server.simulate.market.tariffs import QUARTERS_PER_DAY, Tariff

Tell = Callable[[float], None]
_UWU_PER_KWU = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a simulated month is drawn from."""

    days: int = 30
    vehicles: int = 1_500
    buyers: int = 40
    seed: int = 1
    demand: float = 0.8
    """Work handed in, as a multiple of what the fleet can do while it charges."""
    patient: bool = True
    """Whether work can wait; without, what is not done in its quarter hour is gone."""
    higher_bids_first: bool = False
    """Whether scarce cars go to the higher bid first, and only then to buyers by even shares."""
    tariff: Tariff | None = None
    """All owners'; None for a mixture."""
    fee_ppm: int = 100_000
    start_micros_per_wu: int = 20
    """The price posted before the month begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is the same whatever the price does."""

    settings: Settings
    fleet: Sequence[Vehicle]
    jobs: Sequence[Job]
    charging: Sequence[Sequence[tuple[int, int]]]
    """For each quarter hour: (place in the fleet, seconds charging)."""
    capacity_uwu: int
    """What the fleet could do in all its charging time."""


class Quarter(NamedTuple):
    """What one quarter hour of the market was like."""

    posted_micros_per_wu: int
    clearing_micros_per_wu: int | None
    """The auction's price; None where nothing crossed."""
    target_micros_per_wu: int
    bid_uwu: int
    """All work bid for, at any price."""
    willing_bid_uwu: int
    """Of that, at the posted price or more."""
    ask_uwu: int
    willing_ask_uwu: int
    traded_uwu: int


@dataclass(slots=True)
class JobRun:
    """How a job fared."""

    job: Job
    left_uwu: int
    began: int | None = None
    """The quarter hour of its first work."""
    done: int | None = None
    """The quarter hour of its last."""


@dataclass(slots=True)
class OwnerMonth:
    """What a vehicle did and earned."""

    charging_s: int = 0
    work_uwu: int = 0
    gross_micros: int = 0
    fee_micros: int = 0
    energy_j: int = 0
    electricity_micros: int = 0

    @property
    def net_micros(self) -> int:
        """Pay less the pool's fee less electricity."""
        return self.gross_micros - self.fee_micros - self.electricity_micros


@dataclass(slots=True)
class Month:
    """What a month under one limiter was like."""

    step_ppm: int | None
    """None for no limiter: the target is posted."""
    quarters: list[Quarter] = field(default_factory=list)
    jobs: list[JobRun] = field(default_factory=list)
    owners: list[OwnerMonth] = field(default_factory=list)
    """As in the fleet."""
    value_micros: int = 0
    """What the work done was worth to buyers."""
    limit_micros: int = 0
    """The least that its owners would have done it for."""

    @property
    def gain_micros(self) -> int:
        """The surplus: what trade made buyers, owners and the pool together better off."""
        return self.value_micros - self.limit_micros


def draw_world(settings: Settings) -> World:
    """Draw fleet and jobs; the same settings give the same world."""
    chance = Random(settings.seed)  # noqa: S311 - a simulation: the seed is the point
    fleet = draw_fleet(
        chance,
        vehicles=settings.vehicles,
        days=settings.days,
        tariff=settings.tariff,
        fee_ppm=settings.fee_ppm,
    )
    charging: list[list[tuple[int, int]]] = [[] for _ in range(settings.days * QUARTERS_PER_DAY)]
    for place, vehicle in enumerate(fleet):
        for quarter, seconds in vehicle.charging:
            charging[quarter].append((place, seconds))
    capacity = sum(v.speed_uwu_per_s * sum(seconds for _, seconds in v.charging) for v in fleet)
    jobs = draw_jobs(
        chance,
        buyers=settings.buyers,
        days=settings.days,
        total_work_uwu=int(capacity * settings.demand),
        patient=settings.patient,
    )
    return World(settings=settings, fleet=fleet, jobs=jobs, charging=charging, capacity_uwu=capacity)


def run_month(world: World, *, step_ppm: int | None, tell: Tell) -> Month:
    """Run a world's month; `tell` hears the share that is done."""
    return _Market(world, step_ppm).run(tell)


class _Market:
    def __init__(self, world: World, step_ppm: int | None) -> None:
        self._world = world
        self._month = Month(step_ppm=step_ppm, owners=[OwnerMonth() for _ in world.fleet])
        self._posted = world.settings.start_micros_per_wu
        self._open: dict[int, JobRun] = {}
        self._shares = FairShares()
        #: What vehicles were willing to do in the last day's quarter hours: how fast a job may expect to go.
        self._offered: deque[int] = deque(maxlen=QUARTERS_PER_DAY)

    def run(self, tell: Tell) -> Month:
        coming = deque(self._world.jobs)
        quarters = len(self._world.charging)
        for quarter in range(quarters):
            while coming and coming[0].arrives == quarter:
                run = JobRun(coming[0], coming[0].work_uwu)
                self._month.jobs.append(run)
                self._open[coming.popleft().job_id] = run
            self._open = {job_id: run for job_id, run in self._open.items() if run.job.ends > quarter}
            self._step(quarter)
            tell((quarter + 1) / quarters)
        self._month.value_micros //= 1_000_000
        self._month.limit_micros //= _UWU_PER_KWU
        return self._month

    def _step(self, quarter: int) -> None:
        bids, asks = self._bids(quarter), self._asks(quarter)
        clearing = clear(bids, asks, previous_price_micros_per_wu=self._posted)
        self._posted = self._next_price(clearing.target_micros_per_wu)
        willing_jobs = [
            (bid, self._open[int(bid.order_id[4:])])
            for bid in bids
            if bid.price_micros_per_wu >= self._posted
        ]
        willing_cars = [
            (place, ask.work_uwu)
            for (place, _), ask in zip(self._world.charging[quarter], asks, strict=True)
            if ask.price_micros_per_wu <= self._posted
        ]
        wanted = sum(run.left_uwu for _, run in willing_jobs)
        offered = sum(work for _, work in willing_cars)
        traded = min(wanted, offered)
        self._offered.append(offered)
        for place, work in _evenly(willing_cars, traded, offered):
            self._pay(place, work, quarter)
        self._serve(willing_jobs, [work for _, work in willing_cars], quarter, scarce=offered < wanted)
        for place, seconds in self._world.charging[quarter]:
            self._month.owners[place].charging_s += seconds
        self._month.quarters.append(
            Quarter(
                self._posted,
                clearing.price_micros_per_wu,
                clearing.target_micros_per_wu,
                clearing.bid_uwu,
                wanted,
                clearing.ask_uwu,
                offered,
                traded,
            )
        )

    def _next_price(self, target: int) -> int:
        if self._month.step_ppm is None:
            return target
        return limited(
            self._posted, target, step_ppm=self._month.step_ppm, floor=1, cap=PRICE_MICROS_PER_WU_MAX
        )

    def _bids(self, quarter: int) -> list[Bid]:
        buyers = len({run.job.buyer_id for run in self._open.values()})
        speed = sum(self._offered) * SECOND_US // (max(1, len(self._offered)) * EPOCH_US * max(1, buyers))
        bids = []
        for run in self._open.values():
            job, price = run.job, run.job.cap_micros_per_wu
            if job.path is not None:
                needed = needed_us(run.left_uwu, speed_uwu_per_s=speed)
                price = job.path.bid(needed_us=needed, now_us=quarter * EPOCH_US)
            bids.append(Bid(job.order_id, job.buyer_id, price, order_work_uwu(run.left_uwu)))
        return bids

    def _asks(self, quarter: int) -> list[Ask]:
        asks = []
        for place, seconds in self._world.charging[quarter]:
            vehicle = self._world.fleet[place]
            reserve = vehicle.reserves[quarter % len(vehicle.reserves)]
            asks.append(Ask(vehicle.vehicle_id, vehicle.owner_id, reserve, seconds * vehicle.speed_uwu_per_s))
        return asks

    def _pay(self, place: int, work_uwu: int, quarter: int) -> None:
        vehicle, owner = self._world.fleet[place], self._month.owners[place]
        gross = work_price_micros(work_uwu, self._posted)
        energy_j = vehicle.joules_per_kwu * work_uwu // _UWU_PER_KWU
        owner.work_uwu += work_uwu
        owner.gross_micros += gross
        owner.fee_micros += fee_floor(gross, self._world.settings.fee_ppm)
        owner.energy_j += energy_j
        owner.electricity_micros += vehicle.tariff.at(quarter) * energy_j // JOULES_PER_KWH
        self._month.limit_micros += vehicle.limit_micros_per_kwu(quarter) * work_uwu

    def _serve(
        self, willing: Sequence[tuple[Bid, JobRun]], leases: Iterable[int], quarter: int, *, scarce: bool
    ) -> None:
        if not scarce:
            for _, run in willing:
                self._work_done(run, run.left_uwu, quarter)
            return
        in_line: dict[str, deque[WaitingJob]] = {}
        for job in self._in_order(willing):
            in_line.setdefault(job.buyer_id, deque()).append(job)
        fronts = {buyer_id: jobs[0] for buyer_id, jobs in in_line.items()}
        self._shares = self._shares.waiting(fronts.values())
        for lease_uwu in leases:
            left_uwu = lease_uwu
            while left_uwu:
                front = self._shares.first(fronts.values())
                run = self._open[front.job_id]
                work = min(left_uwu, run.left_uwu)
                self._shares = self._shares.leased(front, work)
                self._work_done(run, work, quarter)
                left_uwu -= work
                if run.left_uwu == 0:
                    jobs = in_line[front.buyer_id]
                    jobs.popleft()
                    if jobs:
                        fronts[front.buyer_id] = jobs[0]
                    else:
                        del fronts[front.buyer_id]

    def _in_order(self, willing: Sequence[tuple[Bid, JobRun]]) -> list[WaitingJob]:
        """Return jobs in the order that holds within a buyer.

        All pay the same price, so they wait in one queue, unless a higher bid is to buy precedence.
        """
        counts = self._world.settings.higher_bids_first
        jobs = [
            (WaitingJob(run.job.job_id, bid.buyer_id, bid.price_micros_per_wu if counts else 0), run)
            for bid, run in willing
        ]
        jobs.sort(key=lambda pair: (-pair[0].bid_micros_per_wu, *_deadline_first(pair[1])))
        return [job for job, _ in jobs]

    def _work_done(self, run: JobRun, work_uwu: int, quarter: int) -> None:
        if work_uwu and run.began is None:
            run.began = quarter
        run.left_uwu -= work_uwu
        self._month.value_micros += run.job.cap_micros_per_wu * work_uwu
        if run.left_uwu == 0:
            run.done = quarter
            del self._open[run.job.job_id]


def _deadline_first(run: JobRun) -> tuple[bool, int, int]:
    return run.job.path is None, run.job.ends, run.job.job_id


def _evenly(cars: Sequence[tuple[int, int]], traded_uwu: int, offered_uwu: int) -> list[tuple[int, int]]:
    """Fill the same share of everybody's time; the parts add up to what is traded."""
    parts, before = [], 0
    so_far = 0
    for place, work in cars:
        so_far += work
        upto = traded_uwu * so_far // offered_uwu
        if upto > before:
            parts.append((place, upto - before))
        before = upto
    return parts
