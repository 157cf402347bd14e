"""The dashboard against the real server: TLS, tokens, pairing, verified receipts, a pool that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from textual.widgets import Input

from chargepool._channel import open_aio_channel
from pool_protocol.keys import SigningKey
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.v1 import account_service_pb2 as account
from pool_protocol.v1 import fleet_service_pb2 as fleet
from tests.support.fake_car import FakeBuyer, FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, PrincipalHandle, running_pool, signing_request
from tests.tui import scenes
from tests.tui.stage import QUICK, Stage, on_stage
from tui.app import OwnerApp
from tui.gateway import Gateways
from tui.grpc_gateway import GrpcAccountGateway
from tui.messages import (
    AccountHeard,
    AccountLost,
    BankHeard,
    DeviceAnswered,
    DeviceFound,
    ReceiptsLoaded,
    StatementLoaded,
)
from tui.view_models.pairing import fingerprint_text


@pytest.fixture
def real_pool(tmp_path: Path) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax) as running:
        yield running


@asynccontextmanager
async def signed_in(pool: PoolHandle, principal: PrincipalHandle) -> AsyncIterator[Stage]:
    clock = SystemClock()

    def connect() -> Gateways:
        channel = open_aio_channel(pool.api_address, ca_pem=pool.ca_pem, token=principal.token)
        return Gateways(account=GrpcAccountGateway(channel=channel, address=pool.api_address, clock=clock))

    app = OwnerApp(gateways=connect, clock=clock, zone=UTC, pace=QUICK)
    async with on_stage(app, scenes.clock(), size=(100, 30)) as opened:
        yield opened


async def test_an_owner_pairs_a_car_that_works_and_checks_its_receipts(real_pool: PoolHandle) -> None:
    # 1. A device asks to be enrolled.
    owner = await asyncio.to_thread(real_pool.create_principal, "owner", "Olga")
    device = FakeDevice(real_pool)
    user_code = await asyncio.to_thread(device.begin)
    async with signed_in(real_pool, owner) as opened:
        await opened.message(AccountHeard)
        assert "The pool knows no car of yours." in opened.text
        assert "No bank account is set: press b" in opened.text
        # 2. The owner types the code in lower case, sees the key that the device shows, and approves.
        await opened.press("p")
        opened.app.screen.query_one("#code", Input).value = user_code.lower()
        await opened.press("enter")
        await opened.message(DeviceFound)
        assert fingerprint_text(device.fingerprint) in opened.text
        await opened.press(*"Olga1")
        await opened.press("enter")
        await opened.message(DeviceAnswered)
        await opened.message(AccountHeard, count=2)
        await opened.press("v")
        assert "Olga1" in opened.text
        await opened.press("escape")
        # 3. A car of hers works: the money is held, and every receipt verifies here.
        await asyncio.to_thread(work_three_tasks, real_pool, owner)
        await opened.press("r")
        await opened.message(AccountHeard, count=3)
        earnings = opened.app.dashboard.account.facts
        assert earnings is not None
        assert earnings.earnings.gross_micros == 3_000_000
        assert f"gross 3.00 − pool fee {earnings.earnings.fee_micros / 1_000_000:.2f}" in opened.text
        await opened.press("s")
        await opened.message(ReceiptsLoaded)
        await opened.message(StatementLoaded)
        opened.app.clear_notifications()
        await opened.pilot.pause()
        assert "3 receipts  ✓ 3 verified" in opened.text
        assert "root version 1, fingerprint" in opened.text


async def test_a_buyers_token_is_refused_with_what_to_do(real_pool: PoolHandle) -> None:
    buyer = await asyncio.to_thread(real_pool.create_principal, "buyer", "Bea")
    async with signed_in(real_pool, buyer) as opened:
        lost = await opened.message(AccountLost)
        assert not lost.error.unreachable
        assert "pool refused" in opened.text
        assert lost.error.next_step[:20] in opened.text


async def test_a_pool_that_restarts_is_found_again(real_pool: PoolHandle) -> None:
    owner = await asyncio.to_thread(real_pool.create_principal, "owner", "Olga")
    async with signed_in(real_pool, owner) as opened:
        await opened.message(BankHeard)
        await asyncio.to_thread(real_pool.stop)
        await opened.press("r")
        await opened.message(AccountLost)
        assert "stale" in opened.text
        await asyncio.to_thread(real_pool.start)
        await opened.message(AccountHeard, count=2)
        assert "pool live" in opened.text


async def test_bank_details_are_kept_by_the_pool(real_pool: PoolHandle) -> None:
    owner = await asyncio.to_thread(real_pool.create_principal, "owner", "Olga")
    async with signed_in(real_pool, owner) as opened:
        await opened.message(BankHeard)
        await opened.press("b")
        for selector, value in (
            ("#holder", "Olga"),
            ("#iban", "DE89370400440532013000"),
            ("#threshold", "5"),
            ("#town", "Berlin"),
            ("#country", "DE"),
        ):
            opened.app.screen.query_one(selector, Input).value = value
        await opened.press("enter")
        await opened.message(BankHeard, count=2)
        await opened.until(lambda: "press b" not in opened.text)
        kept = await asyncio.to_thread(
            real_pool.account().GetPayoutDetails,
            account.GetPayoutDetailsRequest(),
            metadata=owner.metadata,
        )
        assert kept.details.threshold_micros == 5_000_000


class FakeDevice:
    """A device that asks to be enrolled, and the key's fingerprint on its own screen."""

    def __init__(self, pool: PoolHandle) -> None:
        self._pool = pool
        self._key = SigningKey.generate(SystemIds())

    @property
    def fingerprint(self) -> str:
        return self._key.key_id

    def begin(self) -> str:
        """Return the code to type."""
        answer = self._pool.enrolment().BeginEnrolment(
            fleet.BeginEnrolmentRequest(
                csr_pem=signing_request(ec.generate_private_key(ec.SECP256R1())),
                envelope_public_key=self._key.public_bytes,
                agent=fleet.AgentInfo(agent_version="test", platforms=["cpu"]),
            )
        )
        return str(answer.user_code)


def work_three_tasks(pool: PoolHandle, owner: PrincipalHandle) -> None:
    """Let a car of this owner compute a job of three tasks at 1 unit of money each."""
    car = FakeCar(pool, owner=owner, name="worker")
    FakeBuyer.with_money(pool).open_job([1.0, 2.0, 3.0])
    assert len(car.work()) == 3
