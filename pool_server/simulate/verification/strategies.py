"""How vehicles cheat. Add one by subclassing `Strategy`, and name it `--strategy your_module:YourClass`.

A strategy says what its vehicle does in one life (`plan`), and how far others help it: `league_share` is the
share of auditors that confirm its wrong results. Being caught and coming back under a new name are the same
thing to the rule: both begin with an empty history.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pool_server.simulate.verification.plan import Plan, Stretch

_FOR_EVER = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a strategy may know: all of the pool's settings."""

    scale: float
    """k of the rule."""
    epsilon: float
    units_per_vehicle: int
    """How long the simulation lasts, in units of weight 1."""
    faulty_share: float
    """Vehicles that play this strategy."""


class Strategy:
    """One kind of vehicle. The base class is honest."""

    name = "honest"
    #: Whether auditors of the same kind confirm its wrong results.
    in_league = False
    #: Whether its vehicles contradict every honest result that they audit, all in the same words.
    accuses = False
    #: Whether the same wrong answer comes from a whole numeric class: audits within the class confirm it.
    class_fault = False

    def plan(self, world: World) -> Plan:
        """Return one life."""
        del world
        return Plan.of(Stretch(_FOR_EVER))


class Erring(Strategy):
    """A machine that errs at a small constant rate and means no harm."""

    name = "erring"
    rate = 0.01

    def plan(self, world: World) -> Plan:
        """Err all the time at the same rate."""
        del world
        return Plan.of(Stretch(_FOR_EVER, self.rate))


class AlwaysWrong(Strategy):
    """Never computes."""

    name = "always_wrong"

    def plan(self, world: World) -> Plan:
        """Lie from the first unit on."""
        del world
        return Plan.of(Stretch(_FOR_EVER, 1.0))


class Stealth(Strategy):
    """Lies rarely: as often as it can without being caught soon."""

    name = "stealth"

    def plan(self, world: World) -> Plan:
        """Lie at rate 1 / k: once per audit that would find it."""
        return Plan.of(Stretch(_FOR_EVER, min(1.0, 1 / world.scale)))


class Sleeper(Strategy):
    """Earns a long history, then lies without a pause."""

    name = "sleeper"
    share_honest = 0.5

    def plan(self, world: World) -> Plan:
        """Be honest for half of the time that there is, then lie."""
        honest = max(1, int(world.units_per_vehicle * self.share_honest))
        return Plan.of(Stretch(honest), Stretch(_FOR_EVER, 1.0))


class Periodic(Strategy):
    """Honest for a while, then a burst of lies, again and again."""

    name = "periodic"

    def plan(self, world: World) -> Plan:
        """Be honest for k units, lie for a twentieth of that."""
        honest = max(1, round(world.scale))
        burst = max(1, honest // 20)
        return Plan.cycle(Stretch(honest), Stretch(burst, 1.0), units=world.units_per_vehicle)


class HeavyOnly(Strategy):
    """Honest on light tasks, lies on the heavy ones, which pay most."""

    name = "heavy_only"

    def plan(self, world: World) -> Plan:
        """Do twenty light units, then one heavy wrong one."""
        cycle = (Stretch(20, 0.0, 0.2), Stretch(1, 1.0, 5.0))
        return Plan.cycle(*cycle, units=3 * world.units_per_vehicle)


class ColludingGroup(Strategy):
    """A group that gives the same wrong answers, so that its members confirm one another when they audit."""

    name = "colluding_group"
    in_league = True

    def plan(self, world: World) -> Plan:
        """Sleep for k / 4 units, then lie."""
        return Plan.of(Stretch(max(1, round(world.scale / 4))), Stretch(_FOR_EVER, 1.0))


class ColludingAuditors(Strategy):
    """Lies from the start and relies on auditors of its own kind."""

    name = "colluding_auditors"
    in_league = True

    def plan(self, world: World) -> Plan:
        """Lie from the first unit on."""
        del world
        return Plan.of(Stretch(_FOR_EVER, 1.0))


class Accusers(Strategy):
    """Does its own work right, and contradicts every honest result that it audits."""

    name = "accusers"
    in_league = True
    accuses = True


class Sybil(Strategy):
    """Comes back under a new name whenever it is caught, and lies on every second unit."""

    name = "sybil"

    def plan(self, world: World) -> Plan:
        """Lie on half of the units."""
        del world
        return Plan.of(Stretch(_FOR_EVER, 0.5))


class LazyCopier(Strategy):
    """Sends an old answer instead of one unit in ten, and would copy as an auditor too.

    As an auditor it has nothing to copy: it must commit before it could see the claim.
    """

    name = "lazy_copier"

    def plan(self, world: World) -> Plan:
        """Skip a tenth of the units."""
        del world
        return Plan.of(Stretch(_FOR_EVER, 0.1))


class Withholder(Strategy):
    """Lies, and hands out no state when an audit asks: a failed check, once its time is over."""

    name = "withholder"

    def plan(self, world: World) -> Plan:
        """Be honest for k units, then lie on every fifth."""
        return Plan.of(Stretch(max(1, round(world.scale))), Stretch(_FOR_EVER, 0.2))


class FaultyClass(Strategy):
    """No cheat: a numeric class whose driver is wrong on one unit in twenty, the same on all its vehicles."""

    name = "faulty_class"
    class_fault = True
    rate = 0.05

    def plan(self, world: World) -> Plan:
        """Be wrong at the class's rate."""
        del world
        return Plan.of(Stretch(_FOR_EVER, self.rate))


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    kind.name: kind
    for kind in (
        Strategy,
        Erring,
        AlwaysWrong,
        Stealth,
        Sleeper,
        Periodic,
        HeavyOnly,
        ColludingGroup,
        ColludingAuditors,
        Accusers,
        Sybil,
        LazyCopier,
        Withholder,
        FaultyClass,
    )
}
