"""Inputs on their way into a job: pulled as late as possible, checked, and sent in batches.

The inputs may be endless and expensive, so none is pulled before there is room for it. They are pulled in the
caller's thread: an iterator over a file, a database cursor or a device belongs to the thread that made it.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from chargepool._program import Program
from chargepool._session import Session
from pool_protocol.limits import MESSAGE_BYTES_MAX, TASKS_PER_REQUEST_MAX

#: Inline tensors of one AddTasks message, well below the largest message.
_BATCH_BYTES_MAX = MESSAGE_BYTES_MAX // 2

Arrays = Mapping[str, NDArray[Any]]


class TaskFeed:
    """Moves inputs from an iterator into a job, in order, from a first index on."""

    def __init__(
        self,
        session: Session,
        *,
        job_id: str,
        program: Program,
        items: Iterable[Any],
        batch_size: int,
        first_index: int = 0,
        already_sent: int = 0,
    ) -> None:
        """Take where inputs come from and where they go; nothing is pulled yet.

        Args:
            session: Sends the batches.
            job_id: The job.
            program: Checks and encodes inputs.
            items: The inputs.
            batch_size: Inputs per message, at most.
            first_index: Index of the first input.
            already_sent: So many inputs at the start are in the pool already; they are pulled to keep count
                and neither checked nor sent.
        """
        self._session = session
        self._job_id = job_id
        self._program = program
        self._items: Iterator[Any] = iter(items)
        self._batch_size = min(batch_size, TASKS_PER_REQUEST_MAX)
        self._batch: list[Arrays] = []
        self._batch_bytes = 0
        self._is_refused = False
        self._first_index = first_index
        self.pulled = 0
        """Inputs taken from the iterator."""
        self._already_sent = already_sent
        self.sent = 0
        """Inputs that the pool has acknowledged, those of an earlier script included."""
        self.exhausted = False
        """True when the iterator has ended."""

    @property
    def next_index(self) -> int:
        """Index that the next input will get."""
        return self._first_index + self.pulled

    def fill(self, room: int) -> None:
        """Pull at most `room` inputs and send all that were pulled.

        Raises:
            InputRefused: An input does not fit the program. Those before it were sent.
            ChargepoolError: What AddTasks can raise.
        """
        self._is_refused = False
        try:
            for _ in range(room):
                item = next(self._items, _END)
                if item is _END:
                    self.exhausted = True
                    break
                if self.pulled < self._already_sent:
                    self.pulled += 1
                    self.sent += 1
                    continue
                arrays = self._program.encode(item, index=self.next_index)
                self.pulled += 1
                self._batch.append(arrays)
                self._batch_bytes += sum(array.nbytes for array in arrays.values())
                if len(self._batch) >= self._batch_size or self._batch_bytes >= _BATCH_BYTES_MAX:
                    self._send()
        finally:
            # Also when the iterator or an input failed: what was accepted before it is not lost.
            if not self._is_refused:
                self._send()

    def stop(self) -> None:
        """Pull nothing more; what was pulled and not sent is dropped."""
        self.exhausted = True
        self._batch = []
        self._batch_bytes = 0

    def _send(self) -> None:
        if not self._batch:
            return
        # Should the pool not take it, the end of `fill` does not ask for its patience once more.
        self._is_refused = True
        self._session.add_tasks(self._job_id, self._first_index + self.sent, self._batch)
        self._is_refused = False
        self.sent += len(self._batch)
        self._batch = []
        self._batch_bytes = 0


_END = object()


def count_within(items: Iterator[Any], window: int) -> tuple[int | None, Iterator[Any]]:
    """Return how many items there are, if no more than the window, and an iterator over all of them."""
    head = list(itertools.islice(items, window + 1))
    return (len(head) if len(head) <= window else None), itertools.chain(head, items)
