"""A realistic evening, fixed to the microsecond: what the peers say in tests and in the docs' picture."""

from __future__ import annotations

from datetime import UTC, datetime

from pool_protocol.v1 import account_service_pb2 as account
from pool_protocol.v1 import agent_control_service_pb2 as control
from tests.support.clock import ManualClock
from tests.tui.peers import FakePool


def at(text: str) -> int:
    """Microseconds since the epoch of an ISO date and time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


NOW_US = at("2026-11-12T23:28:00")
VEHICLE_ID = "vehicle_mfrggzdfmztwq2lknnwg23tpoa"
OTHER_ID = "vehicle_ge2tmnzzga3dqmbzgq2tsnjqgi"


def clock() -> ManualClock:
    """A clock that stands at the scene's moment."""
    return ManualClock(now_us=NOW_US)


def computing() -> control.AgentStatus:
    """A car that charges and computes."""
    return control.AgentStatus(
        agent_version="0.1.0",
        vehicle_id=VEHICLE_ID,
        state="running",
        computing=True,
        verdict=control.VERDICT_KIND_RUN,
        opted_in=True,
        opt_in_changed_us=at("2026-10-01T18:03:00"),
        signals=control.VehicleSignals(
            plug="plugged",
            charge="charging",
            discharging=False,
            moving=False,
            soc_percent=62.0,
            soc_limit_percent=80.0,
            charge_power_w=7400.0,
            battery_power_w=6900.0,
            eta_full_s=11_520.0,
            source="simulated",
            source_class="B",
            age_ms=1200,
            fresh=True,
            at_home=True,
        ),
        compute=control.ComputeStatus(
            worker_alive=True,
            program_sha256="3f2a91c47bd05e6a" * 4,
            lease_attempts=64,
            lease_done=30,
            completed_total=1204,
            abandoned_total=3,
            unacknowledged=2,
            compute_today_ms=8_040_000,
            compute_total_ms=90_040_000,
            last_stop_ms=84.2,
            watts=112.0,
            attempt_progress=0.42,
        ),
        pool=control.PoolStatus(
            address="pool.example.org:7443",
            connected=True,
            last_contact_us=at("2026-11-12T23:27:58"),
            currency="EUR",
            held_micros=1_230_000,
            available_micros=8_104_200,
            paid_micros=31_500_000,
            vehicle_net_micros=22_104_200,
            verified_attempts=1180,
            rejected_attempts=0,
        ),
        energy=control.EnergyStatus(
            source="declared",
            watts=112.0,
            today_mj=900_000_000,
            electricity_today_micros=75_000,
            joules_per_wu=180.0,
            wu_per_hour=2_240.0,
            tariff="fixed",
            tariff_currency="EUR",
            tariff_micros_per_kwh=300_000,
            net_micros_per_hour=121_000,
            reserve_price_micros_per_wu=18,
        ),
        events=[
            control.AgentEvent(
                at_us=at("2026-11-12T23:14:09"), code="LEASED", message="Leased 64 tasks until 00:14."
            ),
            control.AgentEvent(
                at_us=at("2026-11-12T21:02:41"), code="STARTED", message="Charging began; computing."
            ),
        ],
        at_us=NOW_US,
    )


def waiting() -> control.AgentStatus:
    """A car that charges, but whose battery is below the owner's reserve."""
    status = computing()
    status.state = "waiting"
    status.computing = False
    status.verdict = control.VERDICT_KIND_WAIT
    status.reasons.extend(
        [
            control.Reason(
                code="SOC_BELOW_RESERVE",
                message="Battery 41 %, resumes at 55 %",
                remedy="Wait: at 7.4 kW it takes about 1 h 30 min",
            ),
            control.Reason(code="QUIET_HOURS", message="Quiet hours until 00:00"),
            control.Reason(code="HOT", message="Battery 39 °C, resumes below 35 °C"),
        ]
    )
    status.signals.soc_percent = 41.0
    status.compute.worker_alive = False
    status.compute.watts = 0
    status.compute.program_sha256 = ""
    status.compute.attempt_progress = -1
    status.compute.lease_attempts = 0
    status.compute.lease_done = 0
    return status


def fill(pool: FakePool) -> None:
    """Give the pool an owner with two cars and some weeks of work."""
    nets = (310, 420, 0, 515, 602, 480, 390, 0, 455, 700, 610, 530, 645, 421)
    pool.earnings = account.GetEarningsResponse(
        currency="EUR",
        held_micros=1_230_000,
        available_micros=8_104_200,
        paid_micros=31_500_000,
        gross_micros=43_856_700,
        fee_micros=3_022_500,
        pending_micros=24_400,
        next_payout_us=at("2026-12-01T06:00:00"),
        payout_threshold_micros=10_000_000,
        next_release_us=at("2026-11-13T14:00:00"),
        days=[
            account.DayEarnings(
                date=f"2026-{10 + (29 + day) // 31:02d}-{(29 + day) % 31 + 1:02d}",
                net_micros=net * 1000,
                verified_attempts=net // 5,
                after_electricity_micros=net * 700,
            )
            for day, net in enumerate(nets)
        ],
        energy=account.EnergySums(
            energy_mj=160_920_000_000,
            source="declared",
            electricity_micros=13_410_000,
            attempts=1_490,
        ),
        after_electricity_micros=27_424_200,
    )
    pool.vehicles = [
        account.VehicleView(
            vehicle_id=VEHICLE_ID,
            owner_id="owner_x",
            label="Blue hatchback",
            state="leased",
            last_seen_us=at("2026-11-12T23:27:58"),
            verified_attempts=1180,
            abandoned_attempts=3,
            net_micros=22_104_200,
            clean_uwu=90_000_000,
            running_attempts=34,
            enrolled_at_us=at("2026-10-01T18:00:00"),
            agent_version="0.1.0",
        ),
        account.VehicleView(
            vehicle_id=OTHER_ID,
            owner_id="owner_x",
            label="Van",
            state="quarantined",
            last_seen_us=at("2026-11-11T07:10:00"),
            verified_attempts=310,
            rejected_attempts=2,
            abandoned_attempts=11,
            net_micros=5_210_000,
            quarantine_reason="WRONG_RESULT: two results failed a check on 11 Nov",
            enrolled_at_us=at("2026-10-20T09:00:00"),
            agent_version="0.1.0",
        ),
    ]
    pool.events = [
        account.AccountEvent(
            at_us=at("2026-11-12T23:26:31"),
            code="VERIFIED",
            message="30 tasks of Blue hatchback verified: +0.091 EUR.",
            vehicle_id=VEHICLE_ID,
        ),
        account.AccountEvent(
            at_us=at("2026-11-11T07:12:00"),
            code="QUARANTINED",
            message="Van is in quarantine: two results failed a check.",
            vehicle_id=OTHER_ID,
        ),
        account.AccountEvent(
            at_us=at("2026-11-01T06:00:10"), code="PAYOUT_EXPORTED", message="31.50 EUR went to your bank."
        ),
    ]
    pool.details = account.PayoutDetails(
        holder_name="Ada Example", iban="DE89370400440532013000", threshold_micros=10_000_000
    )
