"""Results of a map: pulls inputs as there is room, hands out outcomes in order or as they come.

Everything happens in the caller's thread and only inside `next()`: inputs are pulled, tasks sent, the job's
stream read. The stream is the back-pressure towards the pool, the window the one towards the inputs: never
are more than `window` inputs pulled that were not yet handed out as results.

What happens to the job when the loop does not run to its end:

    TaskFailed with on_error="raise"        the job is cancelled: nothing more is spent
    the loop is left in good order          `close()` (or `with`) cancels it
    Ctrl-C, or any other exception          the job goes on; a note on the exception says how to resume
    Ctrl-C with on_interrupt="cancel"       the job is cancelled
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self, TypeAlias, get_args

from chargepool._errors import ChargepoolError, InputRefused, JobClosed, TaskFailed
from chargepool._feed import TaskFeed
from chargepool._job import Job, progress_of
from chargepool._outcomes import cancelled
from chargepool._session import News, Session
from chargepool._values import JobStatus, ProgressCallback, Result
from pool_protocol.v1 import market_service_pb2

OnError: TypeAlias = Literal["raise", "return", "skip"]
OnInterrupt: TypeAlias = Literal["leave", "cancel"]

#: Room is refilled when this share of the window is free, so that batches are worth sending.
_REFILL_SHARE = 4


class Results(Iterator[Result]):
    """An iterator over a job's results. Also a context manager that cancels the job when it is left early."""

    def __init__(
        self,
        session: Session,
        *,
        job: Job | None,
        feed: TaskFeed | None,
        window: int,
        tasks_total: int | None,
        ordered: bool,
        on_error: OnError,
        on_interrupt: OnInterrupt,
        progress: ProgressCallback | None,
    ) -> None:
        """Made by `Client.map`. Without job and feed it is empty."""
        self._session = session
        self._job = job
        self._feed = feed
        self._window = window
        self._refill = max(1, window // _REFILL_SHARE)
        self._tasks_total = tasks_total
        self._ordered = ordered
        self._on_error = on_error
        self._on_interrupt = on_interrupt
        self._progress = progress
        self._news: Iterator[News] | None = None
        self._outcomes: dict[int, market_service_pb2.TaskResult] = {}
        self._arrived: deque[int] = deque()
        self._seen_indexes: set[int] = set()
        self._handed_out = 0
        self._status: JobStatus | None = None
        self._is_closed_in_pool = False
        self._is_over_in_pool = False
        self._is_finished = job is None
        self.skipped = 0
        """Failed tasks that on_error="skip" left out."""

    @property
    def job(self) -> Job:
        """The job behind this map.

        Raises:
            ChargepoolError: There is none, because there were no inputs.
        """
        if self._job is None:
            raise ChargepoolError("There were no inputs, so there is no job.", next_step="Pass inputs.")
        return self._job

    @property
    def is_finished(self) -> bool:
        """True when nothing more will come."""
        return self._is_finished

    def __next__(self) -> Result:
        if self._is_finished or self._job is None or self._feed is None:
            raise StopIteration
        try:
            return self._advance(self._job, self._feed)
        except StopIteration:
            self._finish()
            raise
        except TaskFailed as error:
            self._cancel_noting(error)
            raise
        except KeyboardInterrupt as interrupt:
            if self._on_interrupt == "cancel":
                self._cancel_noting(interrupt)
            else:
                self.leave(interrupt)
            raise
        except BaseException as error:
            self.leave(error)
            raise

    def _advance(self, job: Job, feed: TaskFeed) -> Result:
        while True:
            room = self._window - (feed.pulled - self._handed_out)
            if not feed.exhausted and (room >= self._refill or feed.pulled == self._handed_out):
                self._fill(feed, room)
            outcome = self._take()
            if outcome is not None:
                result = job.reader.read(outcome)
                self._handed_out += 1
                if result.error is None or self._on_error == "return":
                    return result
                if self._on_error == "raise":
                    raise result.error
                self.skipped += 1
            elif feed.exhausted and self._handed_out >= feed.pulled:
                raise StopIteration
            elif self._is_over_in_pool:
                self._handed_out += 1
                error = cancelled(job.id, self._missing_index(feed))
                if self._on_error == "raise":
                    raise error
                if self._on_error == "return":
                    return Result(
                        index=int(error.context["index"]),
                        cost_micros=0,
                        attempts=0,
                        output_digest=b"",
                        error=error,
                    )
                self.skipped += 1
            else:
                self._listen(job, feed)

    def _fill(self, feed: TaskFeed, room: int) -> None:
        try:
            feed.fill(room)
        except JobClosed:
            feed.stop()  # cancelled or closed from elsewhere; the stream says what became of each task
        if feed.exhausted and not self._is_closed_in_pool:
            self._is_closed_in_pool = True
            self._session.close_job(self.job.id)

    def _listen(self, job: Job, feed: TaskFeed) -> None:
        if self._news is None:
            self._news = self._session.watch(job.id)
        news = next(self._news, None)
        if news is None:
            self._is_over_in_pool = True
            return
        for task in news.decided:
            if task.index not in self._seen_indexes:
                self._seen_indexes.add(task.index)
                self._outcomes[task.index] = task
                self._arrived.append(task.index)
            elif task.index in self._outcomes:
                self._outcomes[task.index] = task  # replaced by a check before it was handed out
        self._report(news.status, feed)

    def _take(self) -> market_service_pb2.TaskResult | None:
        if self._ordered:
            return self._outcomes.pop(self._handed_out, None)
        while self._arrived:
            outcome = self._outcomes.pop(self._arrived.popleft(), None)
            if outcome is not None:
                return outcome
        return None

    def _missing_index(self, feed: TaskFeed) -> int:
        """Return an index that the pool never decided, and take note that it was handed out."""
        if self._ordered:
            return self._handed_out - 1
        index = next(index for index in range(feed.pulled) if index not in self._seen_indexes)
        self._seen_indexes.add(index)
        return index

    def _report(self, status: JobStatus, feed: TaskFeed) -> None:
        self._status = status
        if self._progress is None:
            return
        shown = progress_of(status, currency=self.job.currency, sent=feed.sent, is_complete=feed.exhausted)
        if shown.tasks_total is None and self._tasks_total is not None:
            shown = replace(shown, tasks_total=self._tasks_total)
        self._progress(shown)

    # --- ends -----------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop the job now: undecided tasks cost nothing. Results handed out so far stay valid."""
        if self._is_finished or self._job is None:
            return
        self._finish()
        self._job.cancel()

    def close(self) -> None:
        """End the iteration; a job that is not over is cancelled, so that it spends nothing unseen."""
        self.cancel()

    def leave(self, error: BaseException | None = None) -> None:
        """End the iteration and let the job go on; `error` gets a note that says how to come back."""
        if self._is_finished or self._job is None:
            return
        self._finish()
        if error is not None:
            error.add_note(resume_note(self._job.id))

    def _cancel_noting(self, error: BaseException) -> None:
        job = self.job
        try:
            self.cancel()
        except ChargepoolError as failure:
            error.add_note(
                f"{job.id} could not be cancelled ({failure}). Run: chargepool job cancel {job.id}"
            )
        else:
            error.add_note(
                f"{job.id} was cancelled: nothing more is spent. "
                f"Its results so far: chargepool job results {job.id}"
            )

    def _finish(self) -> None:
        self._is_finished = True
        close = getattr(self._news, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            self.close()
        elif isinstance(exc, KeyboardInterrupt) and self._on_interrupt == "cancel" and not self._is_finished:
            self._cancel_noting(exc)
        else:
            self.leave(exc)


def resume_note(job_id: str) -> str:
    """Return what a person must know about a job that goes on without its script."""
    return (
        f"{job_id} goes on in the pool. Come back to it: chargepool job resume {job_id}, or "
        f"client.map(..., resume={job_id!r}); stop it: chargepool job cancel {job_id}"
    )


def check_choices(on_error: str, on_interrupt: str, *, window: int, batch_size: int) -> None:
    """Refuse words that `Client.map` does not know.

    Raises:
        InputRefused: One of them is not valid.
    """
    if on_error not in get_args(OnError):
        raise InputRefused(f'on_error is "raise", "return" or "skip", not {on_error!r}.')
    if on_interrupt not in get_args(OnInterrupt):
        raise InputRefused(f'on_interrupt is "leave" or "cancel", not {on_interrupt!r}.')
    if window < 1 or batch_size < 1:
        raise InputRefused("window and batch_size are at least 1.")
