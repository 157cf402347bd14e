"""Opening a job: the last step before money is reserved, and the first that reserves it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from chargepool._errors import InputRefused
from chargepool._job import Job
from chargepool._numerics import NumericsWarning
from chargepool._program import Program
from chargepool._records import Records
from chargepool._session import JobTerms, Session
from chargepool._terms import Price, Wishes, settle_price
from chargepool._values import LEVELS, Level, Quote
from pool_protocol.clock import MICROSECONDS_PER_SECOND
from pool_protocol.limits import ATTEMPTS_PER_TASK_MAX, NAME_CHARACTERS_MAX
from pool_protocol.system import IdSource

if TYPE_CHECKING:
    from chargepool._admission import CertificateLike

_KEY_BYTES = 16


class JobWords(TypedDict, total=False):
    """The same words as keyword arguments; a type checker knows them one by one."""

    level: Level
    steps: int | None
    quote: Quote | None
    price_cap_micros_per_wu: int | None
    price_start_micros_per_wu: int | None
    wait_for_price: bool
    budget_micros: int | None
    donated: bool
    deadline_s: float | None
    attempts_max: int
    name: str | None
    certificate: "CertificateLike | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a buyer may say about a job besides its program and inputs; see `Client.map`."""

    level: str = "standard"
    steps: int | None = None
    quote: Quote | None = None
    price_cap_micros_per_wu: int | None = None
    price_start_micros_per_wu: int | None = None
    wait_for_price: bool = False
    budget_micros: int | None = None
    donated: bool = False
    deadline_s: float | None = None
    attempts_max: int = 0
    name: str | None = None
    certificate: "CertificateLike | None" = None

    def __post_init__(self) -> None:
        """Refuse what no pool would take."""
        if self.level not in LEVELS:
            raise InputRefused(
                f"There is no verification level {self.level!r}.",
                next_step=f"Choose one of {', '.join(LEVELS)}.",
            )
        if self.deadline_s is not None and self.deadline_s <= 0:
            raise InputRefused(f"A deadline of {self.deadline_s} s has passed already.")
        if not 0 <= self.attempts_max <= ATTEMPTS_PER_TASK_MAX:
            raise InputRefused(f"attempts_max is 0 to {ATTEMPTS_PER_TASK_MAX}, not {self.attempts_max}.")
        if self.name is not None and len(self.name) > NAME_CHARACTERS_MAX:
            raise InputRefused(f"A job's name has at most {NAME_CHARACTERS_MAX} characters.")


class Opener:
    """Opens jobs of one client."""

    def __init__(
        self,
        session: Session,
        *,
        records: Records,
        id_source: IdSource,
        verify_receipts: bool,
        certify: "Callable[[Program, CertificateLike], str]",
    ) -> None:
        """Take what every job of a client shares."""
        self._session = session
        self._records = records
        self._id_source = id_source
        self._verifies = verify_receipts
        self._certify = certify

    def open(self, program: Program, options: JobOptions, *, tasks: int | None) -> tuple[Job, Price]:
        """Settle the price, reserve the budget and return the open job.

        Args:
            program: What the job computes.
            options: The buyer's words.
            tasks: How many tasks there will be at most, when somebody knows.

        Raises:
            ChargepoolError: What `settle_price` raises, before anything is reserved; what CreateJob raises.
        """
        session = self._session
        steps = program.checked_steps(options.steps)
        certificate_sha256 = ""
        if options.certificate is not None:
            certificate_sha256 = self._certify(program, options.certificate)
        _warn_of_numerics(program, options, steps=steps)
        price = settle_price(
            session,
            program_sha256=program.program_id,
            wishes=Wishes(
                tasks=tasks,
                level=options.level,
                steps=steps,
                quote=options.quote,
                price_cap_micros_per_wu=options.price_cap_micros_per_wu,
                price_start_micros_per_wu=options.price_start_micros_per_wu,
                has_deadline=options.deadline_s is not None,
                waits_for_price=options.wait_for_price,
                budget_micros=options.budget_micros,
                donated=options.donated,
                certified=options.certificate is not None,
            ),
        )
        deadline_us = 0
        if options.deadline_s is not None:
            deadline_us = session.clock.now_us() + int(options.deadline_s * MICROSECONDS_PER_SECOND)
        job_id = session.create_job(
            JobTerms(
                idempotency_key=self._id_source.random_bytes(_KEY_BYTES).hex(),
                program_sha256=program.program_id,
                constants=program.constants,
                price_mode=price.mode,
                quote_id=price.quote_id,
                price_cap_micros_per_wu=price.price_cap_micros_per_wu,
                price_start_micros_per_wu=price.price_start_micros_per_wu,
                refuses_price_above_cap=not options.wait_for_price,
                budget_micros=price.budget_micros,
                level=options.level,
                comparator=program.comparator.to_wire(),
                deadline_us=deadline_us,
                name=(options.name or program.name)[:NAME_CHARACTERS_MAX],
                steps=steps,
                attempts_max=options.attempts_max,
                certificate_sha256=certificate_sha256,
            )
        )
        self._records.remember_job(
            session.trust.pool_id,
            job_id,
            {"program_id": program.program_id, "name": options.name or program.name},
        )
        return self.handle(job_id, program, currency=price.quote.currency), price

    def handle(self, job_id: str, program: Program, *, currency: str) -> Job:
        """Return a handle of a job whose program is known."""
        return Job(
            self._session,
            job_id,
            program=program,
            program_id=program.program_id,
            currency=currency,
            verifies=self._verifies,
        )

    def find(self, job_id: str, program: Program | None) -> Job:
        """Return a handle of a job by its id, with its program when this machine knows it.

        Raises:
            JobNotFound: There is no such job of this buyer.
            InputRefused: The program given is not the job's.
        """
        status = self._session.get_job(job_id)
        if program is not None and program.program_id != status.program_sha256:
            raise InputRefused(
                f"{job_id} runs program {status.program_sha256[:12]}, not {program.program_id[:12]}.",
                next_step="Pass the function and constants that the job was made with, unchanged.",
            )
        return Job(
            self._session,
            job_id,
            program=program or self._records.program(status.program_sha256),
            program_id=status.program_sha256,
            currency=self._session.balance().currency,
            verifies=self._verifies,
        )


def numerics_objection(program: Program, *, level: str, steps: int, certified: bool) -> str | None:
    """Say why results of a job will not agree, as far as a check of its program's numerics has shown.

    Results that a certificate proves, or that nobody checks, are not compared.

    Args:
        program: What the job computes.
        level: How much verification.
        steps: Of one task; 0 for map programs.
        certified: Whether the job brings a certificate.
    """
    report = None if certified or level == "none" else program.numerics
    if report is None:
        return None
    objection = report.objection(program.comparator)
    if objection is None and steps > report.steps and not program.comparator.is_exact:
        return (
            f"{program.comparator} was checked on {report.steps} steps, and tasks make {steps}: what differs "
            "grows with the steps."
        )
    return objection


def _warn_of_numerics(program: Program, options: JobOptions, *, steps: int) -> None:
    objection = numerics_objection(
        program, level=options.level, steps=steps, certified=options.certificate is not None
    )
    if objection is not None:
        # Out of here, `open`, and the client's method: to the line that made the job.
        warnings.warn(f"{program.name}: {objection}", NumericsWarning, stacklevel=4)
