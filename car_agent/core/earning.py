"""Whether work earns: the price that covers electricity, what an hour leaves, and when to refuse. Pure.

Three numbers make an hour's net: what the pool pays for a work unit after its fee, how many of them this car
computes in an hour, and what the electricity of that hour costs. Work that would lose money is never wanted;
a limit on an hour's net is the owner's to set.
"""

import math
from dataclasses import dataclass
from typing import Final

from car_agent.core.reasons import Reason, ReasonCode
from car_agent.core.tariff import TariffPrice
from pool_protocol.money import MICROS_PER_UNIT, PPM, format_micros

_JOULES_PER_KWH: Final = 3_600_000
#: What a price may be on the wire: a reserve beyond it says "not at any price".
RESERVE_MICROS_PER_WU_MAX: Final = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerTerms:
    """What the owner asks for."""

    reserve_price_micros_per_wu: int = 0
    """The lowest price in any case."""
    electricity_margin: float | None = 0.10
    """Pay must exceed electricity by this share; None works at a loss too."""
    min_net_per_hour: float | None = None
    """What an hour must leave after electricity, units of the currency; None does not ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOffer:
    """What the pool pays, as last heard."""

    price_micros_per_wu: int | None
    """The posted price; None while it is not known."""
    fee_ppm: int = 0
    currency: str = ""

    def share_kept(self) -> float:
        """Return the part of a price that is left after the fee."""
        return 1 - self.fee_ppm / PPM


@dataclass(frozen=True, slots=True, kw_only=True)
class Economics:
    """What computing costs and brings at this moment."""

    terms: OwnerTerms
    offer: PoolOffer
    tariff: TariffPrice
    has_tariff: bool
    """Whether the owner has set one: then a price of electricity must be known. So it must for a net."""
    joules_per_wu: float
    wu_per_hour: float

    @property
    def electricity_micros_per_wu(self) -> float | None:
        """What the electricity of a work unit costs; None without a price."""
        if self.tariff.micros_per_kwh is None:
            return None
        return self.joules_per_wu * self.tariff.micros_per_kwh / _JOULES_PER_KWH

    @property
    def net_micros_per_hour(self) -> float | None:
        """What an hour leaves at the posted price; None while a part of it is not known."""
        electricity = self.electricity_micros_per_wu
        if electricity is None or self.offer.price_micros_per_wu is None:
            return None
        pay = self.offer.price_micros_per_wu * self.offer.share_kept()
        return (pay - electricity) * self.wu_per_hour

    @property
    def reserve_price_micros_per_wu(self) -> int:
        """The lowest price, before the pool's fee, at which this car works."""
        wanted = self._wanted_after_fee()
        if wanted <= 0:
            return self.terms.reserve_price_micros_per_wu
        kept = self.offer.share_kept()
        gross = math.ceil(wanted / kept) if kept > 0 else RESERVE_MICROS_PER_WU_MAX
        return max(self.terms.reserve_price_micros_per_wu, min(gross, RESERVE_MICROS_PER_WU_MAX))

    def _wanted_after_fee(self) -> float:
        electricity = self.electricity_micros_per_wu
        if electricity is None:
            return 0.0
        wanted = [0.0]
        if self.terms.electricity_margin is not None:
            wanted.append(electricity * (1 + self.terms.electricity_margin))
        if self.terms.min_net_per_hour is not None and self.wu_per_hour > 0:
            wanted.append(electricity + self.terms.min_net_per_hour * MICROS_PER_UNIT / self.wu_per_hour)
        return max(wanted)

    def refusal(self) -> Reason | None:
        """Return why no work is wanted at the posted price; None when it is."""
        asked = self.has_tariff or self.terms.min_net_per_hour is not None
        if asked and self.tariff.micros_per_kwh is None:
            return Reason(
                code=ReasonCode.TARIFF_UNKNOWN,
                message=f"What electricity costs is not known. {self.tariff.why_not}",
                remedy="The car computes again as soon as it knows a price: `car-agent tariff show`.",
            )
        price = self.offer.price_micros_per_wu
        if price is None or price >= self.reserve_price_micros_per_wu:
            return None
        net, least = self.net_micros_per_hour, self.terms.min_net_per_hour
        if net is not None and least is not None and net < least * MICROS_PER_UNIT:
            return self._net_below(net, least)
        return self._price_below(price)

    def _net_below(self, net_micros: float, least: float) -> Reason:
        currency = self.offer.currency
        return Reason(
            code=ReasonCode.NET_BELOW_MINIMUM,
            message=(
                f"An hour would leave {_amount(net_micros)} {currency} after electricity;"
                f" you ask for {_amount(least * MICROS_PER_UNIT)}."
            ),
            remedy="A higher price or cheaper electricity changes it, or a lower min_net_per_hour of yours.",
        )

    def _price_below(self, price: int) -> Reason:
        currency, reserve = self.offer.currency, self.reserve_price_micros_per_wu
        electricity = self.electricity_micros_per_wu
        why = "" if electricity is None else f"; electricity is {_amount(electricity)} of it"
        return Reason(
            code=ReasonCode.PRICE_BELOW_RESERVE,
            message=(
                f"The pool pays {_amount(price)} {currency} per work unit;"
                f" this car works from {_amount(reserve)}{why}."
            ),
            remedy="A higher price, or cheaper electricity, changes it.",
        )

    def loses_at(self, price_micros_per_wu: int) -> str:
        """Return why work at a price would lose money; empty when it would not, or the owner does not mind.

        The margin is not asked for here: between asking and getting, estimates move a little.
        """
        electricity = self.electricity_micros_per_wu
        if electricity is None or self.terms.electricity_margin is None:
            return ""
        paid = price_micros_per_wu * self.offer.share_kept()
        if paid >= electricity:
            return ""
        return (
            f"it pays {_amount(paid)} {self.offer.currency} per work unit after the fee,"
            f" and its electricity costs {_amount(electricity)}"
        )


def _amount(micros: float) -> str:
    """Write an amount for a sentence: two decimals, or as many as say something."""
    whole = round(micros)
    if abs(whole) >= MICROS_PER_UNIT // 10:
        return format_micros(whole, decimals=2)
    digits = format_micros(whole).rstrip("0")
    return f"{digits}0" if digits[-2] == "." else digits if digits[-1] != "." else f"{digits}00"
