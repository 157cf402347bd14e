"""A job by its id: how it stands, its results, more tasks, its end. It outlives the script that made it."""

from collections.abc import Iterable, Iterator
from typing import Any

from chargepool._errors import InputRefused, JobError
from chargepool._feed import TaskFeed
from chargepool._outcomes import OutcomeReader
from chargepool._program import Program
from chargepool._session import Session
from chargepool._values import JobStatus, Progress, ProgressCallback, Result
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import market_service_pb2

_BATCH_SIZE = 256
#: Indexes in one GetResults.
RESULTS_PER_CALL_MAX = 1_000


class Job:
    """A handle. It holds no state of its own but the id, so any number of them may exist for one job."""

    def __init__(
        self,
        session: Session,
        job_id: str,
        *,
        program: Program | None,
        program_id: str,
        currency: str,
        verifies: bool = True,
    ) -> None:
        """Made by `Client.submit_job` and `Client.job`."""
        self._session = session
        self.id = job_id
        """The job's id, for example "job_12": all that must be kept to find it again."""
        self.program = program
        """The program, or None when this machine has not seen it; values are then named arrays."""
        self.currency = currency
        self.reader = OutcomeReader(
            session,
            job_id=job_id,
            program_sha256=program_id,
            decode=dict if program is None else program.decode,
            verifies=verifies,
        )

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> JobStatus:
        """Ask the pool how the job stands."""
        return self._session.get_job(self.id)

    def add(self, items: Iterable[Any], *, first_index: int | None = None) -> int:
        """Add tasks; returns how many the job holds then.

        Adding the same inputs at the same index again changes nothing, so a script that died between two
        batches may simply add its last batch once more.

        Args:
            items: Inputs as `map` takes them; read to the end.
            first_index: Index of the first; after the last one when left out.

        Raises:
            InputRefused: An input does not fit the program, or another input stands at its index.
            JobClosed: The job takes no more tasks.
        """
        feed = self.feed(items, first_index=self.status().task_count if first_index is None else first_index)
        while not feed.exhausted:
            feed.fill(_BATCH_SIZE)
        return self.status().task_count

    def feed(
        self,
        items: Iterable[Any],
        *,
        batch_size: int = _BATCH_SIZE,
        first_index: int = 0,
        already_sent: int = 0,
    ) -> TaskFeed:
        """Return the way of inputs into this job, with nothing pulled yet; arguments as in `TaskFeed`."""
        if self.program is None:
            raise InputRefused(
                f"The program of {self.id} is not known on this machine, so inputs cannot be checked.",
                next_step="Pass it: client.job(job_id, program=client.program(fn, example)).",
            )
        return TaskFeed(
            self._session,
            job_id=self.id,
            program=self.program,
            items=items,
            batch_size=batch_size,
            first_index=first_index,
            already_sent=already_sent,
        )

    def close(self) -> JobStatus:
        """Say that no more tasks will come: the job ends when all are decided, and its money is freed."""
        return self._session.close_job(self.id)

    def cancel(self) -> JobStatus:
        """Stop the job now. Undecided tasks cost nothing; results so far stay readable."""
        return self._session.cancel_job(self.id)

    def wait(self, progress: ProgressCallback | None = None) -> JobStatus:
        """Wait until the job is over and return its last figures.

        Raises:
            JobError: The job is open and everything in it is decided, so it would never end; close it first.
        """
        status = self.status()
        for news in self._session.watch(self.id, include_results=False):
            status = news.status
            if progress is not None:
                progress(
                    progress_of(status, currency=self.currency, sent=status.task_count, is_complete=True)
                )
            if status.state == "open" and status.decided_count >= status.task_count:
                raise JobError(
                    f"{self.id} has decided all its {status.task_count} tasks and is still open for more.",
                    next_step="Call close() first, or add tasks.",
                )
        return status

    def results(self, *, after: int = 0) -> "JobResults":
        """Return an iterator over what is decided, in order of decision, until the job is over.

        A task whose result proves wrong later comes again, with `Result.replaced_count` above 0: the newest
        result of an index is the one that counts.

        Args:
            after: A cursor (`JobResults.cursor`) up to which results were handled before.
        """
        return JobResults(self._session, self, after=after)

    def result(self, index: int) -> Result:
        """Return one task's result.

        Raises:
            JobError: The task is not decided yet.
        """
        (task,) = self._session.get_results(self.id, [index])
        if task.state == market_service_pb2.TASK_STATE_OPEN:
            raise JobError(
                f"Task {index} of {self.id} is not decided yet.",
                code=ErrorCode.INVALID_STATE,
                next_step="Wait for it with results(), or look at status().",
            )
        return self.reader.read(task)


class JobResults(Iterator[Result]):
    """Results in order of decision. Failed tasks come too; look at `Result.ok`."""

    def __init__(self, session: Session, job: Job, *, after: int) -> None:
        """Made by `Job.results`."""
        self._job = job
        self._news = session.watch(job.id, after_cursor=after)
        self._ready: list[market_service_pb2.TaskResult] = []
        self._next_cursor = after
        self.cursor = after
        """Everything up to here was handed out. Keep it, and `results(after=cursor)` goes on from there."""

    def __next__(self) -> Result:
        while not self._ready:
            self.cursor = self._next_cursor
            news = next(self._news)
            self._ready = list(reversed(news.decided))
            self._next_cursor = news.cursor
        result = self._job.reader.read(self._ready[-1])
        self._ready.pop()
        return result

    def close(self) -> None:
        """End the stream; the job goes on."""
        close = getattr(self._news, "close", None)
        if close is not None:
            close()


def progress_of(status: JobStatus, *, currency: str, sent: int, is_complete: bool) -> Progress:
    """Return the progress that a job's figures show."""
    return Progress(
        job_id=status.job_id,
        tasks_total=status.task_count if is_complete else None,
        tasks_sent=sent,
        tasks_accepted=status.accepted_count,
        tasks_failed=status.failed_count,
        tasks_running=status.running_count,
        rejected_count=status.rejected_count,
        spent_micros=status.spent_micros,
        currency=currency,
        is_over=status.is_over,
        waiting=status.waiting,
    )
