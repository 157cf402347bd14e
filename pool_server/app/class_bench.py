"""What a `TaskBoard` knows of numeric classes: who is compared, who must be heard, whose fault it was.

It loads what `core.verification.classes` decides from, applies its answers to the board, and writes what
tasks ask for, findings and class faults when the board is flushed. Fleets without probes cost it one query.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

from pool_protocol.digests import sha256
from pool_protocol.numeric import Family, comparable, families_of, parse_probe
from pool_protocol.program.manifest import parse_manifest
from pool_server.core.comparison import AgreementGroup, Candidate, agreement_groups
from pool_server.core.jobs import AttemptState
from pool_server.core.trust import class_history, exact_history
from pool_server.core.verification.audit import AuditDraw
from pool_server.core.verification.classes import (
    CLASS_FAULT_OWNERS,
    UNKNOWN_CLASS,
    Ask,
    ClassView,
    Scope,
    Weighed,
    entitled,
    may_check_itself,
    next_ask,
    weigh,
)
from pool_server.core.verification.findings import FindingKind
from pool_server.core.verification.verdict import Accept, Entitled, TaskStanding, Verdict, Wait
from pool_server.ports.classes import ClassAskRow, FaultFindingRow, VehicleClass
from pool_server.ports.fleet import WorkEvent
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.ports.work import JobRow

if TYPE_CHECKING:
    from pool_server.app.task_board import BoardAttempt, BoardTask, TaskBoard

#: Owners of a class counted: more make no difference to a verdict.
OWNERS_MAX: Final = 20_000
#: Keeps the second draw apart from the first.
_ACROSS: Final = b"across"
CLASS_FAULT: Final = "CLASS_FAULT"
ANOTHER_CLASS: Final = "ANOTHER_CLASS"


def is_exact(job: JobRow) -> bool:
    """Say whether a job's results are compared bit by bit, so that classes matter."""
    return job.comparator.compares_bits


def used_families(uow: UnitOfWork, program_sha256: str) -> frozenset[Family]:
    """Return the families that a program uses; all of them when nothing is known of it."""
    program = uow.programs.get(program_sha256)
    return frozenset(Family) if program is None else _families(program.manifest)


@lru_cache(maxsize=256)
def _families(manifest_json: bytes) -> frozenset[Family]:
    manifest = parse_manifest(manifest_json)
    arrays = [argument.tensor for argument in manifest.draft.arguments] + list(manifest.draft.output_types)
    return families_of(manifest.cost.operations, dtypes=[array.dtype for array in arrays])


class Comparability:
    """Which classes must return equal bits for one program."""

    def __init__(self, uow: UnitOfWork, program_sha256: str) -> None:
        """Load what is asked for, when it is."""
        self._uow = uow
        self._program_sha256 = program_sha256
        self._used: frozenset[Family] | None = None
        self._answers: dict[tuple[str, str], bool] = {}

    def __call__(self, one: str, other: str) -> bool:
        """Say it of two known classes; of one that no vehicle has any more only that it is like itself."""
        if one == other:
            return True
        answer = self._answers.get((one, other))
        if answer is None:
            answer = self._answers[one, other] = self._answers[other, one] = self._compare(one, other)
        return answer

    def _compare(self, one: str, other: str) -> bool:
        probes = [self._uow.classes.probe_json(name) for name in (one, other)]
        if self._used is None:
            self._used = used_families(self._uow, self._program_sha256)
        if self._used <= {Family.INTEGER}:
            return True
        return None not in probes and _alike(str(probes[0]), str(probes[1]), self._used)


@lru_cache(maxsize=1_024)
def _alike(one_json: str, other_json: str, used: frozenset[Family]) -> bool:
    return comparable(parse_probe(one_json), parse_probe(other_json), used)


