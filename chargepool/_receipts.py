"""Receipts as a buyer sees them, and whom to believe about them.

Trust comes in two steps. The channel's CA says that we speak with our pool; over that channel the pool hands
out its root document, in which its keys stand by role. The one seen first is kept for the client's life, and
a later one must continue it. From then on a receipt is believed because a receipt key of that root signed it,
wherever its bytes came from.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from chargepool._errors import ProofInvalid, from_pool_error
from pool_protocol import ids
from pool_protocol.clock import Clock
from pool_protocol.envelope import ANY_AUDIENCE, PayloadType, open_envelope
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.receipts import Receipt as ReceiptFields
from pool_protocol.receipts import ReceiptVerifier, parse_receipt
from pool_protocol.roots import Role, TrustedRoot, open_first_root, open_root_chain
from pool_protocol.v1 import common_pb2

RootSource = Callable[[], Sequence[bytes]]
"""Asks the pool for all its serialized roots, oldest first."""


class RootTrust:
    """The pool's root as far as this client has followed it. Safe to share between threads."""

    def __init__(self, source: RootSource, *, clock: Clock) -> None:
        """Take where roots come from; nothing is asked before `refresh` or the first use."""
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._trusted: TrustedRoot | None = None
        self._verifying = threading.Lock()
        self._verifier: tuple[TrustedRoot, ReceiptVerifier] | None = None

    @property
    def pool_id(self) -> str:
        """The pool's id, as its root says it."""
        return self._current().document.pool_id

    @property
    def root(self) -> TrustedRoot:
        """The root that is trusted; asked for when none is yet."""
        return self._current()

    def chain(self) -> Sequence[bytes]:
        """Return all serialized roots of the pool, oldest first, as it sends them."""
        return self._source()

    def refresh(self) -> TrustedRoot:
        """Ask the pool for its roots and follow them from the one that is trusted.

        Raises:
            ProofInvalid: They do not continue what is trusted, are not signed, or have expired.
        """
        with self._lock:
            chain = self._source()
            now_us = self._clock.now_us()
            try:
                if not chain:
                    raise PoolError(ErrorCode.ROOT_INVALID, "the pool sent no root")
                trusted = (
                    open_first_root(chain[-1], now_us=now_us)
                    if self._trusted is None
                    else open_root_chain(_since(chain, self._trusted), self._trusted, now_us=now_us)
                )
            except PoolError as error:
                raise from_pool_error(error) from error
            self._trusted = trusted
            return trusted

    def verify(self, proven: common_pb2.ProvenReceipt) -> "Receipt":
        """Return the receipt after checking signature, place under the signed root, and sums.

        An unknown key makes the client ask for newer roots once: the pool may have rotated its keys.

        Raises:
            ProofInvalid: It is not a receipt of this pool.
        """
        try:
            return self._verify_with(self._current(), proven)
        except PoolError as error:
            if error.code is not ErrorCode.KEY_UNKNOWN:
                raise from_pool_error(error) from error
        try:
            return self._verify_with(self.refresh(), proven)
        except PoolError as error:
            raise from_pool_error(error) from error

    def verify_bytes(self, proven_bytes: bytes) -> "Receipt":
        """Return the receipt that serialized bytes hold, checked as by `verify`.

        Raises:
            ProofInvalid: It is not a receipt of this pool.
        """
        try:
            proven = common_pb2.ProvenReceipt.FromString(proven_bytes)
        except DecodeError as error:
            raise ProofInvalid("These bytes are no receipt.", code=ErrorCode.RECEIPT_INVALID) from error
        return self.verify(proven)

    def verify_admission(self, envelope: common_pb2.Envelope, program_sha256: str) -> bytes:
        """Return the signed manifest (canonical JSON) of an admission, checked to be of this program.

        Raises:
            ProofInvalid: Not signed by a program key of this pool, or of another program.
        """
        trusted = self._current()
        try:
            opened = open_envelope(
                envelope,
                payload_type=PayloadType.PROGRAM_ADMISSION,
                audience=ANY_AUDIENCE,
                keys=trusted.keys_for(Role.PROGRAM),
                now_us=self._clock.now_us(),
                issuer=trusted.document.pool_id,
                may_be_eternal=True,
            )
        except PoolError as error:
            raise from_pool_error(error) from error
        body = common_pb2.ProgramAdmissionBody.FromString(opened.body)
        if body.artifact_sha256 != program_sha256:
            raise ProofInvalid(
                f"The pool's admission is of program {body.artifact_sha256}, not {program_sha256}.",
                code=ErrorCode.PROGRAM_DIGEST_MISMATCH,
            )
        return body.manifest

    def _current(self) -> TrustedRoot:
        trusted = self._trusted
        return self.refresh() if trusted is None else trusted

    def _verify_with(self, trusted: TrustedRoot, proven: common_pb2.ProvenReceipt) -> "Receipt":
        with self._verifying:
            known = self._verifier
            if known is None or known[0] is not trusted:
                known = (
                    trusted,
                    ReceiptVerifier(trusted.keys_for(Role.RECEIPT), pool_id=trusted.document.pool_id),
                )
                self._verifier = known
            verified = known[1].verify(proven, now_us=self._clock.now_us())
        return Receipt(
            fields=verified.receipt,
            proven_bytes=proven.SerializeToString(),
            trust=self,
            is_verified=True,
        )


