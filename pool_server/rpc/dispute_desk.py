"""Disputes as a vehicle's stream needs them: what it is asked, and its answers."""

import asyncio
from collections.abc import Sequence

from pool_protocol.v1 import fleet_service_pb2 as fleet_pb2
from pool_server.app.unit_answers import check_answers, open_questions, take_answers
from pool_server.app.work_policy import BlobReader, WorkPolicy
from pool_server.core.effects import UnitQuestion
from pool_server.ports.shell import VehicleIdentity
from pool_server.rpc.convert_units import unit_answers
from pool_server.rpc.store_access import StoreAccess


class DisputeDesk:
    """Asks and takes answers."""

    def __init__(self, *, store: StoreAccess, policy: WorkPolicy, blob_reader: BlobReader) -> None:
        self._store = store
        self._policy = policy
        self._blob_reader = blob_reader
        # One at a time: answers are few, and a large state is decoded and hashed.
        self._turn = asyncio.Semaphore(1)

    async def open_questions(self, vehicle: VehicleIdentity) -> tuple[UnitQuestion, ...]:
        """Return what a vehicle is asked now."""
        now_us = self._store.now_us()
        return await self._store.read(
            lambda uow: open_questions(uow, vehicle_id=vehicle.vehicle_id, now_us=now_us)
        )

    async def answer(self, answers: Sequence[fleet_pb2.UnitAnswer], *, vehicle: VehicleIdentity) -> None:
        """Take a vehicle's answers; durable when this returns.

        Raises:
            PoolError: INVALID_ARGUMENT, TENSORS_TOO_LARGE, BLOB_TOO_LARGE, BLOB_MISSING.
        """
        reports = unit_answers(answers)
        now_us = self._store.now_us()
        async with self._turn:
            checked = await self._store.read(
                lambda uow: check_answers(
                    uow, reports, vehicle_id=vehicle.vehicle_id, blobs=self._blob_reader, now_us=now_us
                )
            )
        if checked:
            await self._store.write(
                lambda uow: take_answers(
                    uow, checked, policy=self._policy, blobs=self._blob_reader, now_us=now_us
                )
            )
