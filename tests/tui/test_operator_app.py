"""The operator's view over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC

import grpc
from textual.pilot import Pilot
from textual.widgets import TabbedContent

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import admin_service_pb2 as admin
from pool_protocol.v1 import market_service_pb2 as market
from tests.tui import scenes
from tests.tui.peers import FakePool
from tests.tui.stage import QUICK, Watcher, screen_text
from tui.gateway import Gateways
from tui.grpc_gateway import GrpcOperatorGateway
from tui.messages import PoolHeard, PoolLost
from tui.operator_app import OperatorApp


@asynccontextmanager
async def operator_stage(pool: FakePool) -> AsyncIterator[tuple[OperatorApp, Watcher, Pilot[None]]]:
    def connect() -> Gateways:
        channel = grpc.aio.insecure_channel(pool.address)
        return Gateways(operator=GrpcOperatorGateway(channel=channel, address="pool.example.org:7443"))

    app = OperatorApp(gateways=connect, clock=scenes.clock(), zone=UTC, pace=QUICK)
    watcher = Watcher()
    async with app.run_test(size=(100, 30), message_hook=watcher.hook) as pilot:
        watcher.pilot = pilot
        yield app, watcher, pilot
        app.workers.cancel_all()
        await pilot.pause()


def fill(pool: FakePool) -> None:
    pool.overview = admin.GetOverviewResponse(
        pool_id="pool.example.org",
        currency="EUR",
        posted_price_micros_per_wu=1500,
        vehicles_by_state={"leased": 4, "quarantined": 1, "lost": 0},
        jobs_by_state={"open": 1},
        attempts_by_state={"accepted": 1204, "rejected": 2},
        tasks_accepted=1180,
        buyers_available_micros=50_000_000,
        escrow_micros=7_000_000,
        held_micros=1_230_000,
        available_micros=8_104_200,
        fees_micros=3_022_500,
        verification_cost_micros=40_000,
    )
    pool.jobs = [
        market.JobView(
            job_id="job_12",
            name="[b]digits",
            state=market.JOB_STATE_OPEN,
            task_count=64,
            accepted_count=30,
            running_count=34,
            rejected_count=2,
            spent_micros=90_000,
            escrow_micros=7_000_000,
            created_at_us=scenes.at("2026-11-12T21:00:00"),
        )
    ]
    pool.payouts = [
        admin.PayoutView(
            payout_id="payout_3",
            state="planned",
            total_micros=31_500_000,
            planned_by="operator_mfrggzdfmztwq2lk",
            planned_at_us=scenes.at("2026-11-01T06:00:00"),
        )
    ]


async def test_the_pool_in_figures_fleet_jobs_and_payouts(pool: FakePool) -> None:
    fill(pool)
    async with operator_stage(pool) as (app, watcher, pilot):
        await watcher.message(PoolHeard)
        text = screen_text(app)
        assert "0.0015 EUR/WU" in text
        assert "4 leased · 1 quarantined" in text
        assert "0 lost" not in text
        assert "Blue hatchback" in text
        app.query_one(TabbedContent).active = "jobs-tab"
        await pilot.pause()
        assert "[b]digits" in screen_text(app)
        assert "30/64" in screen_text(app)
        app.query_one(TabbedContent).active = "payouts-tab"
        await pilot.pause()
        assert "31.50 EUR" in screen_text(app)


async def test_a_token_of_another_role_is_refused_with_words(pool: FakePool) -> None:
    pool.refusal = PoolError(ErrorCode.PERMISSION_DENIED)
    async with operator_stage(pool) as (app, watcher, _):
        await watcher.message(PoolLost)
        assert pool.refusal.public in screen_text(app)
        pool.refusal = None
        await watcher.message(PoolHeard)
        assert "Price" in screen_text(app)
