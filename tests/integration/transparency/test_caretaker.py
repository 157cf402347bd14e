"""The agent's caretaker looks at the log by itself, and follows the pool's keys when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import grpc.aio

from car_agent.journal.receipt_book import ReceiptBook
from car_agent.journal.state_directory import StateDirectory
from car_agent.journal.store import Journal
from car_agent.journal.thread import JournalThread
from car_agent.session.care import Caretaker
from car_agent.session.log_keeper import LogKeeper
from pool_protocol.transparency import TreeHead
from pool_protocol.v1 import admin_service_pb2, fleet_service_pb2_grpc, log_service_pb2_grpc
from tests.integration.transparency.dishonest import served, until
from tests.integration.transparency.play import CLOCK, Story, Watcher, newest_head, work
from tests.support.clock import ManualClock
from tests.support.pool import PoolHandle

WAIT_S = 20.0


class Cared:
    """A caretaker over one connection to one pool, until something is true."""

    def __init__(self, story: Story, directory: StateDirectory) -> None:
        directory.create()
        self.story = story
        self.directory = directory
        self.heard: list[tuple[str, str]] = []
        self._journal = JournalThread(Journal(directory.journal, now_us=CLOCK.now_us()))
        self._caretaker = Caretaker(
            directory=directory,
            identity=story.identity,
            journal=self._journal,
            clock=CLOCK,
            on_figures=lambda _figures: None,
            on_event=lambda code, sentence: self.heard.append((code, sentence)),
            log=LogKeeper(
                directory.receipt_book,
                clock=CLOCK,
                on_event=lambda code, sentence: self.heard.append((code, sentence)),
            ),
        )

    def care_until(self, pool: PoolHandle, condition: Callable[[], bool]) -> None:
        asyncio.run(self._care(pool, condition))

    async def _care(self, pool: PoolHandle, condition: Callable[[], bool]) -> None:
        vehicle = self.story.car.vehicle
        credentials = grpc.ssl_channel_credentials(
            pool.ca_pem, private_key=vehicle.tls_key_pem, certificate_chain=vehicle.certificate_pem
        )
        async with grpc.aio.secure_channel(pool.fleet_address, credentials) as channel:
            caring = asyncio.create_task(
                self._caretaker.run(
                    fleet_service_pb2_grpc.FleetServiceStub(channel),
                    log_service_pb2_grpc.LogServiceStub(channel),
                )
            )
            async with asyncio.timeout(WAIT_S):
                while not condition():  # noqa: ASYNC110 - what is waited for happens in another task
                    await asyncio.sleep(0.01)
            caring.cancel()
            with suppress(asyncio.CancelledError):
                await caring

    def kept(self) -> int:
        if not self.directory.receipt_book.exists():
            return 0
        book = ReceiptBook(self.directory.receipt_book)
        try:
            return len(book.receipts(self.story.pool_id))
        finally:
            book.close()

    def close(self) -> None:
        self._journal.close()


class _Counting(LogKeeper):
    """A keeper whose looks are counted; each finds a head of a given time."""

    def __init__(self, clock: ManualClock, head: TreeHead) -> None:
        super().__init__(Path("never opened"), clock=clock, on_event=lambda _code, _sentence: None)
        self.looks = 0
        self.head: TreeHead | None = head

    async def look(self, stub: object, identity: object) -> TreeHead | None:
        self.looks += 1
        return self.head


def test_it_looks_soon_while_a_head_over_new_receipts_is_awaited_and_else_hourly(watcher: Watcher) -> None:
    clock, head = ManualClock(), watcher.head()
    keeper = _Counting(clock, replace(head, timestamp_us=clock.now_us()))

    def looks(seconds: int, *, verified: int) -> int:
        """Looks within some seconds of a caretaker that comes by every ten."""
        before = keeper.looks
        for _ in range(seconds // 10):
            asyncio.run(keeper.look_when_due(None, None, verified_attempts=verified))  # type: ignore[arg-type]
            clock.advance(seconds=10)
        return keeper.looks - before

    assert looks(3_600, verified=3) == 1  # at once, and the head is as young as what it knows
    assert looks(3_600, verified=3) == 1
    assert looks(120, verified=4) == 4  # no head was signed since
    keeper.head = replace(head, timestamp_us=clock.now_us())
    assert looks(1_200, verified=4) == 1
    keeper.head = None  # a pool without a log is not asked for ever
    assert looks(1_200, verified=5) <= 22


def test_the_receipts_of_a_car_that_connects_are_taken_up_by_themselves(
    story: Story, data: Path, tmp_path: Path
) -> None:
    cared = Cared(story, StateDirectory(tmp_path / "car"))
    with served(data, story.pool) as pool:
        cared.care_until(pool, lambda: cared.kept() == 4)
    assert cared.heard == []
    cared.close()


def test_a_head_that_is_signed_with_a_new_key_is_no_alarm_once_the_root_is_followed(
    story: Story, data: Path, tmp_path: Path
) -> None:
    cared = Cared(story, StateDirectory(tmp_path / "car"))
    with served(data, story.pool) as pool:
        pool.admin().RotateKey(
            admin_service_pb2.RotateKeyRequest(role="receipt"), metadata=pool.operator.metadata
        )
        work(pool, story.car, [7], key="after the new key")
        until(lambda: newest_head(pool) == 7)
        cared.care_until(pool, lambda: cared.kept() == 5)
    assert [code for code, _ in cared.heard] == ["ROOT_UPDATED"]
    cared.close()
