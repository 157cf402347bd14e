"""The price over real sockets: epochs that the server holds, read by everybody, verified from a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

import chargepool
from chargepool.cli import cli as chargepool_command
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.system import SystemClock
from pool_protocol.v1 import common_pb2
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_protocol.v1 import market_service_pb2 as market_pb
from pool_protocol.v1 import price_service_pb2 as pb
from pool_protocol.v1.price_service_pb2_grpc import PriceServiceStub
from pool_server.cli.root import cli
from pool_server.core.pricing.order_book import read_book
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeBuyer, FakeCar, inputs_of, vet_without_jax
from tests.support.pool import PoolHandle, code_of, running_pool

EPOCH_US = 900 * 1_000_000
#: The price at which these pools begin.
BEGIN = 1_000
EPOCHS_AWAITED_MAX = 3_000


@pytest.fixture
def clock() -> ManualClock:
    # Just after a full quarter of an hour.
    now_us = SystemClock().now_us()
    return ManualClock(now_us - now_us % EPOCH_US + 1_000_000)


@pytest.fixture
def pool(tmp_path_factory: pytest.TempPathFactory, clock: ManualClock) -> Iterator[PoolHandle]:
    """A pool with one car, scarce for what is asked of it, after its first epoch."""
    with running_pool(
        tmp_path_factory.mktemp("prices"),
        vet=vet_without_jax,
        clock=clock,
        price_mode="auction",
        posted_price_micros_per_wu=BEGIN,
        quote_lifetime_s=600,
    ) as running:
        epoch(running, 1)
        yield running


@pytest.fixture
def buyer(pool: PoolHandle) -> FakeBuyer:
    return FakeBuyer.with_money(pool)


@pytest.fixture
def car(pool: PoolHandle) -> FakeCar:
    return FakeCar(pool)


def get_price(pool: PoolHandle, metadata: Any = None) -> pb.GetPriceResponse:
    answer: pb.GetPriceResponse = PriceServiceStub(pool.api_channel()).GetPrice(
        pb.GetPriceRequest(), metadata=pool.operator.metadata if metadata is None else metadata
    )
    return answer


def epoch(pool: PoolHandle, epoch_id: int) -> pb.PriceEpoch:
    """Wait for the server's sweep to hold an epoch."""
    for _ in range(EPOCHS_AWAITED_MAX):
        answer = get_price(pool)
        if answer.last_epoch.epoch_id >= epoch_id:
            return answer.last_epoch
    pytest.fail(f"epoch {epoch_id} was never held")


def wants(car: FakeCar, *, reserve: int) -> fleet_pb.LeaseWorkResponse:
    answer: fleet_pb.LeaseWorkResponse = car.stub.LeaseWork(
        fleet_pb.LeaseWorkRequest(
            want=fleet_pb.WorkRequest(attempts_max=1, reserve_price_micros_per_wu=reserve)
        )
    )
    return answer


def job(buyer: FakeBuyer, key: str, *, cap: int, tasks: int = 5, **terms: Any) -> str:
    created = buyer.call(
        "CreateJob",
        market_pb.CreateJobRequest(
            idempotency_key=key,
            program_sha256=buyer.admit(),
            price_mode=common_pb2.PRICE_MODE_SPOT,
            price_cap_micros_per_wu=cap,
            budget_micros=10**9,
            level=common_pb2.VERIFICATION_LEVEL_NONE,
            **terms,
        ),
    )
    numbers = [market_pb.TaskInputs(inputs=inputs_of(number)) for number in range(tasks)]
    buyer.call("AddTasks", market_pb.AddTasksRequest(job_id=created.job_id, first_index=0, tasks=numbers))
    return str(created.job_id)


def run(pool: PoolHandle, *arguments: str) -> tuple[int, str, Exception | None]:
    where = ["--address", pool.api_address, "--ca", str(pool.ca_file)]
    token = ["--token-file", str(pool.made.operator_token_file)]
    done = CliRunner().invoke(cli, [*where, *token, *arguments])
    error = done.exception if isinstance(done.exception, PoolError) else None
    return done.exit_code, done.stdout, error


def run_json(pool: PoolHandle, *arguments: str) -> Any:
    status, output, error = run(pool, *arguments, "--json")
    assert (status, error) == (0, None)
    return json.loads(output)