class ClassBench:
    """See the module."""

    def __init__(self, board: "TaskBoard") -> None:
        """Serve one board."""
        self._board = board
        self._classes: dict[int, VehicleClass] = {}
        self._asks: dict[int, ClassAskRow | None] = {}
        self._changed: dict[int, ClassAskRow | None] = {}
        self._owners: dict[str, int] | None = None
        self._others: dict[tuple[str, str, str], bool] = {}
        self._faulty: dict[str, frozenset[str]] = {}
        self._findings: list[FaultFindingRow] = []
        self._alike: dict[str, Comparability] = {}
        self._large: dict[tuple[str, str], bool] = {}
        self._patience: dict[Ask, int] = {}
        self._exact: dict[int, bool] = {}
        self._alone: dict[tuple[str, frozenset[str]], bool] = {}

    # --- what the pool knows --------------------------------------------------------------------

    def _class_of(self, attempt: "BoardAttempt") -> VehicleClass:
        if attempt.row.attempt_id not in self._classes:
            missing = [number for number in self._board.attempts if number not in self._classes]
            self._classes.update(self._board.uow.classes.of_attempts(missing))
        return self._classes[attempt.row.attempt_id]

    def _ask(self, task: "BoardTask") -> ClassAskRow | None:
        task_id = task.row.task_id
        if task_id not in self._asks:
            missing = [number for number in self._board.tasks if number not in self._asks]
            found = self._board.uow.classes.asks(missing)
            self._asks.update((number, found.get(number)) for number in missing)
        return self._asks[task_id]

    def _faulty_classes(self, program_sha256: str) -> frozenset[str]:
        if program_sha256 not in self._faulty:
            self._faulty[program_sha256] = self._board.uow.classes.faulty_classes(program_sha256)
        return self._faulty[program_sha256]

    def _all_owners(self) -> dict[str, int]:
        if self._owners is None:
            self._owners = self._board.uow.classes.owners(at_most=OWNERS_MAX)
        return self._owners

    def _comparability(self, program_sha256: str) -> Comparability:
        if program_sha256 not in self._alike:
            self._alike[program_sha256] = Comparability(self._board.uow, program_sha256)
        return self._alike[program_sha256]

    def alike(self, attempt: "BoardAttempt", name: str) -> bool:
        """Say whether a vehicle is known to compute an attempt's program like another class."""
        mine = self._class_of(attempt).numeric_class
        return mine != UNKNOWN_CLASS and self._comparability(attempt.task.job.program_sha256)(mine, name)

    def vouches_for_itself(self, attempt: "BoardAttempt") -> bool:
        """Say whether an attempt's class is known, and so large that its vehicles hold each other to bits."""
        name = self._class_of(attempt).numeric_class
        return name != UNKNOWN_CLASS and self._may_check_itself(name, attempt.task.job.program_sha256)

    def may_be_at_fault(self, attempt: "BoardAttempt", referee_class: str) -> bool:
        """Say whether what a referee found wrong may be the fault of an attempt's class as a whole.

        Not where the referee computes alike; and somebody else of the class must be there to tell, unless its
        fault on the program is known.
        """
        name, program = self._class_of(attempt).numeric_class, attempt.task.job.program_sha256
        if name == UNKNOWN_CLASS or self.alike(attempt, referee_class):
            return False
        return name in self._faulty_classes(program) or self._all_owners().get(name, 0) >= CLASS_FAULT_OWNERS

    def _may_check_itself(self, name: str, program_sha256: str) -> bool:
        key = (name, program_sha256)
        if key not in self._large:
            self._large[key] = may_check_itself(
                name,
                self._all_owners(),
                alike=self._comparability(program_sha256),
                faulty_share=self._board.policy.class_rule.league_share,
            )
        return self._large[key]

    def _is_confirmed(self, name: str, job: JobRow) -> bool:
        key = class_history(name, job.program_sha256, job.level)
        return self._board.record_of(key).clean_uwu > 0

    def _is_exact(self, job: JobRow) -> bool:
        known = self._exact.get(job.job_id)
        if known is None:
            known = self._exact[job.job_id] = is_exact(job)
        return known

    def _are_alone(self, names: frozenset[str], program_sha256: str) -> bool:
        """Say whether no other class is at work that is not known to be wrong on a program."""
        key = (program_sha256, names)
        if key not in self._alone:
            others = self._all_owners().keys() - names - self._faulty_classes(program_sha256)
            self._alone[key] = not others - {UNKNOWN_CLASS}
        return self._alone[key]

    def view(self, task: "BoardTask", returned: Sequence["BoardAttempt"]) -> ClassView | None:
        """Return what is known of the classes of a task's results; None where no class is known."""
        found = {attempt.row.attempt_id: self._class_of(attempt) for attempt in returned}
        names = frozenset(item.numeric_class for item in found.values() if item.numeric_class)
        if not names:
            return None
        job, ask, exact = task.job, self._ask(task), self._is_exact(task.job)
        owners, faulty = self._all_owners(), self._faulty_classes(job.program_sha256)
        alone = exact or self._are_alone(names, job.program_sha256)
        return ClassView(
            exact=exact,
            per_unit=job.kind == "step" and not exact,
            refuted=self._board.unit_checks.refuted(task),
            class_of={number: item.numeric_class for number, item in found.items()},
            trusted=frozenset(number for number, item in found.items() if item.trusted),
            comparable=self._comparability(job.program_sha256),
            owners=owners,
            faulty_share=self._board.policy.class_rule.league_share,
            faulty=faulty,
            unconfirmed=frozenset()
            if alone
            else frozenset(n for n in names if not self._is_confirmed(n, job)),
            asked=None if ask is None else ask.ask,
            # Somebody who is at it already is waited for.
            lapsed=ask is not None
            and ask.until_us <= self._board.now_us
            and not task.in_state(AttemptState.LEASED),
        )

    # --- audits ---------------------------------------------------------------------------------

    def must_confirm(
        self, attempt: "BoardAttempt", *, epsilon: float, drawn: float, audited: bool, draws: AuditDraw
    ) -> bool:
        """Say whether another class must confirm a recorded result, and ask for it.

        Args:
            attempt: The result, just recorded.
            epsilon: The level's error target.
            drawn: The draw of the audit.
            audited: Whether the vehicle's own history asks for one by this draw.
            draws: For a second draw: which audits go to another class in any case.

        Returns:
            Whether the class itself asks for an audit; a share of the vehicle's audits goes across besides.
        """
        name, job, board = self._class_of(attempt).numeric_class, attempt.task.job, self._board
        if name == UNKNOWN_CLASS:
            return False
        ask = Ask(scope=Scope.ACROSS, numeric_class=name)
        if name in self._faulty_classes(job.program_sha256):
            self._put(attempt.task, ask)
            return True
        rule = board.policy.class_rule
        if self._is_exact(job):
            if not self._may_check_itself(name, job.program_sha256):
                self._put(attempt.task, ask)
            return False
        clean_uwu = board.record_of(class_history(name, job.program_sha256, job.level)).clean_uwu
        due = drawn < rule.probability(epsilon=epsilon, work_uwu=job.work_uwu_per_task, clean_uwu=clean_uwu)
        if not due:
            if not audited:
                return False
            digest = sha256(_ACROSS + attempt.digest)
            shared = draws.uniform(output_digest=digest, attempt_id=attempt.row.attempt_id)
            if shared >= rule.cross_class_share:
                return False
        if not self._has_other(name, attempt):
            return False
        self._put(attempt.task, ask)
        return due

    def _has_other(self, name: str, attempt: "BoardAttempt") -> bool:
        key = (name, attempt.row.owner_id, attempt.task.job.program_sha256)
        if key not in self._others:
            faulty = self._faulty_classes(key[2])
            self._others[key] = self._board.uow.classes.has_other(name, owner_id=key[1], but=faulty)
        return self._others[key]

    # --- verdicts -------------------------------------------------------------------------------

    def weigh(
        self,
        task: "BoardTask",
        verdict: Verdict,
        view: ClassView,
        standing: TaskStanding,
        by_id: dict[int, "BoardAttempt"],
    ) -> Verdict:
        """Return the verdict that holds in view of the classes, and note what the task asks for."""
        groups = agreement_groups(task.job.comparator, standing.returned, self._board.outputs_of)
        if isinstance(verdict, Wait):
            self._put(task, next_ask(groups, view))
            return verdict
        if not isinstance(verdict, Accept):
            self._put(task, None)
            return verdict
        weighed = weigh(verdict, groups, view)
        if weighed.witness:
            if standing.live_count:
                self._put(task, Ask(scope=Scope.WITHIN, numeric_class=weighed.witness))
                return Wait(0)
            if standing.attempt_count < standing.bounds.attempts_max:
                self._put(task, Ask(scope=Scope.WITHIN, numeric_class=weighed.witness))
                return Wait(1)
            weighed = _without_witness(weighed, verdict)
        self._put(task, None)
        self._settle(task, verdict, weighed, view, by_id)
        return Accept(verdict.group, weighed.rejected, verdict.unjudged)

    def _settle(
        self,
        task: "BoardTask",
        verdict: Accept,
        weighed: Weighed,
        view: ClassView,
        by_id: dict[int, "BoardAttempt"],
    ) -> None:
        """Take out what is wrong or different without blame, and note the class faults."""
        board, group = self._board, verdict.group
        # What lies between the tolerances agrees with somebody: the board turns it down.
        different = [candidate for candidate in weighed.unjudged if candidate not in verdict.unjudged]
        for candidate in (*different, *weighed.faults):
            attempt = by_id[candidate.attempt_id]
            # Without blame, but not without a trace: a check that fails ends a history, or a vehicle that
            # claims a class of its own could lie on it for ever.
            board.trust[board.trust_key(attempt)] = board.history(attempt).reset()
            if candidate in weighed.faults:
                attempt.move(AttemptState.DISCARDED, reason=CLASS_FAULT)
                self._findings.append(self._finding(attempt, group, view))
            else:
                attempt.move(AttemptState.DISCARDED, reason=ANOTHER_CLASS)
                if not view.exact:
                    continue
                key = exact_history(view.class_of[candidate.attempt_id], task.job.program_sha256)
                board.trust[key] = board.record_of(key).rejected()
        for name in {view.class_of[candidate.attempt_id] for candidate in weighed.faults}:
            program = task.job.program_sha256
            self._faulty[program] = self._faulty_classes(program) | {name}
            self._alone.clear()
            key = class_history(name, program, task.job.level)
            board.trust[key] = board.record_of(key).reset()
        if not view.exact:
            self._count_group(task, group, view)

    def _finding(self, attempt: "BoardAttempt", group: AgreementGroup, view: ClassView) -> FaultFindingRow:
        row = attempt.row
        return FaultFindingRow(
            attempt_id=row.attempt_id,
            task_id=row.task_id,
            job_id=row.job_id,
            task_index=row.task_index,
            vehicle_id=row.vehicle_id,
            owner_id=row.owner_id,
            claimed_digest=attempt.digest,
            accepted_digest=group.anchor.output_digest,
            agreeing_owners=group.owner_count(),
            trusted_node=any(member.attempt_id in view.trusted for member in group.members),
            numeric_class=view.class_of[row.attempt_id],
            program_sha256=attempt.task.job.program_sha256,
            kind=FindingKind.AUDIT if attempt.questioned is None else FindingKind.CLASS_FAULT,
            clawed_back_micros=0 if attempt.questioned is None else attempt.questioned.net_micros,
        )

    # --- histories of classes -------------------------------------------------------------------

    def _count_group(self, task: "BoardTask", group: AgreementGroup, view: ClassView) -> None:
        """Classes that confirmed each other, or were confirmed before, did clean work on this program."""
        names = view.classes(group) - {UNKNOWN_CLASS}
        confirmed = len(names) > 1 or any(member.attempt_id in view.trusted for member in group.members)
        for name in names:
            self._count(name, task.job, confirmed=confirmed or view.lapsed)

    def accepted_alone(self, attempt: "BoardAttempt") -> None:
        """Count a result that was accepted without a check."""
        if attempt.row.numeric_class and not self._is_exact(attempt.task.job):
            self._count(attempt.row.numeric_class, attempt.task.job, confirmed=False)

    def _count(self, name: str, job: JobRow, *, confirmed: bool) -> None:
        key = class_history(name, job.program_sha256, job.level)
        record = self._board.record_of(key)
        if confirmed or record.clean_uwu:
            self._board.trust[key] = record.accepted(job.work_uwu_per_task)

    # --- writing --------------------------------------------------------------------------------

    def _put(self, task: "BoardTask", ask: Ask | None) -> None:
        known = self._ask(task)
        if ask is None:
            if known is not None:
                self._asks[task.row.task_id] = self._changed[task.row.task_id] = None
            return
        now_us = self._board.now_us
        if known is not None and known.ask == ask and known.until_us > now_us:
            return
        row = ClassAskRow(task.row.task_id, ask, now_us + self._patience_us(ask))
        self._asks[task.row.task_id] = self._changed[task.row.task_id] = row

    def _patience_us(self, ask: Ask) -> int:
        known = self._patience.get(ask)
        if known is None:
            owners, policy = self._all_owners(), self._board.policy
            mine = owners.get(ask.numeric_class, 0)
            largest = all(count <= mine for name, count in owners.items() if name != UNKNOWN_CLASS)
            waits = ask.scope is Scope.ACROSS and not largest
            known = max(policy.class_patience_us, policy.vehicle_silence_us if waits else 0)
            self._patience[ask] = known
        return known

    def write(self) -> list[FaultFindingRow]:
        """Write what changed: called once, when the board is flushed. Returns the class faults among it."""
        board, repository = self._board, self._board.uow.classes
        gone = [task_id for task_id, row in self._changed.items() if row is None]
        decided = [
            task.row.task_id
            for task in board.tasks.values()
            if not task.undecided and self._asks.get(task.row.task_id) is not None
        ]
        repository.drop_asks(sorted({*gone, *decided}))
        asked = [row for row in self._changed.values() if row is not None and row.task_id not in decided]
        repository.put_asks(asked)
        self._changed.clear()
        if not self._findings:
            return []
        for name, vehicles in repository.add_fault_findings(self._findings, now_us=board.now_us).items():
            cause = f"CLASS_FAULT: {vehicles} of its vehicles gave the same wrong answer"
            board.uow.events.append([WorkEvent("class", name, "", "faulty", cause, board.now_us)])
        for name in sorted({finding.numeric_class for finding in self._findings}):
            repository.end_asks(name, now_us=board.now_us)
        return self._findings


def entitlement(view: ClassView | None) -> Entitled | None:
    """Return the rule of who may decide, for `judge`; None where no class is known."""
    return None if view is None else partial(entitled, view=view)


def _without_witness(weighed: Weighed, verdict: Accept) -> Weighed:
    """No attempt is left for a witness: who waits for one is not judged."""
    settled: set[Candidate] = {*weighed.rejected, *weighed.unjudged, *weighed.faults}
    open_ones = tuple(candidate for candidate in verdict.rejected if candidate not in settled)
    return Weighed(rejected=weighed.rejected, unjudged=(*weighed.unjudged, *open_ones), faults=weighed.faults)
