"""Wire messages to facts, in one place. Nothing is judged here; unknown enum values become "unknown"."""

from collections.abc import Sequence

from google.protobuf.message import Message

from pool_protocol.limits import DAY_US
from pool_protocol.v1 import (
    account_service_pb2 as account,
)
from pool_protocol.v1 import (
    admin_service_pb2 as admin,
)
from pool_protocol.v1 import (
    agent_control_service_pb2 as control,
)
from pool_protocol.v1 import (
    market_service_pb2 as market,
)
from pool_protocol.v1 import (
    price_service_pb2 as prices,
)
from tui import facts

#: One character each, in a border that says other things too.
PRICES_SHOWN = 8

_VERDICTS = {
    control.VERDICT_KIND_RUN: facts.Verdict.RUN,
    control.VERDICT_KIND_WAIT: facts.Verdict.WAIT,
    control.VERDICT_KIND_STOP: facts.Verdict.STOP,
}


def agent_facts(status: control.AgentStatus) -> facts.AgentFacts:
    """The agent's status."""
    return facts.AgentFacts(
        agent_version=status.agent_version,
        vehicle_id=status.vehicle_id,
        state=status.state,
        computing=status.computing,
        verdict=_VERDICTS.get(status.verdict, facts.Verdict.UNKNOWN),
        reasons=tuple(
            facts.ReasonFacts(code=reason.code, message=reason.message, remedy=reason.remedy)
            for reason in status.reasons
        ),
        opted_in=status.opted_in,
        opt_in_changed_us=status.opt_in_changed_us,
        paused=status.paused,
        pause_until_us=status.pause_until_us,
        signals=_signal_facts(status.signals),
        compute=_compute_facts(status.compute),
        pool=_pool_link_facts(status.pool),
        energy=_car_energy_facts(status.energy),
        events=tuple(
            facts.EventFacts(at_us=event.at_us, code=event.code, message=event.message)
            for event in status.events
        ),
    )


def _given(message: Message, field: str) -> bool:
    return message.HasField(field)


def _signal_facts(signals: control.VehicleSignals) -> facts.SignalFacts:
    return facts.SignalFacts(
        plug=signals.plug or "unknown",
        charge=signals.charge or "unknown",
        discharging=signals.discharging if _given(signals, "discharging") else None,
        moving=signals.moving if _given(signals, "moving") else None,
        at_home=signals.at_home if _given(signals, "at_home") else None,
        soc_percent=signals.soc_percent if _given(signals, "soc_percent") else None,
        soc_limit_percent=signals.soc_limit_percent if _given(signals, "soc_limit_percent") else None,
        charge_power_w=signals.charge_power_w if _given(signals, "charge_power_w") else None,
        battery_power_w=signals.battery_power_w if _given(signals, "battery_power_w") else None,
        eta_full_s=signals.eta_full_s if _given(signals, "eta_full_s") else None,
        source=signals.source,
        source_class=signals.source_class,
        age_ms=signals.age_ms,
        fresh=signals.fresh,
    )


def _compute_facts(compute: control.ComputeStatus) -> facts.ComputeFacts:
    return facts.ComputeFacts(
        worker_alive=compute.worker_alive,
        program_sha256=compute.program_sha256,
        lease_attempts=compute.lease_attempts,
        lease_done=compute.lease_done,
        completed_total=compute.completed_total,
        abandoned_total=compute.abandoned_total,
        unacknowledged=compute.unacknowledged,
        compute_today_ms=compute.compute_today_ms,
        compute_total_ms=compute.compute_total_ms,
        last_stop_ms=compute.last_stop_ms,
        watts=compute.watts,
        attempt_progress=compute.attempt_progress,
        sandbox_missing=tuple(compute.sandbox_missing),
    )


