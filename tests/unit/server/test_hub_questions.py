"""Questions reach a stream, or end it: a car is not convicted for what it was never asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_server.core.effects import UnitQuestion, UnitsAsked
from pool_server.rpc.hub import OUTBOX_MAX, Hub

QUESTION = UnitQuestion(query_id=7, attempt_id=3, unit_index=0, want_state=True, expires_at_us=9)


def test_a_question_is_pushed_to_its_vehicle_alone() -> None:
    async def scenario() -> None:
        hub = Hub(streams_max=10)
        with hub.stream("vehicle_a") as asked, hub.stream("vehicle_b") as other:
            hub.ask("vehicle_a", (QUESTION,))
            hub.ask("vehicle_c", (QUESTION,))
            hub.ask("vehicle_b", ())
            push = await asked.next()
            assert push is not None
            assert [(query.query_id, query.want_state) for query in push.unit_queries] == [(7, True)]
            other.push(pb.ExchangeResponse(request_id=1))
            first = await other.next()
            assert first is not None
            assert first.request_id == 1

    asyncio.run(scenario())


def test_questions_of_one_command_are_pushed_together_however_many() -> None:
    async def scenario() -> None:
        hub = Hub(streams_max=10)
        hub.bind(asyncio.get_running_loop())
        with hub.stream("vehicle_a") as outbox:
            numbers = range(4 * OUTBOX_MAX)
            effects = [
                UnitsAsked(vehicle_id="vehicle_a", questions=(replace(QUESTION, query_id=number),))
                for number in numbers
            ]
            hub.dispatch_from_thread(effects)
            push = await outbox.next()
            assert push is not None
            assert [query.query_id for query in push.unit_queries] == list(numbers)

    asyncio.run(scenario())


def test_a_stream_without_room_for_a_question_ends_after_what_waits() -> None:
    async def scenario() -> None:
        hub = Hub(streams_max=10)
        with hub.stream("vehicle_a") as outbox:
            for number in range(OUTBOX_MAX):
                assert outbox.push(pb.ExchangeResponse(request_id=number + 1))
            hub.ask("vehicle_a", (QUESTION,))
            for number in range(OUTBOX_MAX):
                response = await outbox.next()
                assert response is not None
                assert response.request_id == number + 1
            assert await outbox.next() is None

    asyncio.run(scenario())
