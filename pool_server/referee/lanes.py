"""Two referees: what must be quick does not wait behind what may take minutes.

A car waits for its certificate while it hands in its result; a disputed unit or an appeal may take ten
minutes, as whoever made the program likes. So certificates have a thread and children of their own.
Implements `ports.referee.Referee`.
"""

from typing import Final

from pool_server.ports.referee import RefereeAnswer, RefereeOrder
from pool_server.referee.bench import RefereeBench

#: Orders that may take no longer than this go to the quick one.
QUICK_S: Final = 30.0


class RefereeLanes:
    """Sends orders to the referee that fits."""

    def __init__(self, *, quick: RefereeBench, slow: RefereeBench) -> None:
        """Take both; whoever made them closes them."""
        self._quick = quick
        self._slow = slow

    async def run(self, order: RefereeOrder) -> RefereeAnswer:
        """Run one order.

        Raises:
            RefereeError: there are no outputs.
        """
        bench = self._quick if order.timeout_s <= QUICK_S else self._slow
        return await bench.run(order)

    async def numeric_class(self) -> str:
        """Return the numeric class of this machine; empty where unknown."""
        return await self._quick.numeric_class()