def _car_energy_facts(energy: control.EnergyStatus) -> facts.CarEnergyFacts:
    cost, price, net = "electricity_today_micros", "tariff_micros_per_kwh", "net_micros_per_hour"
    return facts.CarEnergyFacts(
        source=energy.source,
        not_measured=energy.not_measured,
        watts=energy.watts,
        idle_watts=energy.idle_watts if _given(energy, "idle_watts") else None,
        today_mj=energy.today_mj,
        electricity_today_micros=energy.electricity_today_micros if _given(energy, cost) else None,
        unpriced_today_mj=energy.unpriced_today_mj,
        joules_per_wu=energy.joules_per_wu,
        wu_per_hour=energy.wu_per_hour,
        estimated=energy.estimated,
        tariff=energy.tariff,
        tariff_currency=energy.tariff_currency,
        tariff_micros_per_kwh=energy.tariff_micros_per_kwh if _given(energy, price) else None,
        net_micros_per_hour=energy.net_micros_per_hour if _given(energy, net) else None,
        reserve_price_micros_per_wu=energy.reserve_price_micros_per_wu,
        refusal=energy.refusal,
    )


def _pool_link_facts(pool: control.PoolStatus) -> facts.PoolLinkFacts:
    return facts.PoolLinkFacts(
        address=pool.address,
        connected=pool.connected,
        last_contact_us=pool.last_contact_us,
        currency=pool.currency,
        held_micros=pool.held_micros,
        available_micros=pool.available_micros,
        paid_micros=pool.paid_micros,
        vehicle_net_micros=pool.vehicle_net_micros,
        verified_attempts=pool.verified_attempts,
        rejected_attempts=pool.rejected_attempts,
        quarantine_reason=pool.quarantine_reason,
        no_work_reason=pool.no_work_reason,
    )


def earnings_facts(earnings: account.GetEarningsResponse) -> facts.EarningsFacts:
    """The owner's money."""
    return facts.EarningsFacts(
        currency=earnings.currency,
        held_micros=earnings.held_micros,
        available_micros=earnings.available_micros,
        paid_micros=earnings.paid_micros,
        gross_micros=earnings.gross_micros,
        fee_micros=earnings.fee_micros,
        pending_micros=earnings.pending_micros,
        next_payout_us=earnings.next_payout_us,
        payout_threshold_micros=earnings.payout_threshold_micros,
        next_release_us=earnings.next_release_us,
        days=tuple(
            facts.DayFacts(
                date=day.date,
                net_micros=day.net_micros,
                verified_attempts=day.verified_attempts,
                energy=_energy_facts(day.energy),
                after_electricity_micros=_left(day),
            )
            for day in earnings.days
        ),
        energy=_energy_facts(earnings.energy),
        after_electricity_micros=_left(earnings),
    )


def _left(
    told: account.GetEarningsResponse | account.DayEarnings | account.StatementLine | account.StatementTotals,
) -> int | None:
    return told.after_electricity_micros if _given(told, "after_electricity_micros") else None


def _energy_facts(sums: account.EnergySums) -> facts.EnergyFacts:
    return facts.EnergyFacts(
        energy_mj=sums.energy_mj,
        measured_mj=sums.measured_mj,
        source=sums.source,
        electricity_micros=sums.electricity_micros,
        attempts=sums.attempts,
        unpriced_attempts=sums.unpriced_attempts,
    )


def vehicle_facts(view: account.VehicleView) -> facts.VehicleFacts:
    """A vehicle."""
    return facts.VehicleFacts(
        vehicle_id=view.vehicle_id,
        label=view.label,
        state=view.state,
        owner_id=view.owner_id,
        last_seen_us=view.last_seen_us,
        verified_attempts=view.verified_attempts,
        rejected_attempts=view.rejected_attempts,
        abandoned_attempts=view.abandoned_attempts,
        running_attempts=view.running_attempts,
        net_micros=view.net_micros,
        clean_uwu=view.clean_uwu,
        quarantine_reason=view.quarantine_reason,
        enrolled_at_us=view.enrolled_at_us,
        agent_version=view.agent_version,
        trusted=view.trusted,
        numeric_class=view.numeric_class,
    )


