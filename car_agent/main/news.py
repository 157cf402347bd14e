"""The agent's latest events: in memory for the owner's screen, in the journal for the next run, logged."""

import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

from car_agent.core.policy import Verdict
from car_agent.core.reasons import Reason, ReasonCode
from car_agent.core.status import AgentEvent
from car_agent.journal.store import JournalledEvent
from car_agent.main.books import Books
from pool_protocol.clock import Clock

_SHOWN: Final = 20

_log = logging.getLogger(__name__)


class News:
    """Events, newest first."""

    def __init__(self, books: Books, clock: Clock) -> None:
        """Begin without any."""
        self._books = books
        self._clock = clock
        self._events: deque[AgentEvent] = deque(maxlen=_SHOWN)
        self._refused: ReasonCode | None = None

    def shown(self) -> tuple[AgentEvent, ...]:
        """Return the newest."""
        return tuple(self._events)

    def add(self, code: str, message: str) -> None:
        """Keep an event, in memory at once and in the journal soon."""
        now_us = self._clock.now_us()
        self._events.appendleft(AgentEvent(at_us=now_us, code=code, message=message))
        self._books.add_event(code, message, now_us=now_us)
        _log.info("event", extra={"code": code, "message_text": message})

    def verdict(self, before: Verdict, after: Verdict) -> None:
        """Tell what the policy says now, where that is news."""
        if before.kind is after.kind and before.headline is after.headline:
            return
        if after.runs:
            self.add("STARTED", "The car charges and may compute.")
        elif after.reasons and (before.runs or after.headline is not ReasonCode.SETTLING):
            self.add(after.reasons[0].code.value, after.reasons[0].message)

    def bars_asking(self, refusal: Reason | None) -> bool:
        """Tell once why work is not worth its price; return whether none is asked for.

        Where the price is too low the car asks all the same, with the price that suits it: that is its order
        in the pool's auction, and some jobs pay more than the posted price. Without a price of electricity
        there is nothing that it could ask for.
        """
        code = None if refusal is None else refusal.code
        if code is not self._refused:
            self._refused = code
            if refusal is not None:
                self.add(refusal.code.value, refusal.message)
        return code is ReasonCode.TARIFF_UNKNOWN

    def recall(self, events: Iterable[JournalledEvent]) -> None:
        """Take up the events of earlier runs, newest first."""
        self._events.extend(
            AgentEvent(at_us=event.at_us, code=event.code, message=event.message) for event in events
        )
