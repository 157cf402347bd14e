"""The money: net first, then held, available, paid and the next payout.

Without a token there is still what the car last heard, and what to set for the rest. Net is gross minus fee
minus electricity, where the owner's cars know a tariff, and the panel says how its energy was found; else it
says that electricity is not in it.
"""

from pool_protocol.money import MICROS_PER_UNIT
from tui.facts import AccountFacts, AgentFacts, BankFacts, EarningsFacts, PriceFacts
from tui.view_models.panel import Line, PanelView, Span, Tone, dim, good, labelled, line, strong, warn
from tui.view_models.state import Dashboard, Link, Moment, Phase
from tui.view_models.text import (
    ago,
    clean,
    count,
    metered,
    moment,
    money,
    price_per_wu,
    shown_cents,
    sparkline,
)

TITLE = "Money"
DAYS_SHOWN = 14
#: What stands beside a label on a screen of 80 columns.
_LINE_CHARACTERS = 66
_HOW_TO_SIGN_IN = "For fees, payouts and receipts give --address, --ca-file and --token-file."


def money_panel(dashboard: Dashboard, at: Moment) -> PanelView:
    """Return what the money panel says."""
    account = dashboard.account
    if account.facts is not None:
        return _from_pool(account, account.facts, dashboard.bank, at, hour=_hour(dashboard.agent))
    if account.phase is Phase.UNSET:
        return _from_car(dashboard.agent, at)
    if account.trouble is None:
        return PanelView(title=TITLE, lines=(line(dim(f"Asking the pool at {clean(account.place)} …")),))
    lines = [line(warn(clean(account.trouble.public))), line(dim("→ "), clean(account.trouble.next_step))]
    if dashboard.agent.facts is not None and dashboard.agent.facts.pool.currency:
        lines.append(_car_heard(dashboard.agent.facts, at))
    return PanelView(title=TITLE, lines=tuple(lines), note=clean(account.place), tone=Tone.WARN)


def _from_pool(
    link: Link[AccountFacts], account: AccountFacts, bank: BankFacts | None, at: Moment, *, hour: str
) -> PanelView:
    earnings = account.earnings
    lines = (
        labelled("Net", *_net(earnings)),
        labelled("Held", *_held(earnings, at)),
        labelled("Available", *_available(earnings, bank, at)),
        labelled(
            "Paid",
            money(earnings.paid_micros, earnings.currency, cents=_in_cents(earnings)),
            *_days(earnings),
        ),
    )
    if link.live:
        note = " · ".join(part for part in (hour, _price(account.price)) if part)
        return PanelView(title=TITLE, lines=lines, note=note)
    trouble = f", {clean(link.trouble.public)}" if link.trouble else ""
    return PanelView(title=TITLE, lines=lines, note=f"stale, {ago(link.age_us(at))}{trouble}", tone=Tone.WARN)


def _hour(agent: Link[AgentFacts]) -> str:
    """Return what an hour of this car leaves; nothing while a part of it is not known."""
    if agent.facts is None or not agent.live or agent.facts.energy.net_micros_per_hour is None:
        return ""
    left = money(agent.facts.energy.net_micros_per_hour, agent.facts.pool.currency)
    return f"an hour of this car leaves {left}"


def _price(price: PriceFacts | None) -> str:
    """Say what a work unit pays now, and how that went in the past day."""
    if price is None:
        return ""
    day = f" {sparkline(list(price.past_day))} 24 h" if len(price.past_day) > 1 else ""
    return f"price {price_per_wu(price.price_micros_per_wu, price.currency)}{day}"


def _in_cents(earnings: EarningsFacts) -> bool:
    """Return whether this account's sums are large enough that cents are what matters."""
    return earnings.gross_micros >= MICROS_PER_UNIT


