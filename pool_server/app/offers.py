"""Which jobs a vehicle could be given at today's price, and why none when all are out of its reach.

A lease locks the posted price; of a job with a quote, the quote's. No lease is granted above what its job
bids now, or below what its vehicle asks for: both are checked here, once, for every lease there is.
"""

from collections.abc import Sequence

from pool_protocol.limits import DAY_US
from pool_server.app.pricing import speed_of_one_bid
from pool_server.core.jobs import PriceMode, PriceTerms
from pool_server.core.matching import JobOffer, NoWorkReason
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobRow

#: A vehicle that says it stays for longer is believed so long: what counts is the next quarter of an hour.
AVAILABLE_US_MAX = 30 * DAY_US


def available_until(available_ms: int, *, now_us: int) -> int:
    """Return until when a vehicle says that it can compute; 0 when it does not say."""
    return now_us + min(available_ms * 1_000, AVAILABLE_US_MAX) if available_ms else 0


def job_offers(uow: UnitOfWork, *, posted_micros: int, now_us: int) -> list[JobOffer]:
    """Return all jobs with ready tasks, with the price that a lease of each would lock now."""
    rows = uow.jobs.offers()
    on_a_path = any(row.terms.start_micros_per_wu for row in rows)
    speed_uwu_per_s = speed_of_one_bid(uow) if on_a_path else 0
    offers = []
    for row in rows:
        bid_micros = row.terms.price_micros_per_wu
        if row.terms.start_micros_per_wu:
            bid_micros = row.terms.bid_now(
                left_uwu=row.left_uwu, speed_uwu_per_s=speed_uwu_per_s, now_us=now_us
            )
        offers.append(
            JobOffer(
                job_id=row.job_id,
                buyer_id=row.buyer_id,
                program_sha256=row.program_sha256,
                bid_micros_per_wu=bid_micros,
                price_micros_per_wu=row.terms.price_now(posted_micros, bid_micros_per_wu=bid_micros),
                is_spot=row.terms.mode is PriceMode.SPOT,
                last_lease_id=row.last_lease_id,
                deadline_us=row.terms.deadline_us,
                share=row.share,
            )
        )
    return offers


def bid_of(uow: UnitOfWork, job: JobRow, *, now_us: int) -> int:
    """Return the most that a job pays now, micro-units per WU."""
    if job.terms.path is None:
        return job.terms.price_micros_per_wu
    left_uwu = job.undecided_count * job.work_uwu_per_task
    return job.terms.bid_now(left_uwu=left_uwu, speed_uwu_per_s=speed_of_one_bid(uow), now_us=now_us)


def above_bid(terms: PriceTerms, *, posted_micros: int, bid_micros: int) -> str:
    """Say in a sentence why a job waits for a lower price, with the numbers on both sides."""
    cap = terms.price_micros_per_wu
    if bid_micros >= cap:
        return f"The price is {posted_micros} micros per WU, above the job's cap of {cap}."
    return (
        f"The price is {posted_micros} micros per WU, above the {bid_micros} that the job bids now; its bid "
        f"rises to its cap of {cap} towards its deadline."
    )


def willing_offers(offers: Sequence[JobOffer], *, reserve_micros: int) -> list[JobOffer]:
    """Return the jobs whose price both sides take."""
    return [
        offer
        for offer in offers
        if offer.price_micros_per_wu is not None and offer.price_micros_per_wu >= reserve_micros
    ]


def waiting_offers(offers: Sequence[JobOffer], *, posted_micros: int, reserve_micros: int) -> list[JobOffer]:
    """Return the jobs that fair shares are counted over when a vehicle of a reserve is served.

    They are those that it could be given, and all that pay the posted price: who wants the cars of all does
    not stop waiting because one car asks for more, else that car's leases would wipe out what others lag.
    """
    least_micros = min(posted_micros, reserve_micros)
    return willing_offers(offers, reserve_micros=least_micros)


def why_not_willing(
    offers: Sequence[JobOffer], *, posted_micros: int, reserve_micros: int
) -> tuple[NoWorkReason, str]:
    """Say why none of these jobs is for a vehicle of this reserve, with the numbers on both sides.

    Its own reserve is what stands in the way when a job would pay today's price. Otherwise it is the buyers'
    bids, and there is nothing that the owner could change.
    """
    prices = [offer.price_micros_per_wu for offer in offers if offer.price_micros_per_wu is not None]
    best_bid = max(offer.bid_micros_per_wu for offer in offers)
    if not prices:
        why = (
            f"The price is {posted_micros} micros per WU, and the jobs that wait pay {best_bid} at most: "
            "they wait for a lower price."
        )
        return NoWorkReason.NO_WORK, why
    would_pay = any(offer.is_spot and offer.bid_micros_per_wu >= reserve_micros for offer in offers)
    when = "which buyers here would pay" if would_pay else f"and buyers here pay {best_bid} at most"
    why = (
        f"The price is {max(prices)} micros per WU, below this vehicle's reserve of {reserve_micros}. It "
        f"works again when the price reaches {reserve_micros}, {when}."
    )
    return NoWorkReason.PRICE_BELOW_RESERVE, why
