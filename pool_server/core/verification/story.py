"""A vehicle's record in plain words: what its owner and the operator read when they ask why.

One sentence a line, oldest first. Pure: figures in, sentences out. Nothing is judged here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pool_server.core.verification.appeal import APPEAL_GRANTED
from pool_server.core.verification.findings import FindingKind, FindingOutcome

_DIGEST_CHARACTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryFinding:
    """What one check found."""

    kind: FindingKind
    finding: FindingOutcome
    job_id: int
    task_index: int
    claimed_digest: bytes
    accepted_digest: bytes
    agreeing_owners: int
    trusted_node: bool
    unit_index: int
    found_at_us: int
    granted_micros: int = 0
    """An appeal that was granted: what the pool paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryFacts:
    """All that the story is told from."""

    label: str
    enrolled_at_us: int
    verified_attempts: int
    rejected_attempts: int
    state: str
    quarantine_reason: str
    trusted: bool
    findings: Sequence[StoryFinding]
    """Oldest first."""
    moves: Sequence[tuple[int, str, str, str]]
    """Changes of state, oldest first: time in microseconds, from, to, cause."""
    rechecking_count: int
    upheld_count: int
    wrong_count: int
    """Results that a look-back found wrong."""
    questioned_micros: int
    clawed_back_micros: int
    appeal_until_us: int = 0
    """Until when the owner may appeal against some finding; 0 where there is none."""
    prefixes: "StoryPrefixes | None" = None
    """What it did of tasks in which it was stopped; None where it never claimed any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryPrefixes:
    """Tasks in which a vehicle was stopped after whole units."""

    paid_count: int
    paid_micros: int
    open_count: int
    open_micros: int
    unpaid_count: int


def tell(facts: StoryFacts, *, time: Callable[[int], str], money: Callable[[int], str]) -> list[str]:
    """Tell a vehicle's story.

    Args:
        facts: What there is to tell.
        time: Writes microseconds since the epoch for people.
        money: Writes micro-units for people.
    """
    lines = [(facts.enrolled_at_us, f"{time(facts.enrolled_at_us)}: {facts.label} was enrolled.")]
    lines.extend(
        (finding.found_at_us, f"{time(finding.found_at_us)}: {finding_sentence(finding, money=money)}")
        for finding in facts.findings
        # What a look-back found right is told in sum.
        if finding.kind is not FindingKind.LOOK_BACK or finding.finding is FindingOutcome.WRONG
    )
    for at_us, source, target, cause in facts.moves:
        if sentence := _move_sentence(source, target, cause):
            lines.append((at_us, f"{time(at_us)}: {sentence}"))
    told = [line for _, line in sorted(lines, key=lambda line: line[0])]
    if facts.trusted:
        told.append("It is the operator's own: its results are the pool's word.")
    told.append(
        f"Of its results {_counted(facts.verified_attempts, 'was', 'were')} verified and "
        f"{facts.rejected_attempts} rejected."
    )
    if facts.prefixes is not None:
        told.append(_prefix_sentence(facts.prefixes, money))
    told.extend(_look_back_sentences(facts, money))
    if facts.state == "quarantined":
        told.append(f"It is in quarantine ({facts.quarantine_reason}) and gets no work.")
    if facts.appeal_until_us:
        told.append(f"Its owner may appeal until {time(facts.appeal_until_us)}.")
    return told


def finding_sentence(finding: StoryFinding, *, money: Callable[[int], str] | None = None) -> str:
    """Say in one sentence what a check found; with `money`, what an appeal was worth as well."""
    task = f"task {finding.task_index} of job_{finding.job_id}"
    if finding.kind is FindingKind.APPEAL and finding.finding is not FindingOutcome.WRONG:
        return _appeal_sentence(finding, task, money)
    match finding.finding:
        case FindingOutcome.WRONG:
            return _wrong_sentence(finding, task)
        case FindingOutcome.WITHHELD:
            return f"It did not show the state that it had committed to in {task}: that counts as wrong."
        case FindingOutcome.CLASS_FAULT:
            return (
                f"Its result of {task} was wrong, as were those of other vehicles that compute alike: a "
                "fault of their numeric class, not of this vehicle."
            )
        case FindingOutcome.UPHELD:
            return f"Its result of {task} was checked again and is right."
        case FindingOutcome.OPEN:
            return f"Its result of {task} was checked again, and nobody could tell: it stands."


def _wrong_sentence(finding: StoryFinding, task: str) -> str:
    if finding.kind is FindingKind.PREFIX:
        return _wrong_prefix_sentence(finding, task)
    how = {
        FindingKind.AUDIT: f"A secret check had {task} computed again",
        FindingKind.QUORUM: f"Several vehicles computed {task}",
        FindingKind.LOOK_BACK: f"After the vehicle had been caught, {task} was computed again",
        FindingKind.CERTIFICATE: f"The job's own check looked at {task}",
        FindingKind.DISPUTE: f"Two results of {task} were set against each other",
        FindingKind.APPEAL: f"On the owner's appeal the pool computed {task} itself",
        FindingKind.CLASS_FAULT: f"Another numeric class computed {task}",
    }[finding.kind]
    sentence = f"{how}, and its result is wrong: it claimed {_short(finding.claimed_digest)}"
    if finding.accepted_digest and finding.accepted_digest != finding.claimed_digest:
        sentence += f", {_agreed(finding)} {_short(finding.accepted_digest)}"
    if finding.unit_index >= 0:
        sentence += f"; they part in unit {finding.unit_index}"
    return sentence + "."


def _wrong_prefix_sentence(finding: StoryFinding, task: str) -> str:
    sentence = (
        f"It was stopped in {task} and claimed {_counted(finding.unit_index + 1, 'unit', 'units')} of it"
    )
    if not finding.claimed_digest:
        return f"{sentence}; what it showed of them is not what it had signed."
    return (
        f"{sentence}, after which it said that it had {_short(finding.claimed_digest)}; those who finished "
        "the task had something else there."
    )


def _prefix_sentence(prefixes: StoryPrefixes, money: Callable[[int], str]) -> str:
    count = prefixes.paid_count + prefixes.open_count + prefixes.unpaid_count
    sentence = (
        f"In {_counted(count, 'task', 'tasks')} it was stopped after some units: {prefixes.paid_count} paid "
        f"up to the last good unit ({money(prefixes.paid_micros)})"
    )
    if prefixes.open_count:
        sentence += f", {prefixes.open_count} not settled yet ({money(prefixes.open_micros)} are reserved)"
    if prefixes.unpaid_count:
        sentence += f", {prefixes.unpaid_count} unpaid because nobody could tell"
    return sentence + "."


def _appeal_sentence(finding: StoryFinding, task: str, money: Callable[[int], str] | None) -> str:
    if finding.finding is not FindingOutcome.UPHELD:
        return f"On the owner's appeal the pool ran {task} itself and could not tell: the rejection stands."
    sentence = (
        f"On the owner's appeal the pool computed {task} itself: the vehicle's result is right, and the "
        "rejection is overturned"
    )
    if money is not None and finding.granted_micros:
        sentence += f"; {money(finding.granted_micros)} were paid"
    return sentence + "."


def _agreed(finding: StoryFinding) -> str:
    if finding.trusted_node:
        return "the pool's own node found"
    if finding.agreeing_owners == 1:
        return "another owner's vehicle found"
    return f"{finding.agreeing_owners} other owners agree on"


def _move_sentence(source: str, target: str, cause: str) -> str:
    if target == "quarantined":
        return f"It was put in quarantine ({cause}), and its history of clean work starts again at nothing."
    if source == "quarantined" and target == "available":
        return "It was freed: the appeal was granted." if cause == APPEAL_GRANTED else "An operator freed it."
    if target == "retired":
        return "Its owner retired it."
    return ""


def _look_back_sentences(facts: StoryFacts, money: Callable[[int], str]) -> list[str]:
    looked_at = facts.rechecking_count + facts.upheld_count + facts.wrong_count
    if not looked_at:
        return []
    what = _counted(
        looked_at, "earlier result that was not final was", "earlier results that were not final were"
    )
    lines = [
        (
            f"{what} looked at again: {facts.upheld_count} right, {facts.wrong_count} wrong, "
            f"{facts.rechecking_count} still being computed."
        )
    ]
    if facts.questioned_micros:
        lines.append(f"{money(facts.questioned_micros)} are set aside until they are.")
    lines.append(
        f"{money(facts.clawed_back_micros)} were taken back for what proved wrong; nothing else was touched."
        if facts.clawed_back_micros
        else "No money was taken back."
    )
    return lines


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _short(digest: bytes) -> str:
    return digest.hex()[:_DIGEST_CHARACTERS] + "..." if digest else "nothing"
