"""The gateways over real sockets: what failures are called, and that nothing is lost in conversion."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from pool_protocol.errors import CATALOGUE, ErrorCode, PoolError
from pool_protocol.system import SystemClock
from pool_protocol.v1 import account_service_pb2 as account
from pool_protocol.v1 import admin_service_pb2 as admin
from pool_protocol.v1 import agent_control_service_pb2 as control
from pool_protocol.v1 import market_service_pb2 as market
from pool_protocol.v1 import price_service_pb2 as prices
from tests.tui.peers import FakeAgent, FakePool
from tui import convert
from tui.gateway import GatewayError
from tui.grpc_gateway import GrpcAccountGateway, GrpcAgentGateway, agent_step, gateway_error


async def test_an_absent_agent_is_unreachable_and_the_error_says_what_to_start(socket: Path) -> None:
    gateway = GrpcAgentGateway(str(socket))
    with pytest.raises(GatewayError) as caught:
        await gateway.status()
    await gateway.close()
    assert caught.value.unreachable
    assert "car-agent run" in caught.value.next_step
    assert str(socket) in caught.value.public


async def test_a_refusal_keeps_the_catalogues_words(agent: FakeAgent) -> None:
    agent.refusal = PoolError(ErrorCode.JOURNAL_CORRUPT, "a secret detail")
    gateway = GrpcAgentGateway(str(agent.socket))
    with pytest.raises(GatewayError) as caught:
        await gateway.pause(duration_s=60)
    await gateway.close()
    entry = CATALOGUE[ErrorCode.JOURNAL_CORRUPT]
    assert (caught.value.public, caught.value.next_step) == (entry.public, entry.next_step)
    assert not caught.value.unreachable
    assert agent.calls == ["Pause 60"]


async def test_the_end_of_the_stream_is_the_end_of_the_agent(agent: FakeAgent) -> None:
    gateway = GrpcAgentGateway(str(agent.socket))
    stream = gateway.watch()
    assert (await anext(stream)).computing
    await agent.stop()
    with pytest.raises(GatewayError) as caught:
        await anext(stream)
    await gateway.close()
    assert caught.value.unreachable


def test_every_code_of_the_catalogue_has_words_for_the_owner() -> None:
    for code in ErrorCode:
        error = gateway_error(PoolError(code), place="pool:1", unreachable_step="Wait.")
        assert error.public
        assert error.next_step


def test_a_socket_that_may_not_be_opened_is_not_called_absent() -> None:
    assert "join its group" in agent_step(exists=True, may_open=False)
    assert "car-agent run" in agent_step(exists=False, may_open=False)
    assert "car-agent run" in agent_step(exists=True, may_open=True)


def filled(message: Message, *, start: int = 1) -> int:
    """Give every singular field a value of its own, and every list one such entry; return the next number."""
    number = start
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.message_type is not None:
            child = getattr(message, field.name)
            number = filled(child.add() if field.is_repeated else child, start=number)
            continue
        values: dict[int, object] = {
            FieldDescriptor.CPPTYPE_STRING: b"7" if field.type == FieldDescriptor.TYPE_BYTES else str(number),
            FieldDescriptor.CPPTYPE_BOOL: True,
            FieldDescriptor.CPPTYPE_ENUM: 1,
            FieldDescriptor.CPPTYPE_DOUBLE: float(number),
        }
        value = values.get(field.cpp_type, number)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
        number += 1
    return number


@pytest.mark.parametrize(
    ("message", "convert_it"),
    [
        (control.AgentStatus(), convert.agent_facts),
        (account.GetEarningsResponse(), convert.earnings_facts),
        (account.VehicleView(), convert.vehicle_facts),
        (account.AccountEvent(), convert.account_event_facts),
        (account.GetStatementResponse(), convert.statement_facts),
        (account.PayoutDetails(), convert.bank_facts),
        (admin.GetOverviewResponse(), convert.overview_facts),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Message) else "",
)
def test_no_field_is_lost_or_mixed_up_in_conversion(message: Message, convert_it: object) -> None:
    filled(message)
    assert callable(convert_it)
    facts = repr(convert_it(message))
    assert not missing_from(message, facts)


def missing_from(message: Message, facts: str) -> list[str]:
    """Return the fields whose number does not stand under their own name in the facts."""
    missing = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in value if field.is_repeated else [value]:
                missing += missing_from(child, facts)
        elif field.is_repeated:
            missing += [field.name for entry in value if repr(entry) not in facts]
        elif field.name not in {"verdict", "at_us"} and f"{field.name}={value!r}" not in facts:
            missing.append(field.name)
    return missing


def test_what_the_agent_leaves_out_is_unknown_not_zero() -> None:
    signals = convert.agent_facts(control.AgentStatus()).signals
    assert (signals.soc_percent, signals.moving, signals.at_home, signals.eta_full_s) == (None,) * 4
    assert (signals.plug, signals.charge) == ("unknown", "unknown")
    zero = control.AgentStatus(signals=control.VehicleSignals(soc_percent=0.0, moving=False))
    assert convert.agent_facts(zero).signals.soc_percent == 0.0
    assert convert.agent_facts(zero).signals.moving is False


def test_job_states_lose_their_prefix() -> None:
    assert convert.job_facts(market.JobView(state=market.JOB_STATE_OPEN)).state == "open"


# --- the price ----------------------------------------------------------------------------------

QUARTER_HOUR_US = 900 * 1_000_000


def epochs(count: int) -> list[prices.PriceEpoch]:
    """The newest first, each a micro-unit above the one before."""
    return [
        prices.PriceEpoch(
            epoch_id=number,
            starts_at_us=number * QUARTER_HOUR_US,
            length_us=QUARTER_HOUR_US,
            after_micros_per_wu=100 + number,
        )
        for number in range(count, 0, -1)
    ]


def price_now(newest: int) -> prices.GetPriceResponse:
    return prices.GetPriceResponse(
        price_micros_per_wu=100 + newest, currency="EUR", next_epoch_us=(newest + 1) * QUARTER_HOUR_US
    )


def test_a_day_of_prices_fits_one_line_and_ends_with_the_newest() -> None:
    of_a_day = convert.price_facts(price_now(500), epochs(500)[:96])
    assert of_a_day.past_day == tuple(range(516, 601, 12))
    assert of_a_day.past_day[-1] == of_a_day.price_micros_per_wu == 600
    assert convert.price_facts(price_now(3), epochs(3)).past_day == (101, 102, 103)
    assert convert.price_facts(price_now(0), []).past_day == ()


def test_what_is_older_than_a_day_is_not_of_the_day() -> None:
    after_a_stand_still = [*epochs(1_000)[:2], *epochs(900)[:50]]
    assert convert.price_facts(price_now(1_000), after_a_stand_still).past_day == (1_099, 1_100)


async def test_the_account_knows_the_price_where_the_pool_tells_it() -> None:
    pool = FakePool()  # type: ignore[abstract] # only the calls that are made
    pool.epochs = epochs(96)
    for tells in (True, False):
        pool.price = price_now(96) if tells else None
        await pool.start()
        channel = grpc.aio.insecure_channel(pool.address)
        gateway = GrpcAccountGateway(channel=channel, address=pool.address, clock=SystemClock())
        account_now = await gateway.account()
        await gateway.close()
        await pool.stop()
        pool.port = 0
        if tells:
            assert account_now.price is not None
            assert account_now.price.price_micros_per_wu == 196
            assert len(account_now.price.past_day) == 8
        else:
            assert account_now.price is None
