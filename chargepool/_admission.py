"""From a function to an admitted program: export here, admission by the pool, and a check that both agree."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from chargepool._comparators import Comparator, exact
from chargepool._errors import InputRefused, ProofInvalid, from_pool_error
from chargepool._program import Program
from chargepool._records import Records
from chargepool._session import Session
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.program.manifest import ProgramKind, ProgramManifest, parse_manifest

if TYPE_CHECKING:
    from chargepool._export import Exported, Exporter
    from chargepool._local import LocalProgram
    from chargepool.certificates import Certificate
    from pool_protocol.program.export import ExportedProgram

    #: A ready certificate, or a function `verify(inputs, outputs, nonce)`.
    CertificateLike = Certificate | Callable[..., Any]
_NO_ITEM = object()


class Admitter:
    """Has programs admitted, each artifact once per connection. Loads JAX on first use."""

    def __init__(self, session: Session, records: Records) -> None:
        """Take the connection, and where programs are remembered."""
        self._session = session
        self._records = records
        self._admitted: dict[bytes, ProgramManifest] = {}
        self._certificates: dict[tuple[str, CertificateLike], str] = {}
        self._runners: dict[str, list[LocalProgram]] = {}
        self._exporter_made: Exporter | None = None

    def map_program(
        self, fn: Callable[..., Any], example: Any, constants: Any, comparator: Comparator, *, lapack: bool
    ) -> Program:
        """Return the program of `fn(inputs)` or `fn(constants, inputs)`; raises as `Client.program`."""

        def export(comparator: Comparator) -> "Exported":
            return self._exporter().map_program(fn, example, constants, comparator, lapack=lapack)

        return self._admit(*self._compared(export, comparator, sample=example))

    def step_program(
        self,
        step: Callable[[Any, Any, Any], Any],
        state: Any,
        inputs: Any,
        constants: Any,
        comparator: Comparator,
        *,
        unit_steps: int,
        lapack: bool,
    ) -> Program:
        """Return the program of `step(state, inputs, constants)`; raises as `Client.step_program`."""

        def export(comparator: Comparator) -> "Exported":
            return self._exporter().step_program(
                step, state, inputs, constants, comparator, unit_steps=unit_steps, lapack=lapack
            )

        return self._admit(*self._compared(export, comparator, sample=(state, inputs)))

    def certify(self, program: Program, certificate: "CertificateLike") -> str:
        """Return the id of a certificate for a program, exported and admitted now unless it was before.

        Raises:
            InputRefused: The program is a step program, or this is no certificate.
            ProgramRefused: The function cannot be a program.
        """
        key = (program.program_id, certificate)
        known = self._certificates.get(key)
        if known is None:
            exported = self._exporter().certificate(program.manifest.draft, program.name, certificate)
            known = self._certificates[key] = self._admit(exported, exact()).program_id
        return known

    def with_first(
        self,
        program: Program | Callable[..., Any],
        inputs: Iterable[Any],
        constants: Any,
        comparator: Comparator,
    ) -> tuple[Program | None, Iterator[Any]]:
        """Return program and inputs after trying the first input; no program when there is no input.

        Raises:
            ProgramRefused: The function cannot be a program.
            InputRefused: The first input does not fit, or the arguments contradict each other.
        """
        if isinstance(program, Program) and constants is not None:
            raise InputRefused(
                "A program has its constants already.",
                next_step="Pass them to client.program(fn, example, constants=...).",
            )
        if not isinstance(program, Program) and not callable(program):
            raise InputRefused(f"{type(program).__name__} is neither a program nor a function.")
        items = iter(inputs)
        first = next(items, _NO_ITEM)
        if first is _NO_ITEM:
            return None, items
        if not isinstance(program, Program):
            program = self.map_program(program, first, constants, comparator, lapack=False)
        program.encode(first, index=0)
        return program, itertools.chain([first], items)

    def _exporter(self) -> "Exporter":
        if self._exporter_made is None:
            from chargepool._export import Exporter

            self._exporter_made = Exporter()
        return self._exporter_made

    def _compared(
        self, export: "Callable[[Comparator], Exported]", comparator: Comparator, *, sample: Any
    ) -> "tuple[Exported, Comparator]":
        """Export with the comparator that was declared, or that a check of the numerics proposes."""
        if not comparator.is_measured:
            return export(comparator), comparator
        exported = export(exact())
        report = self._records.numerics(exported.program.draft.artifact_sha256)
        if report is None:
            if exported.program.draft.kind is ProgramKind.STEP:
                raise InputRefused(
                    f"How far {exported.name} differs depends on how many steps its tasks make.",
                    next_step="Call check_numerics(samples, steps=N) of the program first, made with "
                    'comparator="exact", or run `chargepool program check --unit-steps K --steps N`.',
                )
            from chargepool._numerics import check_exported

            report = check_exported(exported, samples=[sample])
            self._records.remember_numerics(report)
        return export(report.comparator), report.comparator

    def _admit(self, exported: "Exported", comparator: Comparator) -> Program:
        sent = exported.program
        comparator.require_outputs([tensor.name for tensor in sent.draft.output_types])
        key = sent.draft.to_json()
        manifest = self._admitted.get(key)
        is_new = manifest is None
        if manifest is None:
            manifest = self._ask(sent, exported.name)
            self._admitted[key] = manifest
        program = Program(
            program_id=manifest.program_id,
            name=exported.name,
            manifest=manifest,
            comparator=comparator,
            constants=exported.constants,
            artifact=sent.artifact,
            _runner=self._runners.setdefault(manifest.program_id, []),
            _records=self._records,
        )
        if is_new:
            self._records.remember_program(program)
        return program

    def _ask(self, sent: "ExportedProgram", name: str) -> ProgramManifest:
        program_id, manifest_bytes = self._session.admit(sent.artifact, sent.draft.to_json())
        try:
            manifest = parse_manifest(manifest_bytes)
        except PoolError as error:
            raise from_pool_error(error) from error
        admitted = (manifest.program_id, manifest.draft.artifact_sha256, manifest.draft.interface())
        if admitted != (program_id, sent.draft.artifact_sha256, sent.draft.interface()):
            raise ProofInvalid(
                f"The pool admitted another program than {name} as it was sent.",
                code=ErrorCode.PROGRAM_SIGNATURE_MISMATCH,
                next_step="Report it to the pool's operator; nothing was spent.",
            )
        return manifest
