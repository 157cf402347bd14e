"""What this machine remembers of programs and jobs, so that a job can be taken up after its script died.

    $XDG_STATE_HOME/chargepool/programs/<id>.{json,artifact}   admitted programs: name, manifest, bytes
    $XDG_STATE_HOME/chargepool/numerics/<id>.json              how a program's results differ between settings
    $XDG_STATE_HOME/chargepool/jobs/<pool>/<job>.json          a job's program and the command's files

Nothing here is needed for correctness: without it results come as named arrays, and the pool knows everything
else. A folder that cannot be written is therefore not an error. Tokens and inputs are never stored.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chargepool._comparators import Comparator
from chargepool._numerics import NumericsReport
from chargepool._program import Program
from pool_protocol.digests import sha256_hex
from pool_protocol.errors import PoolError
from pool_protocol.ids import parse_job_id, parse_sha256_hex
from pool_protocol.program.manifest import parse_manifest

_PRIVATE_MODE = 0o700


def default_directory(environ: Mapping[str, str]) -> Path:
    """Return where records are kept."""
    base = environ.get("XDG_STATE_HOME")
    root = Path(base) if base else Path(environ.get("HOME", "~")).expanduser() / ".local" / "state"
    return root / "chargepool"


class Records:
    """Programs and jobs remembered under one folder."""

    def __init__(self, directory: Path) -> None:
        """Use a folder; it is made when something is first written."""
        self.directory = directory
        # Where the folder cannot be written, what this process found still holds.
        self._numerics: dict[str, NumericsReport] = {}

    def remember_program(self, program: Program) -> None:
        """Keep a program, so that outputs of its jobs can be decoded and inputs checked."""
        base = self.directory / "programs" / program.program_id
        meta = {
            "name": program.name,
            **program.comparator.to_json(),
            "manifest": program.manifest.to_json().decode("ascii"),
        }
        if not base.with_suffix(".json").exists():
            write_privately(base.with_suffix(".artifact"), program.artifact)
            write_privately(base.with_suffix(".json"), json.dumps(meta).encode())

    def program(self, program_id: str) -> Program | None:
        """Return a program that was remembered, or None. Its constants are not kept."""
        try:
            base = self.directory / "programs" / parse_sha256_hex(program_id)
            meta = json.loads(base.with_suffix(".json").read_bytes())
            artifact = base.with_suffix(".artifact").read_bytes()
            manifest = parse_manifest(meta["manifest"].encode("ascii"))
            comparator = Comparator.from_json(meta)
            name = str(meta["name"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, PoolError):
            return None
        if sha256_hex(artifact) != program_id or manifest.program_id != program_id:
            return None
        return Program(
            program_id=program_id,
            name=name,
            manifest=manifest,
            comparator=comparator,
            constants={},
            artifact=artifact,
            _records=self,
        )

    def remember_numerics(self, report: NumericsReport) -> None:
        """Keep what a check of a program's numerics found, in place of what an earlier one did."""
        self._numerics[report.program_id] = report
        write_privately(self._numerics_path(report.program_id), json.dumps(report.to_json()).encode())

    def numerics(self, program_id: str) -> NumericsReport | None:
        """Return what the last check of a program's numerics found, or None."""
        found = self._numerics.get(program_id)
        if found is None:
            try:
                found = NumericsReport.from_json(json.loads(self._numerics_path(program_id).read_bytes()))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, PoolError):
                return None
        return found if found.program_id == program_id else None

    def _numerics_path(self, program_id: str) -> Path:
        return self.directory / "numerics" / f"{parse_sha256_hex(program_id)}.json"

    def remember_job(self, pool_id: str, job_id: str, facts: Mapping[str, Any]) -> None:
        """Keep facts about a job, over what was kept before."""
        path = self._job_path(pool_id, job_id)
        known = self.job(pool_id, job_id)
        write_privately(path, json.dumps({**known, **facts}).encode())

    def job(self, pool_id: str, job_id: str) -> dict[str, Any]:
        """Return what is remembered of a job; empty when nothing is."""
        try:
            facts = json.loads(self._job_path(pool_id, job_id).read_bytes())
        except (OSError, ValueError, PoolError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _job_path(self, pool_id: str, job_id: str) -> Path:
        parse_job_id(job_id)  # nothing but an id becomes part of a path
        return self.directory / "jobs" / sha256_hex(pool_id.encode())[:16] / f"{job_id}.json"


def write_privately(path: Path, content: bytes) -> None:
    """Write a file whole, with its folder; a folder that cannot be written is not an error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_MODE)
        scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        scratch.write_bytes(content)
        scratch.replace(path)
    except OSError:
        return