def _net(earnings: EarningsFacts) -> tuple[Span | str, ...]:
    gross, net = earnings.gross_micros, earnings.gross_micros - earnings.fee_micros
    cents = _in_cents(earnings) or abs(earnings.energy.cost_micros or 0) >= MICROS_PER_UNIT
    if cents:
        # The three figures must add up as they are shown, so the fee is the difference of the shown ones.
        gross, net = shown_cents(gross), shown_cents(net)
    left, energy = earnings.after_electricity_micros, earnings.energy
    if left is None or energy.cost_micros is None:
        return (
            strong(money(net, earnings.currency, cents=cents)),
            dim(f" = gross {money(gross, '', cents=cents)} − pool fee {money(gross - net, '', cents=cents)}"),
            dim(", before electricity"),
        )
    left = shown_cents(left) if cents else left
    fee, power = money(gross - net, "", cents=cents), money(net - left, "", cents=cents)
    at_least = "at least " if energy.partly_priced else ""
    amount = money(left, earnings.currency, cents=cents)
    cost = f"electricity {at_least}{power} ({metered(energy.source)})"
    whole = f" = gross {money(gross, '', cents=cents)} − fee {fee} − {cost}"
    short = f" after fee {fee}, {cost}"
    return (
        warn(amount) if left < 0 else strong(amount),
        dim(whole if len(amount) + len(whole) <= _LINE_CHARACTERS else short),
    )


def _held(earnings: EarningsFacts, at: Moment) -> tuple[Span | str, ...]:
    cents = _in_cents(earnings)
    parts: list[Span | str] = [money(earnings.held_micros, earnings.currency, cents=cents)]
    if earnings.held_micros and earnings.next_release_us:
        parts.append(dim(f", first freed {moment(earnings.next_release_us, at.zone, now_us=at.now_us)}"))
    if earnings.pending_micros:
        parts.append(dim(f" · {money(earnings.pending_micros, earnings.currency)} unverified"))
    return tuple(parts)


def _available(earnings: EarningsFacts, bank: BankFacts | None, at: Moment) -> tuple[Span | str, ...]:
    cents, available = _in_cents(earnings), earnings.available_micros
    parts: list[Span | str] = [good(money(available, earnings.currency, cents=cents)), "  "]
    if bank is not None and not bank.iban:
        parts.append(warn("No bank account is set: press b"))
        return tuple(parts)
    if not earnings.next_payout_us:
        parts.append(dim("next payout: when the operator runs one"))
    else:
        parts.append(f"next payout {moment(earnings.next_payout_us, at.zone, now_us=at.now_us)}")
    threshold = earnings.payout_threshold_micros
    if available < threshold:
        short = threshold - shown_cents(available) if cents else threshold - available
        parts.append(dim(f", needs {money(threshold, '')} ({money(short, '', cents=cents)} to go)"))
    return tuple(parts)


def _days(earnings: EarningsFacts) -> tuple[Span | str, ...]:
    days = earnings.days[-DAYS_SHOWN:]
    if not days:
        return ()
    nets = [
        day.net_micros if day.after_electricity_micros is None else day.after_electricity_micros
        for day in days
    ]
    today = money(nets[-1], earnings.currency)
    return (
        dim(f"   {count(len(days), 'day')} net "),
        good(sparkline(nets)),
        dim(f" last {today}"),
    )


def _from_car(agent: Link[AgentFacts], at: Moment) -> PanelView:
    if agent.facts is None or not agent.facts.pool.currency:
        return PanelView(
            title=TITLE, lines=(line("Not signed in to the pool."), line(dim("→ "), _HOW_TO_SIGN_IN))
        )
    pool = agent.facts.pool
    lines = (
        labelled(
            "Net",
            strong(money(pool.vehicle_net_micros, pool.currency)),
            dim(" by this car, before electricity"),
        ),
        _car_heard(agent.facts, at),
        labelled("Paid", money(pool.paid_micros, pool.currency)),
        line(dim("→ "), _HOW_TO_SIGN_IN),
    )
    return PanelView(title=TITLE, lines=lines, note="as the car heard it")


def _car_heard(agent: AgentFacts, at: Moment) -> Line:
    pool = agent.pool
    heard = ""
    if pool.last_contact_us:
        heard = f"  heard {ago(at.now_us - pool.last_contact_us)}"
    return labelled(
        "Held",
        money(pool.held_micros, pool.currency),
        dim(" · available "),
        good(money(pool.available_micros, pool.currency)),
        dim(heard),
    )