def test_the_price_lives_and_anyone_can_follow_it(
    pool: PoolHandle, clock: ManualClock, buyer: FakeBuyer, car: FakeCar, tmp_path: Path
) -> None:
    # 1. Before anybody trades the price is the configured one, for everybody with an account.
    now = get_price(pool, buyer.principal.metadata)
    assert (now.price_micros_per_wu, now.currency, now.mode) == (BEGIN, "EUR", pb.POSTING_MODE_AUCTION)
    assert now.next_epoch_us == clock.now_us() - 1_000_000 + EPOCH_US
    assert get_price(pool, car.owner.metadata) == now
    by_car = PriceServiceStub(pool.fleet_channel(car.vehicle)).GetPrice(pb.GetPriceRequest())
    assert by_car == now

    # 2. A job pays more than the price, the car asks for still more: it is told both.
    job_id = job(buyer, "first", cap=2_000)
    no_work = wants(car, reserve=1_500).no_work
    assert no_work.reason == "PRICE_BELOW_RESERVE"
    assert no_work.message == (
        "The price is 1000 micros per WU, below this vehicle's reserve of 1500. "
        "It works again when the price reaches 1500, which buyers here would pay."
    )

    # 3. Each epoch moves the price a step towards it.
    for number, price in ((2, 1_200), (3, 1_440), (4, 1_500)):
        clock.advance(us=EPOCH_US - 2_000_000)
        wants(car, reserve=1_500)
        clock.advance(us=2_000_000)
        held = epoch(pool, number)
        assert held.after_micros_per_wu == price
        assert (held.target_micros_per_wu, held.clearing_micros_per_wu) == (1_500, 1_500)
        assert (held.bid_count, held.ask_count) == (1, 1)

    # 4. There both trade; the lease locks the price.
    lease = car.open_lease(wants(car, reserve=1_500).lease)
    assert lease.price_micros_per_wu == 1_500
    car.submit(car.seal(car.results(lease)))
    assert buyer.job(job_id).accepted_count == 1

    # 5. The book that decided: what was bid and asked, and no names.
    epochs = run_json(pool, "price", "history", "--last", "2")["epochs"]
    assert [one["epoch_id"] for one in epochs] == [4, 3]
    book = run_json(pool, "price", "book", "3")
    assert [order[:2] for order in book["bids"] + book["asks"]] == [["b000001", 2_000], ["a000001", 1_500]]
    assert "owner" not in json.dumps(book)
    assert "a000001" in run(pool, "price", "book", "3")[1]

    # 6. An operator fixes it, and lets it go again.
    assert run_json(pool, "price", "set", "900") == {"price_micros_per_wu": 900}
    shown = run(pool, "price", "show")[1]
    assert "900 micro-EUR per WU" in shown
    assert "the operator only" in shown
    clock.advance(us=EPOCH_US)
    assert epoch(pool, 5).after_micros_per_wu == 900
    assert run_json(pool, "price", "follow") == {"price_micros_per_wu": 900}
    assert run_json(pool, "price", "show")["mode"] == pb.POSTING_MODE_AUCTION

    # 7. All of it is derived again: from the pool, and from files with no pool at hand.
    verified = run_json(pool, "price", "verify")
    assert (verified["epochs"], verified["moved_by_auction"], verified["set_by_operator"]) == (5, 3, 1)
    folder = tmp_path / "prices"
    assert run_json(pool, "price", "history", "--export", str(folder))["epochs"] == 5
    alone = CliRunner().invoke(cli, ["price", "verify", str(folder), "--json"])
    assert json.loads(alone.stdout) == verified
    told = CliRunner().invoke(cli, ["price", "verify", str(folder)]).stdout
    assert "Every hash, target and price follows" in told

    # 8. Whoever changes a file is found out.
    book_file = folder / "epoch-00000003.book"
    content = book_file.read_bytes()
    assert read_book(content).bids
    book_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused = CliRunner().invoke(cli, ["price", "verify", str(folder)])
    assert isinstance(refused.exception, PoolError)
    assert refused.exception.code is ErrorCode.PROOF_INVALID
    assert "Epoch 3" in str(refused.exception)
    book_file.write_bytes(content)
    listed = json.loads((folder / "epochs.json").read_text())
    listed[2]["after_micros_per_wu"] = "1441"
    (folder / "epochs.json").write_text(json.dumps(listed))
    refused = CliRunner().invoke(cli, ["price", "verify", str(folder)])
    assert "it says that 1441 was posted, 1440 follows" in str(refused.exception)
    (folder / "epochs.json").write_text("{}")
    assert "is not what" in str(CliRunner().invoke(cli, ["price", "verify", str(folder)]).exception)
    missing = CliRunner().invoke(cli, ["price", "verify", str(tmp_path / "nowhere")])
    assert missing.exit_code == 1
    assert "cannot read" in missing.output