def _since(chain: Sequence[bytes], trusted: TrustedRoot) -> Sequence[bytes]:
    """Return the roots after the trusted one; all, when it is not among them, to be refused by version."""
    for position, root_bytes in enumerate(chain):
        if root_bytes == trusted.root_bytes:
            return chain[position + 1 :]
    return chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The pool's signed statement of one verified attempt and what it pays, with the proof of it."""

    fields: ReceiptFields = field(repr=False)
    proven_bytes: bytes = field(repr=False)
    """The serialized ProvenReceipt: keep these bytes, they prove the payment offline."""
    trust: RootTrust = field(repr=False, compare=False)
    is_verified: bool = False
    """True when this object was made by a verification."""

    @property
    def attempt_id(self) -> int:
        """The attempt that was paid."""
        return self.fields.attempt_id

    @property
    def job_id(self) -> str:
        """The job, for example "job_12"."""
        return ids.job_id_text(self.fields.job_id)

    @property
    def task_index(self) -> int:
        """The task's index in the job."""
        return self.fields.task_index

    @property
    def vehicle_id(self) -> str:
        """The vehicle that computed it."""
        return self.fields.vehicle_id

    @property
    def output_digest(self) -> bytes:
        """SHA-256 of the outputs that were paid for, 32 bytes."""
        return self.fields.output_digest

    @property
    def gross_micros(self) -> int:
        """What the work cost before the pool's fee."""
        return self.fields.gross_micros

    @property
    def net_micros(self) -> int:
        """What the owner was credited."""
        return self.fields.net_micros

    @property
    def fee_micros(self) -> int:
        """What the pool kept."""
        return self.fields.fee_micros

    def verify(self) -> "Receipt":
        """Check the proof again and return the verified receipt.

        Raises:
            ProofInvalid: The bytes are not a receipt of this pool.
        """
        return self.trust.verify_bytes(self.proven_bytes)


def unverified_receipt(proven: common_pb2.ProvenReceipt, trust: RootTrust) -> Receipt:
    """Return a receipt without checking who signed it, for callers that check later in bulk.

    Raises:
        ProofInvalid: The bytes are not a receipt at all.
    """
    try:
        fields = parse_receipt(proven.receipt)
    except PoolError as error:
        raise from_pool_error(error) from error
    return Receipt(fields=fields, proven_bytes=proven.SerializeToString(), trust=trust)
