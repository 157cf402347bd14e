"""Programs, the catalogue of blobs, quotes, settings and root documents in SQL."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, update

from pool_server.ports.shell import ProgramRecord, QuoteRecord, RootRecord
from pool_server.store.tables.identity import TABLES

_PROGRAMS: Table = TABLES["programs"]
_SUBMISSIONS: Table = TABLES["program_submissions"]
_BLOBS: Table = TABLES["blobs"]
_GRANTS: Table = TABLES["blob_grants"]
_QUOTES: Table = TABLES["quotes"]
_SETTINGS: Table = TABLES["settings"]
_ROOTS: Table = TABLES["roots"]


class SqlProgramRepository:
    """Implements `ports.shell.ProgramRepository`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, program: ProgramRecord) -> None:
        if self.get(program.program_sha256) is not None:
            return
        self._connection.execute(
            insert(_PROGRAMS).values(
                program_sha256=program.program_sha256,
                kind=program.kind,
                work_uwu=program.work_uwu,
                manifest=program.manifest,
                admission=program.admission,
                admitted_at_us=program.admitted_at_us,
            )
        )

    def get(self, program_sha256: str) -> ProgramRecord | None:
        row = self._connection.execute(
            select(_PROGRAMS).where(_PROGRAMS.c.program_sha256 == program_sha256)
        ).first()
        return None if row is None else _program(row)

    def remember_submission(self, submission_sha256: str, program_sha256: str) -> None:
        if self.by_submission(submission_sha256) is None:
            self._connection.execute(
                insert(_SUBMISSIONS).values(
                    submission_sha256=submission_sha256, program_sha256=program_sha256
                )
            )

    def by_submission(self, submission_sha256: str) -> ProgramRecord | None:
        row = self._connection.execute(
            select(_PROGRAMS)
            .join(_SUBMISSIONS, _SUBMISSIONS.c.program_sha256 == _PROGRAMS.c.program_sha256)
            .where(_SUBMISSIONS.c.submission_sha256 == submission_sha256)
        ).first()
        return None if row is None else _program(row)


