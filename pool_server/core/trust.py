"""What a vehicle's history is worth, and when it is put in quarantine.

Trust is one number per (vehicle, program class, level): clean work since the last failed check. The class
keeps different kinds of programs apart; the level is part of the key because work that was checked less
often than a stricter level asks must not count there. Donated work counts for nothing: a buyer and owners in
league could make any amount of it, and history is what makes audits rare. Pure arithmetic; rows are the
store's matter.
"""

from dataclasses import dataclass, replace
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.verification import VerificationLevel
from pool_server.core.verification.finality import final_through_uwu


@unique
class QuarantineReason(StrEnum):
    """Why the pool itself puts a vehicle in quarantine. An operator writes words of their own."""

    WRONG_RESULT = "WRONG_RESULT"


def trust_class(kind: str, level: VerificationLevel) -> str:
    """Name the history that a job's work belongs to, for example "map/standard"."""
    return f"{kind}/{level.value}"


def class_history(numeric_class: str, program_sha256: str, level: VerificationLevel) -> tuple[str, str]:
    """Name the history of a numeric class on a program, kept beside those of vehicles."""
    return f"class:{numeric_class}", f"{program_sha256}/{level.value}"


def exact_history(numeric_class: str, program_sha256: str) -> tuple[str, str]:
    """Name the record of how often a class returned other bits than others did on a program."""
    return f"class:{numeric_class}", f"{program_sha256}/exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRecord:
    """History of one vehicle in one class."""

    clean_uwu: int = 0
    """Accepted work since the last failed check, micro-WU."""
    accepted_attempts: int = 0
    """Attempts accepted in all."""
    rejected_attempts: int = 0
    """Attempts rejected in all."""
    odometer_uwu: int = 0
    """Accepted work in all, micro-WU: never goes back."""
    final_uwu: int = 0
    """Results up to here on the odometer are final."""

    def accepted(self, work_uwu: int, *, lag_uwu: int | None = None) -> "TrustRecord":
        """Return the record after one accepted attempt.

        Args:
            work_uwu: Its work.
            lag_uwu: The lag of `core.verification.finality`; None makes nothing final.
        """
        clean_uwu, odometer_uwu = self.clean_uwu + work_uwu, self.odometer_uwu + work_uwu
        final_uwu = self.final_uwu
        if lag_uwu is not None:
            final_uwu = final_through_uwu(
                odometer_uwu=odometer_uwu, clean_uwu=clean_uwu, floor_uwu=final_uwu, lag_uwu=lag_uwu
            )
        return TrustRecord(
            clean_uwu=clean_uwu,
            accepted_attempts=self.accepted_attempts + 1,
            rejected_attempts=self.rejected_attempts,
            odometer_uwu=odometer_uwu,
            final_uwu=final_uwu,
        )

    def reset(self) -> "TrustRecord":
        """Return the record after a wrong answer that was no fraud: history starts again, without blame."""
        return replace(self, clean_uwu=0)

    def halved(self) -> "TrustRecord":
        """Return the record after the vehicle computes differently: a new driver, library or processor.

        What it did before says less of what it does now; half of it counts on.
        """
        return replace(self, clean_uwu=self.clean_uwu // 2)

    def restored(self, lost_uwu: int) -> "TrustRecord":
        """Return the record after an appeal proved that it had lost clean work for nothing.

        It counts again beside what was done since; the rejection itself stays counted, and what was done
        since is final no sooner for it.
        """
        return replace(self, clean_uwu=self.clean_uwu + lost_uwu)

    def rejected(self) -> "TrustRecord":
        """Return the record after one rejected attempt: history starts again at nothing.

        The odometer stays, and what was final stays so.
        """
        return replace(self, clean_uwu=0, rejected_attempts=self.rejected_attempts + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRule:
    """How many rejected results a vehicle may have."""

    rejections_max: int = 1
    """Rejected attempts, since it was last freed, that put a vehicle in quarantine; at least 1."""

    def __post_init__(self) -> None:
        if self.rejections_max < 1:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT, f"rejections_max is at least 1, not {self.rejections_max}"
            )

    def reason(self, rejected_since_release: int) -> QuarantineReason | None:
        """Return why a vehicle with so many rejected results goes into quarantine; None if it does not."""
        return QuarantineReason.WRONG_RESULT if rejected_since_release >= self.rejections_max else None
