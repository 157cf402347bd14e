"""The honest part of every story here, and who watches it: a pool, two cars, a keeper of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from car_agent.journal.identity import Identity
from car_agent.journal.receipt_book import Evidence, ReceiptBook
from car_agent.session.log_keeper import LogKeeper
from pool_protocol.log_audit import AuditReport, KeptReceipt, audit
from pool_protocol.roots import Role, open_first_root
from pool_protocol.system import SystemClock
from pool_protocol.transparency import TreeHead, open_tree_head
from pool_protocol.v1 import common_pb2, fleet_service_pb2, log_service_pb2_grpc
from pool_protocol.v1 import log_service_pb2 as pb
from tests.integration.transparency.dishonest import (
    copied,
    rewriting,
    served,
    until,
)
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, running_pool

CLOCK = SystemClock()
T = TypeVar("T")


@dataclass
class Story:
    """A pool with two cars that worked, and one car's book, all at rest."""

    pool: PoolHandle
    data: Path
    car: FakeCar
    identity: Identity
    book: Path
    buyer: FakeBuyer
    job_id: str
    """Of three tasks, all computed by `car`."""

    @property
    def pool_id(self) -> str:
        return self.identity.pool_id


class Watcher:
    """The car's keeper of the log, at whatever pool it is pointed to; it hears what the owner is told."""

    def __init__(self, story: Story, book: Path) -> None:
        self.story = story
        self.book = book
        self.heard: list[tuple[str, str]] = []
        self._keeper = LogKeeper(
            book, clock=CLOCK, on_event=lambda code, sentence: self.heard.append((code, sentence))
        )

    def look(
        self, pool: PoolHandle, *, lie: Callable[[str, Any], Any] = lambda _method, answer: answer
    ) -> None:
        """One look; `lie` may change the pool's answers on their way."""
        asyncio.run(self._look(pool, lie))

    async def _look(self, pool: PoolHandle, lie: Callable[[str, Any], Any]) -> None:
        vehicle = self.story.car.vehicle
        credentials = grpc.ssl_channel_credentials(
            pool.ca_pem, private_key=vehicle.tls_key_pem, certificate_chain=vehicle.certificate_pem
        )
        async with grpc.aio.secure_channel(pool.fleet_address, credentials) as channel:
            stub = _Between(log_service_pb2_grpc.LogServiceStub(channel), lie)
            await self._keeper.look(stub, self.story.identity)  # type: ignore[arg-type]

    @property
    def codes(self) -> list[str]:
        return [code for code, _ in self.heard]

    def evidence(self) -> list[Evidence]:
        return self._read(lambda book: book.evidence(self.story.pool_id))

    def kept(self) -> list[KeptReceipt]:
        return self._read(lambda book: book.receipts(self.story.pool_id))

    def head(self) -> TreeHead:
        return self.story_head(self._read(lambda book: book.position(self.story.pool_id).last_head))

    def story_head(self, envelope: bytes) -> TreeHead:
        return open_tree_head(
            common_pb2.Envelope.FromString(envelope),
            keys=self.story.identity.root.keys_for(Role.RECEIPT),
            now_us=CLOCK.now_us(),
            pool_id=self.story.pool_id,
        )

    def audit(self) -> AuditReport:
        """What `car-agent receipts verify` does, without any pool."""
        return self._read(
            lambda book: audit(
                book.receipts(self.story.pool_id),
                book.heads(self.story.pool_id),
                keys=self.story.identity.root.keys_for(Role.RECEIPT),
                pool_id=self.story.pool_id,
                now_us=CLOCK.now_us(),
            )
        )

    def _read(self, read: Callable[[ReceiptBook], T]) -> T:
        book = ReceiptBook(self.book)
        try:
            return read(book)
        finally:
            book.close()


class _Between:
    """Stands between keeper and pool."""

    def __init__(self, stub: Any, lie: Callable[[str, Any], Any]) -> None:
        self._stub = stub
        self._lie = lie

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(request: Message, *, timeout: float) -> Any:
            return self._lie(method, await getattr(self._stub, method)(request, timeout=timeout))

        return call


def newest_head(pool: PoolHandle) -> int:
    stub = log_service_pb2_grpc.LogServiceStub(pool.api_channel())
    answer = stub.GetTreeHead(pb.GetTreeHeadRequest(), metadata=pool.operator.metadata, timeout=10)
    return pb.TreeHeadBody.FromString(answer.head.body).tree_size if answer.HasField("head") else 0


def work(pool: PoolHandle, car: FakeCar, numbers: list[float], *, key: str) -> tuple[FakeBuyer, str]:
    """A job, and a signed head over its receipts."""
    car.pool = pool
    buyer = FakeBuyer.with_money(pool, name=key)
    job_id = buyer.open_job(numbers, key=key)
    before = newest_head(pool)
    while car.work():
        pass
    until(lambda: newest_head(pool) >= before + len(numbers), what="a head over the new receipts")
    return buyer, job_id


def identity_of(pool: PoolHandle, car: FakeCar) -> Identity:
    roots = car.stub.GetRoot(fleet_service_pb2.GetRootRequest()).roots
    return Identity(
        vehicle_id=car.vehicle.vehicle_id,
        owner_id=car.vehicle.owner_id,
        pool_id=pool.pool_id,
        fleet_address="",
        api_address="",
        tls_key_pem=car.vehicle.tls_key_pem,
        certificate_pem=car.vehicle.certificate_pem,
        ca_pem=pool.ca_pem,
        envelope_key=car.vehicle.envelope_key,
        root=open_first_root(roots[0].SerializeToString(), now_us=CLOCK.now_us()),
    )


def serve_and_look(
    story: Story, data: Path, watcher: Watcher, *, after: Callable[[PoolHandle], object]
) -> None:
    with served(data, story.pool) as pool:
        after(pool)
        watcher.look(pool)


def play(folder: Path) -> Story:
    """Batches, by index in the log: the other car's [0], ours [1, 2] and [3], the other's [4], ours [5]."""
    with running_pool(folder, vet=vet_without_jax, log_head_interval_s=0.0) as pool:
        car, other = FakeCar(pool, name="ours"), FakeCar(pool, name="another's")
        work(pool, other, [9], key="a")
        buyer, job_id = work(pool, car, [1, 2, 3], key="b")
        made = Story(
            pool=pool,
            data=pool.data_dir,
            car=car,
            identity=identity_of(pool, car),
            book=folder / "receipts.sqlite3",
            buyer=buyer,
            job_id=job_id,
        )
        watcher = Watcher(made, made.book)
        watcher.look(pool)
        work(pool, other, [8], key="c")
        work(pool, car, [4], key="d")
        watcher.look(pool)
        assert watcher.heard == []
    with rewriting(copied(made.data, folder / "looked at")) as database:
        batches = database.execute("SELECT first_receipt_id, leaf_count FROM receipt_batches").fetchall()
    assert batches == [(1, 1), (2, 2), (4, 1), (5, 1), (6, 1)]
    return made