class SqlBlobCatalogue:
    """Implements `ports.shell.BlobCatalogue`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, blob_sha256: str, *, size_bytes: int, uploader: str, now_us: int) -> None:
        if self.size(blob_sha256) is None:
            self._connection.execute(
                insert(_BLOBS).values(blob_sha256=blob_sha256, size_bytes=size_bytes, created_at_us=now_us)
            )
        held = self._connection.execute(
            update(_GRANTS)
            .where(_GRANTS.c.blob_sha256 == blob_sha256, _GRANTS.c.holder == uploader)
            .values(uploaded=1)
        )
        if held.rowcount == 0:
            self._connection.execute(
                insert(_GRANTS).values(blob_sha256=blob_sha256, holder=uploader, uploaded=1)
            )

    def size(self, blob_sha256: str) -> int | None:
        found = self._connection.execute(
            select(_BLOBS.c.size_bytes).where(_BLOBS.c.blob_sha256 == blob_sha256)
        ).scalar_one_or_none()
        return None if found is None else int(found)

    def grant(self, blob_sha256s: Sequence[str], *, holder: str) -> None:
        wanted = list(dict.fromkeys(blob_sha256s))
        if not wanted:
            return
        held = set(
            self._connection.execute(
                select(_GRANTS.c.blob_sha256).where(
                    _GRANTS.c.holder == holder, _GRANTS.c.blob_sha256.in_(wanted)
                )
            ).scalars()
        )
        fresh = [
            {"blob_sha256": name, "holder": holder, "uploaded": 0} for name in wanted if name not in held
        ]
        if fresh:
            self._connection.execute(insert(_GRANTS), fresh)

    def may_read(self, blob_sha256: str, *, holder: str) -> bool:
        found = self._connection.execute(
            select(_GRANTS.c.uploaded).where(_GRANTS.c.blob_sha256 == blob_sha256, _GRANTS.c.holder == holder)
        ).first()
        return found is not None

    def uploaded_bytes(self, uploader: str) -> int:
        total = self._connection.execute(
            select(func.coalesce(func.sum(_BLOBS.c.size_bytes), 0))
            .select_from(_GRANTS.join(_BLOBS, _BLOBS.c.blob_sha256 == _GRANTS.c.blob_sha256))
            .where(_GRANTS.c.holder == uploader, _GRANTS.c.uploaded == 1)
        ).scalar_one()
        return int(total)


class SqlQuoteRepository:
    """Implements `ports.shell.QuoteRepository`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, quote: QuoteRecord) -> None:
        self._connection.execute(
            insert(_QUOTES).values(
                quote_id=quote.quote_id,
                buyer_id=quote.buyer_id,
                program_sha256=quote.program_sha256,
                task_count=quote.task_count,
                steps_per_task=quote.steps_per_task,
                level=quote.level,
                price_micros_per_wu=quote.price_micros_per_wu,
                work_uwu_per_task=quote.work_uwu_per_task,
                attempts_per_task=quote.attempts_per_task,
                cost_micros_per_task=quote.cost_micros_per_task,
                total_micros=quote.total_micros,
                created_at_us=quote.created_at_us,
                expires_at_us=quote.expires_at_us,
            )
        )

    def forget(self, *, ended_before_us: int, limit: int) -> int:
        ended = select(_QUOTES.c.quote_id).where(_QUOTES.c.expires_at_us < ended_before_us).limit(limit)
        return self._connection.execute(delete(_QUOTES).where(_QUOTES.c.quote_id.in_(ended))).rowcount

    def get(self, quote_id: str) -> QuoteRecord | None:
        row = self._connection.execute(select(_QUOTES).where(_QUOTES.c.quote_id == quote_id)).first()
        if row is None:
            return None
        return QuoteRecord(
            quote_id=row.quote_id,
            buyer_id=row.buyer_id,
            program_sha256=row.program_sha256,
            task_count=row.task_count,
            steps_per_task=row.steps_per_task,
            level=row.level,
            price_micros_per_wu=row.price_micros_per_wu,
            work_uwu_per_task=row.work_uwu_per_task,
            attempts_per_task=row.attempts_per_task,
            cost_micros_per_task=row.cost_micros_per_task,
            total_micros=row.total_micros,
            created_at_us=row.created_at_us,
            expires_at_us=row.expires_at_us,
        )


class SqlSettingsRepository:
    """Implements `ports.shell.SettingsRepository`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, key: str) -> str | None:
        found = self._connection.execute(
            select(_SETTINGS.c.value).where(_SETTINGS.c.key == key)
        ).scalar_one_or_none()
        return None if found is None else str(found)

    def put(self, key: str, value: str) -> None:
        changed = self._connection.execute(
            update(_SETTINGS).where(_SETTINGS.c.key == key).values(value=value)
        )
        if changed.rowcount == 0:
            self._connection.execute(insert(_SETTINGS).values(key=key, value=value))

    def add_root(self, root: RootRecord) -> None:
        self._connection.execute(
            insert(_ROOTS).values(
                version=root.version, signed_root=root.signed_root, created_at_us=root.created_at_us
            )
        )

    def roots_after(self, version: int) -> list[RootRecord]:
        rows = self._connection.execute(
            select(_ROOTS).where(_ROOTS.c.version > version).order_by(_ROOTS.c.version)
        )
        return [
            RootRecord(version=row.version, signed_root=row.signed_root, created_at_us=row.created_at_us)
            for row in rows
        ]


def _program(row: Row[Any]) -> ProgramRecord:
    return ProgramRecord(
        program_sha256=row.program_sha256,
        kind=row.kind,
        work_uwu=row.work_uwu,
        manifest=row.manifest,
        admission=row.admission,
        admitted_at_us=row.admitted_at_us,
    )
