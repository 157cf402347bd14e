"""The money: net first, then held, available, paid and the next payout.

Without a token there is still what the car last heard, and what to set for the rest. Net is gross minus the
pool's fee; electricity is not in it, and the panel says so.
"""

from pool_protocol.money import MICROS_PER_UNIT
from tui.facts import AccountFacts, AgentFacts, BankFacts, EarningsFacts
from tui.view_models.panel import Line, PanelView, Span, Tone, dim, good, labelled, line, strong, warn
from tui.view_models.state import Dashboard, Link, Moment, Phase
from tui.view_models.text import ago, clean, count, moment, money, shown_cents, sparkline

TITLE = "Money"
DAYS_SHOWN = 14
_HOW_TO_SIGN_IN = "For fees, payouts and receipts give --address, --ca-file and --token-file."


def money_panel(dashboard: Dashboard, at: Moment) -> PanelView:
    """Return what the money panel says."""
    account = dashboard.account
    if account.facts is not None:
        return _from_pool(account, account.facts, dashboard.bank, at)
    if account.phase is Phase.UNSET:
        return _from_car(dashboard.agent, at)
    if account.trouble is None:
        return PanelView(title=TITLE, lines=(line(dim(f"Asking the pool at {clean(account.place)} …")),))
    lines = [line(warn(clean(account.trouble.public))), line(dim("→ "), clean(account.trouble.next_step))]
    if dashboard.agent.facts is not None and dashboard.agent.facts.pool.currency:
        lines.append(_car_heard(dashboard.agent.facts, at))
    return PanelView(title=TITLE, lines=tuple(lines), note=clean(account.place), tone=Tone.WARN)


def _from_pool(
    link: Link[AccountFacts], account: AccountFacts, bank: BankFacts | None, at: Moment
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
        return PanelView(title=TITLE, lines=lines)
    trouble = f", {clean(link.trouble.public)}" if link.trouble else ""
    return PanelView(title=TITLE, lines=lines, note=f"stale, {ago(link.age_us(at))}{trouble}", tone=Tone.WARN)


def _in_cents(earnings: EarningsFacts) -> bool:
    """Return whether this account's sums are large enough that cents are what matters."""
    return earnings.gross_micros >= MICROS_PER_UNIT


def _net(earnings: EarningsFacts) -> tuple[Span | str, ...]:
    gross, net = earnings.gross_micros, earnings.gross_micros - earnings.fee_micros
    cents = _in_cents(earnings)
    if cents:
        # The three figures must add up as they are shown, so the fee is the difference of the shown ones.
        gross, net = shown_cents(gross), shown_cents(net)
    return (
        strong(money(net, earnings.currency, cents=cents)),
        dim(f" = gross {money(gross, '', cents=cents)} − pool fee {money(gross - net, '', cents=cents)}"),
        dim(", before electricity"),
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
    today = money(days[-1].net_micros, earnings.currency)
    return (
        dim(f"   {count(len(days), 'day')} net "),
        good(sparkline([day.net_micros for day in days])),
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