def test_what_nobody_held_is_not_found(pool: PoolHandle) -> None:
    stub = PriceServiceStub(pool.api_channel())
    for epoch_id in (0, 10**6, 2**64 - 1):
        with pytest.raises(grpc.RpcError) as refusal:
            list(
                stub.GetOrderBook(pb.GetOrderBookRequest(epoch_id=epoch_id), metadata=pool.operator.metadata)
            )
        assert code_of(refusal.value) == ErrorCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as malformed:
        stub.ListPriceEpochs(
            pb.ListPriceEpochsRequest(page=common_pb2.PageRequest(page_token="newest")),
            metadata=pool.operator.metadata,
        )
    assert code_of(malformed.value) == ErrorCode.INVALID_ARGUMENT


def test_pages_of_epochs_leave_none_out(pool: PoolHandle) -> None:
    stub, found, token = PriceServiceStub(pool.api_channel()), [], ""
    while True:
        page = common_pb2.PageRequest(page_size=2, page_token=token)
        answer = stub.ListPriceEpochs(pb.ListPriceEpochsRequest(page=page), metadata=pool.operator.metadata)
        found += [one.epoch_id for one in answer.epochs]
        token = answer.next_page_token
        if not token:
            break
    assert found == list(range(found[0], 0, -1))


def test_a_job_that_does_not_want_to_wait_is_refused_before_it_holds_money(
    pool: PoolHandle, buyer: FakeBuyer
) -> None:
    before = buyer.call("GetBalance", market_pb.GetBalanceRequest())
    with pytest.raises(grpc.RpcError) as refusal:
        job(buyer, "impatient", cap=1, refuses_price_above_cap=True)
    assert code_of(refusal.value) == ErrorCode.PRICE_ABOVE_CAP
    assert buyer.call("GetBalance", market_pb.GetBalanceRequest()) == before
    waiting = buyer.job(job(buyer, "patient", cap=1))
    price = get_price(pool).price_micros_per_wu
    assert waiting.waiting_reason == "PRICE_ABOVE_CAP"
    assert waiting.waiting_detail == f"The price is {price} micros per WU, above the job's cap of 1."
    assert waiting.bid_micros_per_wu == 1


def test_a_quote_lives_as_long_as_the_operator_says(
    pool: PoolHandle, buyer: FakeBuyer, clock: ManualClock
) -> None:
    ask = market_pb.GetQuoteRequest(
        program_sha256=buyer.admit(), task_count=1, level=common_pb2.VERIFICATION_LEVEL_NONE
    )
    assert buyer.call("GetQuote", ask).expires_at_us == clock.now_us() + 600 * 1_000_000


def test_buyers_read_the_price_with_the_sdk_and_its_command(
    pool: PoolHandle, buyer: FakeBuyer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    job(buyer, "first", cap=BEGIN * 2)
    clock.advance(us=EPOCH_US)
    epoch(pool, 2)
    with chargepool.connect(pool.api_address, token=buyer.principal.token, ca=pool.ca_file) as client:
        now = client.price()
        newest, oldest = client.price_history()
    assert (now.price_micros_per_wu, now.currency, now.is_fixed) == (1_200, "EUR", False)
    assert now.last_epoch == newest
    assert (newest.before_micros_per_wu, newest.price_micros_per_wu, newest.target_micros_per_wu) == (
        BEGIN,
        1_200,
        2 * BEGIN,
    )
    assert (oldest.epoch_id, oldest.price_micros_per_wu) == (1, BEGIN)
    token_file = tmp_path / "token"
    token_file.write_text(buyer.principal.token)
    token_file.chmod(0o600)
    where = ["--address", pool.api_address, "--ca", str(pool.ca_file), "--token-file", str(token_file)]
    told = CliRunner().invoke(chargepool_command, ["price", *where, "--history", "--json"])
    answer = json.loads(told.stdout)
    assert answer["price_micros_per_wu"] == 1_200
    assert [one["epoch_id"] for one in answer["history"]] == [2, 1]
    in_words = CliRunner().invoke(chargepool_command, ["price", *where, "--history", "--last", "1"]).stdout
    assert "1200 micro-EUR per WU" in in_words
    assert "It is on its way to 2000" in in_words
    assert in_words.count("Z ") == 1