def price_facts(price: prices.GetPriceResponse, epochs: Sequence[prices.PriceEpoch]) -> facts.PriceFacts:
    """The price now and in the past day, out of the pool's newest epochs, newest first."""
    day = [
        epoch.after_micros_per_wu
        for epoch in reversed(epochs)
        if epoch.starts_at_us > price.next_epoch_us - DAY_US - epoch.length_us
    ]
    apart = -(-len(day) // PRICES_SHOWN) or 1
    return facts.PriceFacts(
        price_micros_per_wu=price.price_micros_per_wu,
        currency=price.currency,
        past_day=tuple(day[::-1][::apart][::-1]),
    )


def account_event_facts(event: account.AccountEvent) -> facts.EventFacts:
    """News from the pool."""
    return facts.EventFacts(
        at_us=event.at_us,
        code=event.code,
        message=event.message,
        origin="pool",
        vehicle_id=event.vehicle_id,
    )


def statement_facts(statement: account.GetStatementResponse) -> facts.StatementFacts:
    """A month's statement."""
    return facts.StatementFacts(
        month=statement.month,
        currency=statement.currency,
        opening_micros=statement.opening_micros,
        closing_micros=statement.closing_micros,
        lines=tuple(
            facts.StatementLineFacts(
                at_us=line.at_us,
                kind=line.kind,
                reference=line.reference,
                work_uwu=line.work_uwu,
                price_micros_per_wu=line.price_micros_per_wu,
                gross_micros=line.gross_micros,
                fee_micros=line.fee_micros,
                net_micros=line.net_micros,
                energy_mj=line.energy_mj,
                energy_source=line.energy_source,
                electricity_micros=line.electricity_micros if _given(line, "electricity_micros") else None,
                after_electricity_micros=_left(line),
            )
            for line in statement.lines
        ),
        totals=_totals_facts(statement.totals) if _given(statement, "totals") else None,
        csv=statement.csv,
    )


def _totals_facts(totals: account.StatementTotals) -> facts.StatementTotalsFacts:
    return facts.StatementTotalsFacts(
        work_uwu=totals.work_uwu,
        gross_micros=totals.gross_micros,
        fee_micros=totals.fee_micros,
        net_micros=totals.net_micros,
        energy=_energy_facts(totals.energy),
        after_electricity_micros=_left(totals),
    )


def bank_facts(details: account.PayoutDetails) -> facts.BankFacts:
    """How the owner is paid."""
    return facts.BankFacts(
        holder_name=details.holder_name,
        iban=details.iban,
        threshold_micros=details.threshold_micros,
        town=details.town,
        country=details.country,
        bic=details.bic,
    )


def job_facts(view: market.JobView) -> facts.JobFacts:
    """A buyer's job."""
    known = view.state in market.JobState.values()
    name = market.JobState.Name(view.state) if known else "unknown"
    return facts.JobFacts(
        job_id=view.job_id,
        name=view.name,
        state=name.removeprefix("JOB_STATE_").lower(),
        task_count=view.task_count,
        accepted_count=view.accepted_count,
        failed_count=view.failed_count,
        running_count=view.running_count,
        rejected_count=view.rejected_count,
        spent_micros=view.spent_micros,
        escrow_micros=view.escrow_micros,
        created_at_us=view.created_at_us,
    )


def payout_facts(view: admin.PayoutView) -> facts.PayoutFacts:
    """A payout run."""
    return facts.PayoutFacts(
        payout_id=view.payout_id,
        state=view.state,
        total_micros=view.total_micros,
        planned_by=view.planned_by,
        approved_by=view.approved_by,
        planned_at_us=view.planned_at_us,
    )


def overview_facts(overview: admin.GetOverviewResponse) -> facts.OverviewFacts:
    """The pool in figures."""
    return facts.OverviewFacts(
        pool_id=overview.pool_id,
        currency=overview.currency,
        server_version=overview.server_version,
        posted_price_micros_per_wu=overview.posted_price_micros_per_wu,
        vehicles_by_state=tuple(sorted(overview.vehicles_by_state.items())),
        jobs_by_state=tuple(sorted(overview.jobs_by_state.items())),
        attempts_by_state=tuple(sorted(overview.attempts_by_state.items())),
        tasks_accepted=overview.tasks_accepted,
        buyers_available_micros=overview.buyers_available_micros,
        escrow_micros=overview.escrow_micros,
        held_micros=overview.held_micros,
        available_micros=overview.available_micros,
        fees_micros=overview.fees_micros,
        verification_cost_micros=overview.verification_cost_micros,
    )
