"""The status as text: the same order as on the dashboard, readable without colour or cursor."""

import datetime as dt

from pool_protocol.v1 import agent_control_service_pb2 as pb

MILLIJOULES_PER_KWH = 3_600_000_000


def status_text(status: pb.AgentStatus) -> str:
    """Return the status in lines for people."""
    lines = [_headline(status)]
    lines += [f"  also: {reason.message}" for reason in status.reasons[1:]]
    if status.reasons:
        lines.append(f"  {status.reasons[0].remedy}")
    lines.append(_switches(status))
    lines.append(_car(status))
    lines.append(_compute(status))
    lines += _energy(status.energy)
    lines.append(_pool(status))
    if status.events:
        event = status.events[0]
        lines.append(f"Last: {moment(event.at_us)} {event.message}")
    return "\n".join(lines)


def _headline(status: pb.AgentStatus) -> str:
    if status.computing:
        return "Computing."
    if status.reasons:
        return f"Not computing. {status.reasons[0].message}"
    return {
        "unpaired": "Not computing. The vehicle is not paired with a pool: `car-agent pair`.",
        "connecting": "Ready to compute; connecting to the pool.",
        "idle": "Ready to compute; the pool has no work now.",
        "leased": "Starting to compute.",
    }.get(status.state, f"Not computing ({status.state}).")


def _switches(status: pb.AgentStatus) -> str:
    text = "Opted in" if status.opted_in else "Not opted in"
    if status.opt_in_changed_us:
        text += f" since {moment(status.opt_in_changed_us)}"
    if status.paused:
        until = f"until {moment(status.pause_until_us)}" if status.pause_until_us else "until you resume"
        text += f"; paused {until}"
    return text + "."


def _car(status: pb.AgentStatus) -> str:
    if not status.HasField("signals"):
        return "Car: nothing reported yet."
    signals = status.signals
    parts = [signals.plug, signals.charge]
    if signals.HasField("soc_percent"):
        limit = f" of {signals.soc_limit_percent:.0f} %" if signals.HasField("soc_limit_percent") else ""
        parts.append(f"battery {signals.soc_percent:.0f} %{limit}")
    if signals.HasField("charge_power_w"):
        parts.append(f"{signals.charge_power_w / 1_000:.1f} kW")
    freshness = "" if signals.fresh else ", too old to trust"
    source = f"{signals.source}, class {signals.source_class}, {signals.age_ms / 1_000:.1f} s ago{freshness}"
    return f"Car: {', '.join(parts)} ({source})."


def _compute(status: pb.AgentStatus) -> str:
    compute = status.compute
    text = f"Compute: {compute.completed_total} done, {compute.abandoned_total} given back"
    if compute.lease_attempts:
        text += f", lease {compute.lease_done} of {compute.lease_attempts}"
    if compute.unacknowledged:
        text += f", {compute.unacknowledged} not yet acknowledged"
    text += f"; {compute.compute_today_ms / 60_000:.1f} min today"
    if compute.last_stop_ms >= 0:
        text += f"; last stop took {compute.last_stop_ms:.0f} ms"
    if compute.sandbox_missing:
        text += f"; sandbox lacks {', '.join(compute.sandbox_missing)}"
    return text + "."


def _energy(energy: pb.EnergyStatus) -> list[str]:
    """Write what computing takes, what it costs and what it leaves; nothing of an agent that does not say."""
    if not energy.source:
        return []
    draw = f"{energy.watts:.0f} W for the work now" if energy.watts else "no work now"
    how = "declared watts" if energy.source == "declared" else f"measured, {energy.source}"
    today = f"{energy.today_mj / MILLIJOULES_PER_KWH:.3f} kWh today"
    if energy.HasField("electricity_today_micros"):
        today += f" for {_money(energy.electricity_today_micros)} {energy.tariff_currency}"
        if energy.unpriced_today_mj:
            today += " and some that had no price"
    lines = [f"Energy: {draw} ({how}); {today}."]
    if energy.not_measured:
        lines.append(f"  not measured: {energy.not_measured}.")
    guess = " (a guess: nothing was measured lately)" if energy.estimated else ""
    lines.append(f"  {energy.joules_per_wu:.1f} J per WU, {energy.wu_per_hour:,.2f} WU an hour{guess}")
    lines.append(_electricity(energy))
    return lines


def _electricity(energy: pb.EnergyStatus) -> str:
    if not energy.tariff:
        return "Electricity: no tariff is set, so nobody knows what is left: `car-agent tariff set --help`."
    if not energy.HasField("tariff_micros_per_kwh"):
        return f"Electricity: {energy.tariff}; no price now: `car-agent tariff show` says why."
    price = f"{_money(energy.tariff_micros_per_kwh)} {energy.tariff_currency} per kWh ({energy.tariff})"
    left = ""
    if energy.HasField("net_micros_per_hour"):
        left = f"; an hour leaves {_money(energy.net_micros_per_hour)} after fee and electricity"
    works_from = f"; works from {_money(energy.reserve_price_micros_per_wu)} per WU"
    return f"Electricity: {price}{left}{works_from}."


def _pool(status: pb.AgentStatus) -> str:
    pool = status.pool
    if not pool.address:
        return "Pool: none."
    contact = "connected" if pool.connected else "not connected"
    heard = f", last heard {moment(pool.last_contact_us)}" if pool.last_contact_us else ""
    money = (
        f" Held {_money(pool.held_micros)}, available {_money(pool.available_micros)},"
        f" paid {_money(pool.paid_micros)} {pool.currency}."
    )
    quarantine = f" In quarantine: {pool.quarantine_reason}." if pool.quarantine_reason else ""
    return f"Pool: {pool.address}, {contact}{heard}.{money if pool.currency else ''}{quarantine}"


def _money(micros: int) -> str:
    sign = "-" if micros < 0 else ""
    whole, part = divmod(abs(micros), 1_000_000)
    return f"{sign}{whole}.{part:06d}"


def moment(at_us: int) -> str:
    """Write a time as this machine's clock shows it."""
    local = dt.datetime.fromtimestamp(at_us / 1_000_000, tz=dt.UTC).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S")
