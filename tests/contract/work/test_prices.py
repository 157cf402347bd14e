"""The price: orders that follow from what cars and jobs say, epochs that move it, leases that lock it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import HOUR_US, SECOND_US
from pool_server.app.market_policy import MarketPolicy
from pool_server.app.price_epochs import standing_orders
from pool_server.app.pricing import follow_auction
from pool_server.app.work_commands import LeaseGranted, NoWorkNow, WaitingReason
from pool_server.app.work_policy import WorkPolicy
from pool_server.core.effects import WorkAvailable
from pool_server.core.jobs import AttemptOutcome, JobState, PriceMode
from pool_server.core.matching import NoWorkReason
from pool_server.core.pricing.history import HeldEpoch, PostingMode, verify_history
from pool_server.core.pricing.order_book import Book, read_book
from pool_server.core.pricing.orders import Ask, Bid
from pool_server.core.verification import VerificationLevel
from pool_server.ports.fleet import VehicleDelta
from tests.support.workshop import PROGRAM, Workshop, computed, report

WU = 1_000_000
EPOCH_S = 900
#: A car of 1 WU/s and an epoch of a quarter of an hour.
EPOCH_UWU = EPOCH_S * WU


def set_speed(pool: Workshop, car: str, uwu_per_s: int) -> None:
    """A car that computes so fast, and has done so for long."""
    pool.books.run(lambda uow: uow.fleet.set_speed(car, uwu_per_s))
    pool.books.run(lambda uow: uow.fleet.add(car, VehicleDelta(verified_uwu=10**18)))


def asking(
    pool: Workshop, name: str, *, reserve: int, uwu_per_s: int = WU, available_ms: int = 0, owner: str = ""
) -> str:
    """A car that has asked for work and got none: there is none, or not at its price."""
    car = pool.car(name, owner=owner or None)
    set_speed(pool, car, uwu_per_s)
    pool.ask(car, reserve=reserve, available_ms=available_ms)
    return car


def orders(pool: Workshop) -> Book:
    return pool.books.run(lambda uow: standing_orders(uow, policy=pool.policy, now_us=pool.now_us))


def sizes(book_side: tuple[Bid, ...] | tuple[Ask, ...]) -> list[tuple[int, int]]:
    return [(order.price_micros_per_wu, order.work_uwu) for order in book_side]


def last_epoch(pool: Workshop) -> HeldEpoch:
    epoch = pool.books.run(lambda uow: uow.prices.last_epoch())
    assert epoch is not None
    return epoch


def next_epoch(pool: Workshop) -> HeldEpoch:
    pool.wait(seconds=EPOCH_S)
    assert pool.hold_epoch() == 1
    return last_epoch(pool)


def history(pool: Workshop) -> tuple[list[HeldEpoch], dict[int, bytes]]:
    epochs = pool.books.run(lambda uow: uow.prices.epochs_before(0, limit=1_000))[::-1]
    books = {
        epoch.epoch_id: pool.books.run(lambda uow, number=epoch.epoch_id: uow.prices.book(number))  # type: ignore[misc] # a default binds the loop's value
        for epoch in epochs
    }
    return epochs, {number: book for number, book in books.items() if book is not None}


# --- orders -------------------------------------------------------------------------------------


def test_an_ask_is_a_cars_reserve_and_what_it_can_do_until_the_next_epoch(pool: Workshop) -> None:
    asking(pool, "a", reserve=70)
    asking(pool, "b", reserve=50, available_ms=60_000)
    asking(pool, "c", reserve=60, available_ms=10**12)
    asking(pool, "new", reserve=40, uwu_per_s=0)
    assert sizes(orders(pool).asks) == [
        (40, EPOCH_S * pool.policy.market.assumed_speed_uwu_per_s),
        (50, 60 * WU),
        (60, EPOCH_UWU),
        (70, EPOCH_UWU),
    ]
    # Half a minute later the one that leaves soon has that much less to give.
    pool.wait(seconds=30)
    assert (50, 30 * WU) in sizes(orders(pool).asks)
    pool.wait(seconds=31)
    assert [price for price, _ in sizes(orders(pool).asks)] == [40, 60, 70]


def test_a_newcomer_that_claims_to_be_fast_is_believed_up_to_what_it_has_done(pool: Workshop) -> None:
    # 1. It tells absurd run times: still it counts like any car that has not computed yet.
    pool.job(3)
    liar = pool.car("liar")
    lease = pool.lease(liar, 2)
    pool.submit(liar, lease.lease_id, [computed(grant)._replace(run_time_us=1) for grant in lease.attempts])
    assumed = EPOCH_S * pool.policy.market.assumed_speed_uwu_per_s
    pool.books.run(lambda uow: uow.fleet.set_speed(liar, 10**15))
    assert sizes(orders(pool).asks) == [(0, assumed)]
    # 2. What was accepted of it is what it is believed beyond that.
    pool.books.run(lambda uow: uow.fleet.add(liar, VehicleDelta(verified_uwu=assumed)))
    assert sizes(orders(pool).asks) == [(0, assumed + 2 * WU)]
    # 3. A slow car is not made faster than it says.
    pool.books.run(lambda uow: uow.fleet.set_speed(liar, 1_000))
    assert sizes(orders(pool).asks) == [(0, EPOCH_S * 1_000)]


def test_the_count_of_a_cars_work_does_not_outgrow_what_can_be_stored(pool: Workshop) -> None:
    car = pool.car("a")
    pool.books.run(lambda uow: uow.fleet.add(car, VehicleDelta(verified_uwu=2**62)))
    for _ in range(3):
        pool.books.run(lambda uow: uow.fleet.add(car, VehicleDelta(verified_uwu=2**62)))
    assert pool.books.scalar("SELECT verified_uwu FROM fleet_vehicles") == 2**62


def test_a_car_that_is_silent_or_may_not_work_is_no_supply(pool: Workshop) -> None:
    gone, watched, asked_for_none = (asking(pool, name, reserve=5) for name in ("a", "b", "c"))
    pool.quarantine(watched)
    assert len(orders(pool).asks) == 2
    pool.wait(seconds=pool.policy.vehicle_silence_us / 1e6 - 1)
    pool.ask(gone, reserve=6)
    pool.ask(asked_for_none, 0)
    pool.wait(seconds=2)
    assert sizes(orders(pool).asks) == [(6, EPOCH_UWU)]


def test_a_bid_is_what_a_job_pays_now_and_the_work_it_still_wants(pool: Workshop) -> None:
    spot = pool.job(3, price_micros_per_wu=120)
    pool.job(2, price_mode=PriceMode.QUOTE, price_micros_per_wu=90)
    pool.job(4, price_mode=PriceMode.DONATE, price_micros_per_wu=0, budget_micros=0)
    pool.job(1, price_micros_per_wu=110, level=VerificationLevel.FULL)
    ended = pool.job(5, price_micros_per_wu=500)
    pool.cancel(ended)
    assert sizes(orders(pool).bids) == [(120, 3 * WU), (110, 2 * WU), (90, 2 * WU)]
    # What is under way is still wanted: the cars that do it are in the asks with all of their time.
    lease = pool.lease(pool.car("a"), 1)
    assert lease.job_id == spot
    assert sizes(orders(pool).bids)[0] == (120, 3 * WU)
    pool.submit(lease.vehicle_id, lease.lease_id, [computed(lease.attempts[0])])
    assert sizes(orders(pool).bids)[0] == (120, 2 * WU)


def test_orders_in_a_book_have_no_names_and_none_can_be_guessed_from_their_places(pool: Workshop) -> None:
    asking(pool, "zora", reserve=10, owner="owner_z")
    asking(pool, "anna", reserve=20, owner="owner_a")
    pool.job(1, buyer="buyer_z", price_micros_per_wu=100)
    pool.job(1, buyer="buyer_a", price_micros_per_wu=110)
    pool.hold_epoch()
    book = pool.books.run(lambda uow: uow.prices.book(1))
    assert book is not None
    assert not [word for word in (b"zora", b"anna", b"owner", b"buyer", b"vehicle", b"job_") if word in book]
    # Numbers follow the price, whoever came first and whatever they are called.
    assert read_book(book).asks == (Ask("a000001", "-", 10, EPOCH_UWU), Ask("a000002", "-", 20, EPOCH_UWU))
    assert read_book(book).bids == (Bid("b000001", "-", 110, WU), Bid("b000002", "-", 100, WU))


def test_absurd_orders_are_cut_to_what_can_be_counted(pool: Workshop) -> None:
    for name in "abc":
        asking(pool, name, reserve=2**63 - 1, uwu_per_s=10**15)
    pool.job(1, price_micros_per_wu=1, budget_micros=10)
    epoch_id = pool.hold_epoch()
    record = last_epoch(pool).record
    assert epoch_id == 1
    assert record.ask_count == 3
    assert record.ask_uwu < 2**63
    assert verify_history(*history(pool)).epoch_count == 1


# --- epochs -------------------------------------------------------------------------------------


def test_an_epoch_is_held_once_at_full_quarters_of_an_hour(pool: Workshop) -> None:
    assert pool.hold_epoch() == 1
    first = last_epoch(pool)
    assert first.record.epoch_start_us % (EPOCH_S * SECOND_US) == 0
    assert first.record.epoch_start_us <= pool.now_us < first.record.epoch_start_us + EPOCH_S * SECOND_US
    assert pool.hold_epoch() == 0
    left_s = (first.record.epoch_start_us + EPOCH_S * SECOND_US - pool.now_us) / 1e6
    pool.wait(seconds=left_s - 1)
    assert pool.hold_epoch() == 0
    pool.wait(seconds=1)
    assert pool.hold_epoch() == 1
    assert last_epoch(pool).held_at_us == last_epoch(pool).record.epoch_start_us
    assert last_epoch(pool).epoch_id == 2


def test_scarce_cars_raise_the_price_by_a_step_an_epoch_up_to_what_buyers_pay(pool: Workshop) -> None:
    asking(pool, "a", reserve=10, uwu_per_s=1)
    pool.job(50, price_micros_per_wu=150)
    path = []
    pool.hold_epoch()
    for _ in range(4):
        path.append(pool.price())
        next_epoch(pool)
        pool.ask("vehicle_a", 0)
        pool.books.run(
            lambda uow: uow.market.asked(
                "vehicle_a", price_micros_per_wu=10, available_until_us=0, now_us=pool.now_us
            )
        )
    assert path == [120, 144, 150, 150]
    assert last_epoch(pool).record.target_micros_per_wu == 150
    assert WorkAvailable() in pool.effects


def test_plenty_of_cars_lower_it_to_what_the_last_one_asks(pool: Workshop) -> None:
    pool.job(1, price_micros_per_wu=150)
    asking(pool, "a", reserve=90)
    pool.ask("vehicle_a", 0)
    pool.hold_epoch()
    assert last_epoch(pool).record.traded_uwu == WU
    assert pool.price() == 90


def test_after_a_stand_still_there_is_one_epoch_and_one_step(pool: Workshop) -> None:
    asking(pool, "a", reserve=10, uwu_per_s=1)
    pool.job(50, price_micros_per_wu=10_000)
    pool.hold_epoch()
    assert pool.price() == 120
    pool.wait(seconds=30 * 86_400)
    pool.books.run(
        lambda uow: uow.market.asked(
            "vehicle_a", price_micros_per_wu=10, available_until_us=0, now_us=pool.now_us
        )
    )
    assert [pool.hold_epoch() for _ in range(3)] == [1, 0, 0]
    assert pool.price() == 144


def test_a_clock_that_went_back_holds_no_epoch_twice_and_goes_on(pool: Workshop) -> None:
    pool.hold_epoch()
    pool.wait(seconds=7 * 86_400)
    pool.hold_epoch()
    pool.wait(seconds=-7 * 86_400)
    assert pool.hold_epoch() == 0
    pool.wait(seconds=EPOCH_S)
    assert pool.hold_epoch() == 1
    report = verify_history(*history(pool))
    assert report.epoch_count == 3


def test_nobody_trades_and_the_price_stays(pool: Workshop) -> None:
    pool.hold_epoch()
    epoch = last_epoch(pool)
    assert (epoch.record.clearing_micros_per_wu, epoch.record.target_micros_per_wu) == (None, 100)
    assert (epoch.before_price_id, epoch.after_price_id, pool.price()) == (0, 0, 100)


def test_an_operators_price_stays_until_the_auction_is_followed_again(pool: Workshop) -> None:
    asking(pool, "a", reserve=10, uwu_per_s=1)
    pool.job(50, price_micros_per_wu=1_000)
    pool.set_price(200)
    epoch = next_epoch(pool)
    assert epoch.mode is PostingMode.FIXED
    assert pool.price() == 200
    # What the auction would have done is told all the same: nobody was heard of for a quarter of an hour, and
    # a bid without an ask asks for more.
    assert epoch.record.target_micros_per_wu == 1_000
    assert epoch.record.posted_micros_per_wu == 240
    for _ in range(2):
        price = pool.books.run(lambda uow: follow_auction(uow, operator_id="op_a", now_us=pool.now_us))
        assert price == 200
    assert next_epoch(pool).mode is PostingMode.AUCTION
    assert pool.price() == 240
    posted = pool.books.run(lambda uow: uow.prices.posted_after(0, limit=9))
    assert [(one.price_micros_per_wu, one.mode.value, one.set_by, one.epoch_id) for one in posted] == [
        (200, "fixed", "op_a", 0),
        (200, "auction", "op_a", 0),
        (240, "auction", "auction", 2),
    ]


def test_the_configured_mode_holds_until_an_operator_speaks(tmp_path: Path) -> None:
    pool = Workshop(
        tmp_path / "fixed.sqlite3",
        policy=WorkPolicy(allow_level_none=True, market=MarketPolicy(mode=PostingMode.FIXED)),
    )
    pool.job(5, price_micros_per_wu=1_000)
    pool.hold_epoch()
    assert (pool.price(), last_epoch(pool).mode) == (100, PostingMode.FIXED)
    pool.books.engine.dispose()


def test_epochs_are_never_changed_or_removed(pool: Workshop) -> None:
    pool.hold_epoch()
    for statement in (
        "UPDATE price_epochs SET after_micros_per_wu = 1",
        "DELETE FROM price_epochs",
        "UPDATE posted_prices SET price_micros_per_wu = 1",
    ):
        pool.set_price(7)
        with pytest.raises(IntegrityError, match="immutable"):
            pool.books.sql(statement)


# --- the history is checked by whoever doubts it ------------------------------------------------


def eventful(pool: Workshop) -> tuple[list[HeldEpoch], dict[int, bytes]]:
    """Five epochs: moved by the auction, kept, set by an operator, followed again."""
    asking(pool, "a", reserve=10, uwu_per_s=1)
    pool.job(50, price_micros_per_wu=300)
    pool.hold_epoch()
    next_epoch(pool)
    pool.set_price(77)
    next_epoch(pool)
    pool.books.run(lambda uow: follow_auction(uow, operator_id="op_a", now_us=pool.now_us))
    next_epoch(pool)
    next_epoch(pool)
    return history(pool)


def test_a_whole_history_is_derived_again_from_its_books(pool: Workshop) -> None:
    epochs, books = eventful(pool)
    report = verify_history(epochs, books)
    assert (report.epoch_count, report.moved_count, report.operator_count) == (5, 4, 2)
    assert report.chain_sha256 == epochs[-1].chain_sha256
    assert [hashlib.sha256(books[epoch.epoch_id]).digest() for epoch in epochs] == [
        epoch.record.book_sha256 for epoch in epochs
    ]


@pytest.mark.parametrize(
    ("field", "change", "why"),
    [
        ("target_micros_per_wu", 1, "target"),
        ("posted_micros_per_wu", 1, "posted"),
        ("traded_uwu", 1, "traded"),
        ("bid_count", 1, "bid_count"),
        ("epoch_start_us", 0, "chain"),
    ],
)
def test_a_pool_that_tells_another_figure_is_caught(
    pool: Workshop, field: str, change: int, why: str
) -> None:
    epochs, books = eventful(pool)
    record = epochs[2].record
    value = getattr(record, field) + (change or EPOCH_S * SECOND_US * 1_000)
    epochs[2] = replace(epochs[2], record=replace(record, **{field: value}))
    with pytest.raises(PoolError, match=rf"Epoch 3: .*{why}") as refused:
        verify_history(epochs, books)
    assert refused.value.code is ErrorCode.PROOF_INVALID


def test_a_pool_that_drops_an_epoch_or_an_order_is_caught(pool: Workshop) -> None:
    epochs, books = eventful(pool)
    with pytest.raises(PoolError, match="Epoch 3: 2 should stand here"):
        verify_history([epochs[0], *epochs[2:]], books)
    thinner = read_book(books[2])
    assert thinner.bids
    with pytest.raises(PoolError, match=r"Epoch 2: .*book"):
        verify_history(epochs, {**books, 2: books[2][:-1]})
    with pytest.raises(PoolError, match="Epoch 2: its order book is missing"):
        verify_history(epochs, {number: book for number, book in books.items() if number != 2})
    rewritten = [replace(epochs[0], held_at_us=epochs[0].held_at_us + 1), *epochs[1:]]
    with pytest.raises(PoolError, match="Epoch 1: its chain hash"):
        verify_history(rewritten, books)


# --- leases -------------------------------------------------------------------------------------


def refused(answer: LeaseGranted | NoWorkNow) -> NoWorkNow:
    assert isinstance(answer, NoWorkNow)
    return answer


def test_a_car_that_waits_for_price_is_told_both_numbers_and_when_it_works(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1, price_micros_per_wu=150)
    answer = refused(pool.ask(car, reserve=130))
    assert answer.reason is NoWorkReason.PRICE_BELOW_RESERVE
    assert answer.message == (
        "The price is 100 micros per WU, below this vehicle's reserve of 130. It works again when the price "
        "reaches 130, which buyers here would pay."
    )
    assert "and buyers here pay 150 at most." in refused(pool.ask(car, reserve=200)).message
    pool.set_price(130)
    assert isinstance(pool.ask(car, reserve=130), LeaseGranted)


def test_a_car_is_not_blamed_for_a_price_that_buyers_do_not_pay(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(1, price_micros_per_wu=80)
    answer = refused(pool.ask(car, reserve=90))
    assert answer.reason is NoWorkReason.NO_WORK
    assert answer.message == (
        "The price is 100 micros per WU, and the jobs that wait pay 80 at most: they wait for a lower price."
    )


def test_a_quotes_price_is_kept_for_the_whole_job_whatever_becomes_of_the_price(pool: Workshop) -> None:
    car = pool.car("a")
    job_id = pool.job(2, price_mode=PriceMode.QUOTE, price_micros_per_wu=100)
    pool.set_price(500)
    assert pool.lease(car, 1).price_micros_per_wu == 100
    pool.set_price(5)
    pool.wait(seconds=86_400)
    pool.expire()
    assert pool.lease(pool.car("b"), 1).price_micros_per_wu == 100
    # But no car is made to work below its own price.
    assert refused(pool.ask(pool.car("c"), reserve=101)).reason is NoWorkReason.PRICE_BELOW_RESERVE
    assert pool.view(job_id).waiting_reason is not WaitingReason.PRICE_ABOVE_CAP


def test_a_quote_is_for_as_many_tasks_as_it_said(pool: Workshop) -> None:
    job_id = pool.job(
        3, price_mode=PriceMode.QUOTE, price_micros_per_wu=100, quoted_task_count=3, budget_micros=10_000
    )
    with pytest.raises(PoolError, match="was for 3 tasks, not 4") as refusal:
        pool.add(job_id, [3.0], first_index=3)
    assert refusal.value.code is ErrorCode.BUDGET_EXCEEDED
    assert pool.view(job_id).task_count == 3


def test_a_job_waits_above_its_cap_and_says_both_numbers(pool: Workshop) -> None:
    job_id = pool.job(1, price_micros_per_wu=80)
    view = pool.view(job_id)
    assert view.waiting_reason is WaitingReason.PRICE_ABOVE_CAP
    assert view.waiting_detail == "The price is 100 micros per WU, above the job's cap of 80."
    assert view.bid_micros_per_wu == 80
    pool.cancel(job_id)
    assert pool.view(job_id).bid_micros_per_wu == 0


def test_a_job_that_will_not_wait_is_refused_before_money_is_reserved(pool: Workshop) -> None:
    with pytest.raises(PoolError) as refusal:
        pool.job(1, price_micros_per_wu=80, refuses_price_above_cap=True)
    assert refusal.value.code is ErrorCode.PRICE_ABOVE_CAP
    assert refusal.value.context == {"price_micros_per_wu": "100", "price_cap_micros_per_wu": "80"}
    assert not [name for name in pool.books.balances() if name.startswith("job:")]
    job_id = pool.job(1, price_micros_per_wu=100, refuses_price_above_cap=True)
    assert pool.view(job_id).state is JobState.OPEN


# --- deadlines ----------------------------------------------------------------------------------


def with_deadline(pool: Workshop, *, hours: float, start: int = 50, cap: int = 150, tasks: int = 1) -> int:
    return pool.job(
        tasks,
        price_micros_per_wu=cap,
        price_start_micros_per_wu=start,
        deadline_us=pool.now_us + int(hours * HOUR_US),
    )


def test_a_job_bids_more_as_its_deadline_comes_near_and_never_above_its_cap(pool: Workshop) -> None:
    # 1 WU on a car of 1 WU/s needs a second: the bid rises from three hours before to one hour before.
    asking(pool, "a", reserve=0)
    job_id = with_deadline(pool, hours=5)
    pool.hold_epoch()
    bids = []
    for _ in range(5):
        bids.append(pool.view(job_id).bid_micros_per_wu)
        pool.wait(seconds=3_600)
    assert bids == [50, 50, 50, 100, 150]


def test_it_is_leased_from_when_its_bid_reaches_the_price_at_that_price(pool: Workshop) -> None:
    car = asking(pool, "a", reserve=0)
    pool.set_price(100)
    job_id = with_deadline(pool, hours=5)
    pool.hold_epoch()
    pool.wait(seconds=3 * 3_600 - 60)
    view = pool.view(job_id)
    assert (view.waiting_reason, view.bid_micros_per_wu) == (WaitingReason.PRICE_ABOVE_CAP, 99)
    assert view.waiting_detail == (
        "The price is 100 micros per WU, above the 99 that the job bids now; its bid rises to its cap of 150 "
        "towards its deadline."
    )
    assert "pay 99 at most" in refused(pool.ask(car)).message
    pool.wait(seconds=120)
    lease = pool.ask(car)
    assert isinstance(lease, LeaseGranted)
    assert lease.price_micros_per_wu == 100


def test_where_nobody_is_known_to_compute_a_deadline_bids_its_cap(pool: Workshop) -> None:
    assert pool.view(with_deadline(pool, hours=500)).bid_micros_per_wu == 150


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"price_start_micros_per_wu": 50}, "price_start_micros_per_wu"),
        ({"price_start_micros_per_wu": 101, "deadline_us": 2**60}, "start_micros_per_wu"),
        ({"price_start_micros_per_wu": -1, "deadline_us": 2**60}, "price_start_micros_per_wu"),
        (
            {"price_start_micros_per_wu": 50, "deadline_us": 2**60, "price_mode": PriceMode.QUOTE},
            "price_start_micros_per_wu",
        ),
    ],
)
def test_a_start_price_that_makes_no_sense_is_refused(
    pool: Workshop, terms: dict[str, object], field: str
) -> None:
    with pytest.raises(PoolError) as refusal:
        pool.job(1, **terms)  # type: ignore[arg-type] # as a caller may well do
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT
    assert refusal.value.context["field"] == field


# --- fair shares --------------------------------------------------------------------------------


def test_two_buyers_of_endless_jobs_get_equal_work_whatever_they_bid_and_however_many_jobs(
    pool: Workshop,
) -> None:
    # One has a single job of small tasks, the other four of large ones, and bids three times as much.
    pool.job(400, buyer="buyer_x", price_micros_per_wu=100)
    large = replace(PROGRAM, work_uwu_per_task=3 * WU)
    for _ in range(4):
        pool.job(60, buyer="buyer_y", price_micros_per_wu=300, program=large)
    cars = [pool.car(name) for name in "abc"]
    served: dict[int, int] = {}
    for turn in range(60):
        lease = pool.lease(cars[turn % 3], 4)
        work = sum(grant.work_uwu for grant in lease.attempts)
        served[lease.job_id] = served.get(lease.job_id, 0) + work
        pool.hand_in(lease)
    x = served.pop(1)
    assert abs(x - sum(served.values())) <= 12 * WU
    assert max(served.values()) - min(served.values()) <= 12 * WU


def test_a_buyer_that_comes_late_is_not_owed_the_past(pool: Workshop) -> None:
    car = pool.car("a")
    pool.job(200, buyer="buyer_x")
    for _ in range(10):
        pool.hand_in(pool.lease(car, 4))
    late = pool.job(200, buyer="buyer_y")
    turns = []
    for _ in range(10):
        lease = pool.lease(car, 4)
        turns.append(lease.job_id == late)
        pool.hand_in(lease)
    assert sum(turns) == 5


def test_of_one_buyers_jobs_the_nearest_deadline_goes_first(pool: Workshop) -> None:
    car = pool.car("a")
    whenever = pool.job(1)
    later = pool.job(1, deadline_us=pool.now_us + 9 * HOUR_US)
    soon = pool.job(1, deadline_us=pool.now_us + 2 * HOUR_US)
    asked = []
    for _ in range(3):
        lease = pool.lease(car)
        asked.append(lease.job_id)
        pool.hand_in(lease)
    assert asked == [soon, later, whenever]


def test_work_that_is_given_back_counts_for_nobody(pool: Workshop) -> None:
    pool.job(50, buyer="buyer_x")
    pool.job(50, buyer="buyer_y")
    car = pool.car("a")
    lost = pool.lease(car, 8)
    pool.submit(
        car,
        lost.lease_id,
        [report(grant.attempt_id, outcome=AttemptOutcome.ABANDONED) for grant in lost.attempts],
    )
    shares = pool.books.run(lambda uow: {row.buyer_id: row.share.tag_uwu for row in uow.jobs.offers()})
    assert shares == {"buyer_x": 0, "buyer_y": 0}
