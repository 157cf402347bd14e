"""The buyer's door to a pool: programs, quotes, map, jobs, balance."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from chargepool._admission import Admitter
from chargepool._comparators import ComparatorLike, as_comparator
from chargepool._errors import InputRefused
from chargepool._feed import count_within
from chargepool._job import Job
from chargepool._log import PoolLog
from chargepool._map import OnError, OnInterrupt, Results, check_choices, resume_note
from chargepool._opening import JobOptions, JobWords, Opener
from chargepool._prices import MarketPrice, PriceEpoch
from chargepool._program import Program
from chargepool._progress import progress_callback
from chargepool._receipts import Receipt
from chargepool._records import Records
from chargepool._session import Session
from chargepool._values import Balance, JobStatus, Level, ProgressCallback, Quote
from pool_protocol.system import IdSource

if TYPE_CHECKING:
    from chargepool._admission import CertificateLike
    from chargepool._executor import Executor

DEFAULT_WINDOW = 2_048
DEFAULT_BATCH_SIZE = 256


class Client:
    """A connection to one pool. Use it as a context manager; safe to share between threads."""

    def __init__(
        self, session: Session, *, records: Records, verify_receipts: bool, id_source: IdSource
    ) -> None:
        """Made by `connect`."""
        self._session = session
        self._records = records
        self._admitter = Admitter(session, records)
        certify = self._admitter.certify
        self._opener = Opener(
            session, records=records, id_source=id_source, verify_receipts=verify_receipts, certify=certify
        )
        self._running_maps: list[Results] = []
        self._executors: weakref.WeakSet[Executor] = weakref.WeakSet()

    @property
    def pool_id(self) -> str:
        """The pool's id, out of its signed root."""
        return self._session.trust.pool_id

    @property
    def log(self) -> PoolLog:
        """The pool's log of receipts and its statements of solvency."""
        return PoolLog(
            self._session.log_call,
            trust=self._session.trust,
            clock=self._session.clock,
            directory=self._records.directory,
        )

    # --- programs -----------------------------------------------------------------------------

    def program(
        self,
        fn: Callable[..., Any],
        example: Any,
        *,
        constants: Any = None,
        comparator: ComparatorLike = "exact",
        lapack: bool = False,
    ) -> Program:
        """Export a function and have the pool admit it. Costs nothing.

        Args:
            fn: `fn(inputs)`, or `fn(constants, inputs)` when constants are given; pure, of arrays in plain
                dicts, lists and tuples.
            example: One task's inputs; only structure, shapes and element types are read.
            constants: Arrays that all tasks share, sent once: weights, tables.
            comparator: "exact", `chargepool.close(rtol=..., atol=...)`, `ulp(n)`, `unordered()`, or a dict of
                these by output name. Or "measured": what `Program.check_numerics` found on this machine, and
                where it was not called yet, what it finds now, on the example (not for step programs).
            lapack: Allow the linear algebra that JAX does through LAPACK.

        Raises:
            ProgramRefused: The function cannot be a program; `code` says by which rule.
        """
        return self._admitter.map_program(fn, example, constants, as_comparator(comparator), lapack=lapack)

    def step_program(
        self,
        step: Callable[[Any, Any, Any], Any],
        state: Any,
        inputs: Any = None,
        constants: Any = None,
        *,
        unit_steps: int,
        comparator: ComparatorLike = "exact",
        lapack: bool = False,
    ) -> Program:
        """Export `state = step(state, inputs, constants)` as a program whose tasks make many steps.

        Args:
            step: One step; returns a state of the structure and types that it takes.
            state: An example of a task's first state.
            inputs: An example of what one task reads in every step, or None.
            constants: What all tasks share, or None.
            unit_steps: Steps between two checkpoints; one to ten seconds of work.
            comparator: As in `program`.
            lapack: As in `program`.

        Raises:
            ProgramRefused: As in `program`.
        """
        chosen = as_comparator(comparator)
        return self._admitter.step_program(
            step, state, inputs, constants, chosen, unit_steps=unit_steps, lapack=lapack
        )

    # --- money --------------------------------------------------------------------------------

    def quote(
        self,
        program: Program | Callable[..., Any],
        tasks: int,
        *,
        level: Level = "standard",
        steps: int | None = None,
        example: Any = None,
        constants: Any = None,
        comparator: ComparatorLike = "exact",
        certified: bool = False,
    ) -> Quote:
        """Ask what a job would cost. Spends nothing; the offer binds the pool until it expires.

        Args:
            program: A program, or a function together with `example` (and `constants`).
            tasks: How many tasks.
            level: How much verification.
            steps: Steps per task, for step programs.
            example: One task's inputs, when `program` is a function.
            constants: As in `program`.
            comparator: As in `program`.
            certified: Whether the job will bring a certificate.
        """
        if tasks < 1:
            raise InputRefused(f"A quote is for at least one task, not {tasks}.")
        if not isinstance(program, Program):
            if example is None:
                raise InputRefused(
                    "A quote for a function needs an example of one task's inputs.",
                    next_step="Pass example=..., or make the program first with client.program(fn, example).",
                )
            program = self.program(program, example, constants=constants, comparator=comparator)
        steps = program.checked_steps(steps)
        return self._session.quote(
            program_sha256=program.program_id, tasks=tasks, level=level, steps=steps, certified=certified
        )

    def balance(self) -> Balance:
        """Return your money in this pool."""
        return self._session.balance()

    def price(self) -> MarketPrice:
        """Return what a work unit costs now."""
        return self._session.price()

    def price_history(self) -> Iterator[PriceEpoch]:
        """Yield the auctions that moved the price, newest first."""
        return self._session.price_epochs()

    # --- work ---------------------------------------------------------------------------------

    def map(
        self,
        program: Program | Callable[..., Any],
        inputs: Iterable[Any],
        *,
        constants: Any = None,
        comparator: ComparatorLike = "exact",
        level: Level = "standard",
        steps: int | None = None,
        tasks: int | None = None,
        quote: Quote | None = None,
        price_cap_micros_per_wu: int | None = None,
        price_start_micros_per_wu: int | None = None,
        wait_for_price: bool = False,
        budget_micros: int | None = None,
        donated: bool = False,
        ordered: bool = True,
        on_error: OnError = "raise",
        on_interrupt: OnInterrupt = "leave",
        window: int = DEFAULT_WINDOW,
        batch_size: int = DEFAULT_BATCH_SIZE,
        progress: bool | ProgressCallback | None = None,
        deadline_s: float | None = None,
        attempts_max: int = 0,
        name: str | None = None,
        certificate: "CertificateLike | None" = None,
        resume: str | None = None,
    ) -> Results:
        """Compute a function of every input on the pool's cars; iterate over verified results.

        Everything that can be refused is refused here, before money is reserved. Inputs are pulled while you
        iterate, and never more than `window` ahead of the results that you took.

        Args:
            program: A program, or a function (exported with the first input as the example).
            inputs: One item per task; `(state, inputs)` for step programs. May be lazy.
            constants: As in `program`; only with a function.
            comparator: As in `program`; only with a function.
            level: How much verification: the share of wrong results that may be accepted.
            steps: Steps per task, for step programs.
            tasks: At most so many inputs will come; needed for inputs without a len(), unless there is a
                budget or they are no more than `window`.
            quote: Pay the price of this quote.
            price_cap_micros_per_wu: Pay the posted price at each lease, never more than this.
            price_start_micros_per_wu: With a cap and a deadline: bid this while there is time, and more, up
                to the cap, as the deadline comes near. Paid is the posted price, once the bid reaches it.
            wait_for_price: Open the job even while the price is above its cap; it waits for a lower one.
            budget_micros: The most that the job may spend, reserved at once and never exceeded. Left out: the
                quoted total and a margin of a quarter (at least four tasks) for retries; what is not spent
                comes back.
            donated: Ask owners to compute for nothing.
            ordered: Results in the order of the inputs; False: as they are decided.
            on_error: For a task that failed for good: "raise" (and cancel the job), "return" a result without
                value, or "skip" it.
            on_interrupt: What Ctrl-C does to the job: "leave" it running (a note says how to come back), or
                "cancel".
            window: Inputs pulled ahead of results, at most.
            batch_size: Inputs per message to the pool.
            progress: True for a line on the terminal, or a callback.
            deadline_s: Undecided tasks are cancelled after so many seconds.
            attempts_max: Attempts that may fail before a task fails; 0 for the pool's default.
            name: The job's name in lists; the function's when left out.
            certificate: One of `chargepool.certificates`, or your own `verify(inputs, outputs, nonce)`: the
                pool runs it over each result, which is proved at once. For map programs.
            resume: Id of a job that an earlier run of the same map made: its results are handed out from the
                first on, and only inputs that it lacks are sent.

        Raises:
            ProgramRefused: The function cannot be a program. Nothing was spent.
            InputRefused: An argument, or the first input, is not valid. Nothing was spent.
            FundsError: Budget or account do not cover the inputs. Nothing was spent.
            QuoteExpired: The quote given has expired. Nothing was spent.
            PriceAboveCap: The price is above the cap, and the job is not to wait. Nothing was spent.
        """
        options = JobOptions(
            level=level,
            steps=steps,
            quote=quote,
            price_cap_micros_per_wu=price_cap_micros_per_wu,
            price_start_micros_per_wu=price_start_micros_per_wu,
            wait_for_price=wait_for_price,
            budget_micros=budget_micros,
            donated=donated,
            deadline_s=deadline_s,
            attempts_max=attempts_max,
            name=name,
            certificate=certificate,
        )
        check_choices(on_error, on_interrupt, window=window, batch_size=batch_size)
        known_count = len(inputs) if isinstance(inputs, Sized) else tasks
        ready, items = self._admitter.with_first(program, inputs, constants, as_comparator(comparator))
        already_sent = 0
        if ready is None:
            job: Job | None = None
        elif resume is not None:
            job = self._opener.find(resume, ready)
            already_sent = job.status().task_count
        else:
            if known_count is None and budget_micros is None and quote is None:
                known_count, items = count_within(items, window)
            job, _ = self._opener.open(ready, options, tasks=known_count)
        feed = None if job is None else job.feed(items, batch_size=batch_size, already_sent=already_sent)
        results = Results(
            self._session,
            job=job,
            feed=feed,
            window=window,
            tasks_total=known_count,
            ordered=ordered,
            on_error=on_error,
            on_interrupt=on_interrupt,
            progress=progress_callback(progress),
        )
        self._running_maps = [*(known for known in self._running_maps if not known.is_finished), results]
        return results

    def submit_job(
        self,
        program: Program | Callable[..., Any],
        inputs: Iterable[Any] = (),
        *,
        constants: Any = None,
        comparator: ComparatorLike = "exact",
        tasks: int | None = None,
        close: bool = True,
        **words: Unpack[JobWords],
    ) -> Job:
        """Open a job, send all inputs, and return its handle without waiting for results.

        Args:
            program: A program, or a function (exported with the first input as the example).
            inputs: One item per task; read to the end.
            constants: As in `program`; only with a function.
            comparator: As in `program`; only with a function.
            tasks: For at most so many tasks money is reserved; the number of inputs when left out.
            close: False leaves the job open for `Job.add`; say then `tasks` or `budget_micros`.
            **words: level, steps, quote, price_cap_micros_per_wu, price_start_micros_per_wu, wait_for_price,
                budget_micros, donated, deadline_s,
                attempts_max, name and certificate, as in `map`.

        Raises:
            ChargepoolError: As `map`.
        """
        options = JobOptions(**words)
        known_count = tasks if tasks is not None else (len(inputs) if isinstance(inputs, Sized) else None)
        ready, items = self._admitter.with_first(program, inputs, constants, as_comparator(comparator))
        if ready is None:
            if not isinstance(program, Program):
                raise InputRefused(
                    "A job without inputs needs a program.",
                    next_step="Make it with client.program(fn, example).",
                )
            ready = program
        job, _ = self._opener.open(ready, options, tasks=known_count or None)
        try:
            job.add(items, first_index=0)
            if close:
                job.close()
        except BaseException as error:
            error.add_note(resume_note(job.id))
            raise
        return job

    def job(self, job_id: str, *, program: Program | None = None) -> Job:
        """Return a handle of a job by its id, also one that another script made.

        Args:
            job_id: For example "job_12".
            program: Its program; needed for structured values and for adding tasks when this machine has not
                made the job.

        Raises:
            JobNotFound: There is no such job of yours.
        """
        return self._opener.find(job_id, program)

    def jobs(self) -> Iterator[JobStatus]:
        """Yield your jobs, newest first."""
        return self._session.list_jobs()

    def verify_receipt(self, proven_receipt: bytes) -> Receipt:
        """Return a receipt out of `Receipt.proven_bytes`, wherever they were kept, after checking its proof.

        Raises:
            ProofInvalid: It is not a receipt of this pool.
        """
        return self._session.trust.verify_bytes(proven_receipt)

    def remember(self, job_id: str, facts: Mapping[str, Any]) -> None:
        """Keep facts about a job on this machine, for whoever takes it up again; best effort."""
        self._records.remember_job(self.pool_id, job_id, facts)

    def remembered(self, job_id: str) -> dict[str, Any]:
        """Return what this machine remembers of a job; empty when nothing is."""
        return self._records.job(self.pool_id, job_id)

    def executor(
        self,
        *,
        tasks: int = 1_000,
        constants: Any = None,
        comparator: ComparatorLike = "exact",
        window: int = DEFAULT_WINDOW,
        **words: Unpack[JobWords],
    ) -> "Executor":
        """Return a `concurrent.futures.Executor` on this pool; one job per program.

        Args:
            tasks: For how many tasks of each program money is reserved; submitting more is refused.
            constants: As in `program`; every function that is submitted gets them first.
            comparator: As in `program`.
            window: Tasks in the pool at a time, at most; the others wait here and can be cancelled.
            **words: Options of each program's job, as in `submit_job`.
        """
        from chargepool._executor import Executor

        check_choices("raise", "leave", window=window, batch_size=1)
        executor = Executor(
            self,
            self._session,
            self._opener,
            options=JobOptions(**words),
            tasks=tasks,
            constants=constants,
            comparator=as_comparator(comparator),
            window=window,
        )
        self._executors.add(executor)
        return executor

    # --- ends -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Disconnect. Executors finish their futures first; maps that were left early are cancelled.

        When a `with` block ends by an exception, executors are cancelled and maps go on in the pool.
        """
        self._end(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(exc)

    def _end(self, exc: BaseException | None) -> None:
        try:
            for results in self._running_maps:
                results.__exit__(None if exc is None else type(exc), exc, None)
            for executor in list(self._executors):
                executor.shutdown() if exc is None else executor.cancel_noting(exc)
        finally:
            self._session.close()
