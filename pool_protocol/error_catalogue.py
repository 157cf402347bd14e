"""What each refusal means to the outside: gRPC status, what went wrong, what to do, and whether to try again.

Total over `ErrorCode`, which a test holds it to. Import it from `pool_protocol.errors`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pool_protocol.error_codes import ErrorCode


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """What a code means to the outside."""

    grpc_code: str
    """The name of the gRPC status code."""
    public: str
    """What went wrong, in words that may be shown to anyone."""
    next_step: str
    """What to do about it."""
    retryable: bool
    """True when the same request may succeed later without any change."""


def _entry(grpc_code: str, public: str, next_step: str, *, retryable: bool = False) -> ErrorEntry:
    return ErrorEntry(grpc_code=grpc_code, public=public, next_step=next_step, retryable=retryable)


_REPORT_IT = "Report it to the pool's operator with the time and the code."
_RESEND_SIGNED = "Fetch the message again from the pool; if it repeats, check the clock and the trusted root."
_KEEP_BOTH = (
    "Keep both signed tree heads: together they prove it. Show them to other owners and to the operator."
)
_RE_EXPORT = "Change the function, export it again and run it with .local() before you submit it."

_CATALOGUE: dict[ErrorCode, ErrorEntry] = {
    ErrorCode.INVALID_ARGUMENT: _entry(
        "INVALID_ARGUMENT",
        "The request has a field that is not valid.",
        "Correct the field named in the details.",
    ),
    ErrorCode.UNAUTHENTICATED: _entry(
        "UNAUTHENTICATED",
        "The pool does not know who is calling.",
        "Send a valid token or certificate; make a new one if it was revoked.",
    ),
    ErrorCode.PERMISSION_DENIED: _entry(
        "PERMISSION_DENIED",
        "This token or certificate may not do that.",
        "Use a token that has the scope named in the details.",
    ),
    ErrorCode.NOT_FOUND: _entry(
        "NOT_FOUND", "There is no such thing here.", "Check the id; it may be another pool's."
    ),
    ErrorCode.ALREADY_EXISTS: _entry(
        "ALREADY_EXISTS", "It exists already.", "Use the existing one, or choose another id."
    ),
    ErrorCode.EXISTS_WITH_DIFFERENT: _entry(
        "ALREADY_EXISTS",
        "This id was used before with other contents.",
        "Send a new id, or exactly the contents that were sent first.",
    ),
    ErrorCode.ID_ALREADY_FAILED: _entry(
        "FAILED_PRECONDITION",
        "This id was used before and that command failed.",
        "Send the command with a new id.",
    ),
    ErrorCode.MESSAGE_TOO_LARGE: _entry(
        "RESOURCE_EXHAUSTED",
        "The message is larger than the pool takes.",
        "Send smaller batches, or use blobs.",
    ),
    ErrorCode.RATE_LIMITED: _entry(
        "RESOURCE_EXHAUSTED", "Too many requests.", "Wait for the delay given, then go on.", retryable=True
    ),
    ErrorCode.UNAVAILABLE: _entry(
        "UNAVAILABLE", "The pool cannot answer now.", "Try again after the delay given.", retryable=True
    ),
    ErrorCode.DRAINING: _entry(
        "UNAVAILABLE",
        "This server is shutting down.",
        "Connect again; another server takes over.",
        retryable=True,
    ),
    ErrorCode.DEADLINE_EXCEEDED: _entry(
        "DEADLINE_EXCEEDED",
        "It took longer than the time allowed.",
        "Try again with more time.",
        retryable=True,
    ),
    ErrorCode.CANCELLED: _entry(
        "CANCELLED", "The request was cancelled.", "Send it again if you still want it."
    ),
    ErrorCode.UNIMPLEMENTED: _entry(
        "UNIMPLEMENTED",
        "This pool does not offer that.",
        "Check the pool's version, or leave that option out.",
    ),
    ErrorCode.CONFLICT: _entry(
        "ABORTED", "Someone else changed it at the same time.", "Read it again and repeat.", retryable=True
    ),
    ErrorCode.INVALID_STATE: _entry(
        "FAILED_PRECONDITION",
        "It is not in a state that allows this.",
        "Look at its present state, then decide.",
    ),
    ErrorCode.INTERNAL: _entry("INTERNAL", "The pool made a mistake.", _REPORT_IT),
    ErrorCode.ENVELOPE_MALFORMED: _entry(
        "INVALID_ARGUMENT",
        "The signed message cannot be read.",
        "Update the sender, then send the message again.",
    ),
    ErrorCode.ENVELOPE_SIGNATURE_INVALID: _entry(
        "UNAUTHENTICATED", "The signature does not fit the message.", _RESEND_SIGNED
    ),
    ErrorCode.ENVELOPE_EXPIRED: _entry(
        "FAILED_PRECONDITION", "The signed message is too old.", _RESEND_SIGNED
    ),
    ErrorCode.ENVELOPE_NOT_YET_VALID: _entry(
        "FAILED_PRECONDITION",
        "The signed message comes from the future.",
        "Set the clock of the sender or receiver.",
    ),
    ErrorCode.ENVELOPE_WRONG_AUDIENCE: _entry(
        "PERMISSION_DENIED", "The signed message is meant for someone else.", _RESEND_SIGNED
    ),
    ErrorCode.ENVELOPE_WRONG_TYPE: _entry(
        "INVALID_ARGUMENT", "The signed message is of another kind than expected.", _RESEND_SIGNED
    ),
    ErrorCode.ENVELOPE_REPLAYED: _entry(
        "ALREADY_EXISTS", "This signed message was seen before.", "Sign a new message with a fresh nonce."
    ),
    ErrorCode.KEY_UNKNOWN: _entry(
        "UNAUTHENTICATED",
        "The message is signed with a key not trusted for this.",
        "Fetch the current trusted root.",
    ),
    ErrorCode.KEY_INVALID: _entry(
        "INVALID_ARGUMENT",
        "The key cannot be read.",
        "Check the key file: an Ed25519 key in PEM, readable by you only.",
    ),
    ErrorCode.ROOT_INVALID: _entry(
        "FAILED_PRECONDITION",
        "The trusted root cannot be read.",
        "Fetch the root again, or pair with the pool again.",
    ),
    ErrorCode.ROOT_THRESHOLD_NOT_MET: _entry(
        "UNAUTHENTICATED",
        "Too few valid signatures on the new trusted root.",
        "Keep the old root; tell the operator.",
    ),
    ErrorCode.ROOT_ROLLBACK: _entry(
        "FAILED_PRECONDITION",
        "An older trusted root was offered than the one in use.",
        "Keep the newer root.",
    ),
    ErrorCode.ROOT_EXPIRED: _entry(
        "FAILED_PRECONDITION", "The trusted root has expired.", "Fetch the current root; check the clock."
    ),
    ErrorCode.PROOF_INVALID: _entry(
        "INVALID_ARGUMENT",
        "The proof does not lead to the signed root.",
        "Fetch the proof again from the pool.",
    ),
    ErrorCode.RECEIPT_INVALID: _entry(
        "INVALID_ARGUMENT", "The receipt cannot be read.", "Fetch the receipt again from the pool."
    ),
    ErrorCode.LOG_FORKED: _entry(
        "DATA_LOSS",
        "The pool has signed two logs of receipts that contradict each other.",
        _KEEP_BOTH,
    ),
    ErrorCode.LOG_ROLLED_BACK: _entry(
        "DATA_LOSS",
        "The pool's log of receipts has become shorter than it was.",
        _KEEP_BOTH,
    ),
    ErrorCode.LOG_BACK_DATED: _entry(
        "DATA_LOSS",
        "The pool's log says of something that it happened before it was there.",
        _KEEP_BOTH,
    ),
    ErrorCode.LOG_REORDERED: _entry(
        "DATA_LOSS",
        "The pool's log holds receipts in another order than they were signed in.",
        _KEEP_BOTH,
    ),
    ErrorCode.LOG_RECEIPT_DROPPED: _entry(
        "DATA_LOSS",
        "A receipt that the pool signed is not in its log.",
        "Keep the receipt: the pool's signature is on it. Ask the operator why it is not in the log.",
    ),
    ErrorCode.LOG_RECEIPT_ALTERED: _entry(
        "DATA_LOSS",
        "The pool's log holds another receipt in place of the one that it signed.",
        "Keep the receipt: the pool's signature is on it. Ask the operator why the log differs.",
    ),
    ErrorCode.SOLVENCY_INVALID: _entry(
        "DATA_LOSS",
        "A statement of solvency does not add up.",
        _REPORT_IT,
    ),
    ErrorCode.CERTIFICATE_INVALID: _entry(
        "UNAUTHENTICATED",
        "The certificate is not valid here.",
        "Renew the certificate, or pair the vehicle again.",
    ),
    ErrorCode.CLOCK_UNTRUSTED: _entry(
        "FAILED_PRECONDITION", "The clock cannot be trusted.", "Let the device set its clock, then try again."
    ),
    ErrorCode.DEVICE_CODE_UNKNOWN: _entry(
        "NOT_FOUND",
        "This pairing code is not known.",
        "Check the code on the car's screen, or start pairing again.",
    ),
    ErrorCode.DEVICE_CODE_EXPIRED: _entry(
        "FAILED_PRECONDITION", "This pairing code has expired.", "Start pairing again to get a new code."
    ),
    ErrorCode.DEVICE_CODE_PENDING: _entry(
        "FAILED_PRECONDITION",
        "The owner has not approved the pairing yet.",
        "Approve the code in the owner's dashboard; the car asks again by itself.",
        retryable=True,
    ),
    ErrorCode.DEVICE_CODE_DENIED: _entry(
        "PERMISSION_DENIED", "The owner refused the pairing.", "Start pairing again if that was a mistake."
    ),
    ErrorCode.VEHICLE_RETIRED: _entry(
        "PERMISSION_DENIED", "This vehicle has left the pool.", "Pair the vehicle again to return."
    ),
    ErrorCode.QUARANTINED: _entry(
        "PERMISSION_DENIED",
        "This vehicle is in quarantine because its results failed a check.",
        "See the reason in the owner's dashboard; ask the operator for a review.",
    ),
    ErrorCode.LEASE_UNKNOWN: _entry("NOT_FOUND", "There is no such lease.", "Ask for a new lease."),
    ErrorCode.LEASE_EXPIRED: _entry("FAILED_PRECONDITION", "The lease has ended.", "Ask for a new lease."),
    ErrorCode.LEASE_NOT_YOURS: _entry(
        "PERMISSION_DENIED",
        "This lease belongs to another vehicle.",
        "Work only on leases given to this vehicle.",
    ),
    ErrorCode.ATTEMPT_UNKNOWN: _entry("NOT_FOUND", "There is no such attempt.", "Drop the result and go on."),
    ErrorCode.ATTEMPT_NOT_IN_LEASE: _entry(
        "PERMISSION_DENIED",
        "This attempt is not part of the lease.",
        "Submit each result under its own lease.",
    ),
    ErrorCode.ATTEMPT_NOT_YOURS: _entry(
        "PERMISSION_DENIED",
        "This attempt belongs to another vehicle.",
        "Submit only results of this vehicle.",
    ),
    ErrorCode.RESULT_CONFLICT: _entry(
        "ALREADY_EXISTS",
        "Another result was submitted for this attempt before.",
        "The first result stands; go on.",
    ),
    ErrorCode.RESULT_LATE: _entry(
        "FAILED_PRECONDITION", "The result came after the task was finished.", "Drop the result and go on."
    ),
    ErrorCode.OUTPUT_MALFORMED: _entry(
        "INVALID_ARGUMENT",
        "The outputs do not have the names, types and shapes of the program.",
        "Run the program exactly as leased; update the agent if it repeats.",
    ),
    ErrorCode.TENSORS_MALFORMED: _entry(
        "INVALID_ARGUMENT", "The tensors are not valid safetensors.", "Encode the arrays with the SDK."
    ),
    ErrorCode.TENSORS_PICKLE: _entry(
        "INVALID_ARGUMENT",
        "This is a pickle or an archive, which can run code; the pool takes safetensors only.",
        "Encode the arrays with the SDK (safetensors).",
    ),
    ErrorCode.TENSORS_TOO_LARGE: _entry(
        "RESOURCE_EXHAUSTED",
        "The tensors are larger than allowed here.",
        "Send them as blobs, or make tasks smaller.",
    ),
    ErrorCode.TENSORS_DTYPE_UNSUPPORTED: _entry(
        "INVALID_ARGUMENT", "An array has a type that cannot travel.", "Convert it to a plain number type."
    ),
    ErrorCode.BLOB_DIGEST_MISMATCH: _entry(
        "DATA_LOSS",
        "The bytes are not those that the digest names.",
        "Transfer the blob again.",
        retryable=True,
    ),
    ErrorCode.BLOB_TOO_LARGE: _entry(
        "RESOURCE_EXHAUSTED", "The blob is larger than the pool takes.", "Split the data into several blobs."
    ),
    ErrorCode.BLOB_MISSING: _entry(
        "FAILED_PRECONDITION", "The pool does not have this blob.", "Upload the blob first, then repeat."
    ),
    ErrorCode.PROGRAM_UNPARSABLE: _entry(
        "INVALID_ARGUMENT", "The program cannot be read.", "Export it again with a supported version of JAX."
    ),
    ErrorCode.PROGRAM_MANIFEST_INVALID: _entry(
        "INVALID_ARGUMENT", "The program's manifest is not valid.", "Make artifact and manifest with the SDK."
    ),
    ErrorCode.PROGRAM_VERSION_UNSUPPORTED: _entry(
        "INVALID_ARGUMENT",
        "The program was made by a version of JAX that this pool does not run.",
        "Export it with the version named in the details.",
    ),
    ErrorCode.PROGRAM_PLATFORM_UNSUPPORTED: _entry(
        "INVALID_ARGUMENT",
        "The program is not made for this platform.",
        "Export it for the platforms of the pool.",
    ),
    ErrorCode.PROGRAM_OP_NOT_ALLOWED: _entry(
        "INVALID_ARGUMENT", "The program uses an operation that the pool does not run.", _RE_EXPORT
    ),
    ErrorCode.PROGRAM_CUSTOM_CALL: _entry(
        "INVALID_ARGUMENT",
        "The program calls a native routine that is not on the allow-list.",
        "Ask for the LAPACK option if it is linear algebra; otherwise express it in jax.numpy.",
    ),
    ErrorCode.PROGRAM_CALLBACK: _entry(
        "INVALID_ARGUMENT",
        "The program calls back into Python (print, pure_callback, io_callback).",
        "Take the callback out; return what you want to see as an output.",
    ),
    ErrorCode.PROGRAM_EFFECTS: _entry(
        "INVALID_ARGUMENT",
        "The program has side effects.",
        "Make the function pure: outputs from inputs only.",
    ),
    ErrorCode.PROGRAM_RECURSION: _entry("INVALID_ARGUMENT", "The program calls itself.", _RE_EXPORT),
    ErrorCode.PROGRAM_TOO_LARGE: _entry(
        "INVALID_ARGUMENT",
        "The program is larger than the pool takes.",
        "Use lax.scan or fori_loop in place of unrolled loops; pass arrays as constants, not as literals.",
    ),
    ErrorCode.PROGRAM_SIGNATURE_MISMATCH: _entry(
        "INVALID_ARGUMENT",
        "The program's arguments or results are not those of its manifest.",
        "Make artifact and manifest together with the SDK.",
    ),
    ErrorCode.PROGRAM_DYNAMIC_SHAPE: _entry(
        "INVALID_ARGUMENT", "The program has shapes that are not fixed.", "Export it once per concrete shape."
    ),
    ErrorCode.PROGRAM_UNBOUNDED_LOOP: _entry(
        "INVALID_ARGUMENT",
        "The program has a loop whose number of rounds cannot be known before it runs.",
        "Use fori_loop or scan with a fixed count, or chargepool.bounded_while, which says how many rounds "
        "it makes at most; or make it a step program.",
    ),
    ErrorCode.PROGRAM_CUSTOM_PYTREE: _entry(
        "INVALID_ARGUMENT",
        "The function takes or returns a container other than dict, list, tuple or None.",
        "Convert named tuples and custom classes to plain dicts or tuples at the edge of the function.",
    ),
    ErrorCode.PROGRAM_COMPILE_LIMIT: _entry(
        "INVALID_ARGUMENT",
        "The program needs too much time or memory to compile or to run.",
        "Make the program smaller, or split the work into more tasks.",
    ),
    ErrorCode.PROGRAM_UNITS_DIFFER: _entry(
        "INVALID_ARGUMENT",
        "The program's states depend on how its steps are cut into units.",
        "Let a step read nothing but state, inputs and constants; count steps in the state.",
    ),
    ErrorCode.PROGRAM_NOT_REPRODUCIBLE: _entry(
        "INVALID_ARGUMENT",
        "Two runs of the program under one and the same setting return different bits.",
        "Make it depend on its inputs alone, or prove its results with a certificate.",
    ),
    ErrorCode.PROGRAM_DIGEST_MISMATCH: _entry(
        "DATA_LOSS",
        "The program's bytes are not those that its manifest names.",
        "Transfer the program again.",
    ),
    ErrorCode.PROGRAM_NOT_ADMITTED: _entry(
        "FAILED_PRECONDITION",
        "The pool has not admitted this program.",
        "Admit the program first, then use its id.",
    ),
    ErrorCode.PROGRAM_FAILED: _entry(
        "INVALID_ARGUMENT", "The program failed while it ran.", "Run it with .local() on the same inputs."
    ),
    ErrorCode.ADMISSION_FAILED: _entry(
        "UNAVAILABLE",
        "The check of the program could not be completed.",
        "Try again; then ask the operator.",
        retryable=True,
    ),
    ErrorCode.INSUFFICIENT_FUNDS: _entry(
        "FAILED_PRECONDITION",
        "There is not enough money in the account.",
        "Make a deposit, or lower the job's cap.",
    ),
    ErrorCode.BUDGET_EXCEEDED: _entry(
        "FAILED_PRECONDITION", "The job would cost more than its cap.", "Raise the cap, or send fewer tasks."
    ),
    ErrorCode.SPEND_LIMIT_REACHED: _entry(
        "FAILED_PRECONDITION",
        "The job's budget is more than may still be spent.",
        "Lower the job's budget to what is left, end jobs that need no more, or ask the operator for more.",
    ),
    ErrorCode.QUOTE_EXPIRED: _entry(
        "FAILED_PRECONDITION", "The quote is no longer valid.", "Ask for a new quote."
    ),
    ErrorCode.PRICE_ABOVE_CAP: _entry(
        "FAILED_PRECONDITION",
        "The price is above what the job pays at most.",
        "Raise the job's price cap, or let the job wait for a lower price. Nothing was spent.",
    ),
    ErrorCode.JOB_CLOSED: _entry("FAILED_PRECONDITION", "The job takes no more tasks.", "Create a new job."),
    ErrorCode.TRANSFER_STATE: _entry(
        "FAILED_PRECONDITION",
        "The transfer was posted, voided or expired before.",
        "Read the transfer; it is final.",
    ),
    ErrorCode.PAYOUT_STATE: _entry(
        "FAILED_PRECONDITION",
        "The payout run is not in a state that allows this.",
        "Look at the run, then decide.",
    ),
    ErrorCode.FOUR_EYES: _entry(
        "PERMISSION_DENIED", "A second operator must do this.", "Ask another operator to approve it."
    ),
    ErrorCode.JOURNAL_CORRUPT: _entry(
        "DATA_LOSS", "The agent's journal is damaged.", "Run `car-agent doctor`; it says what can be saved."
    ),
    ErrorCode.WORKER_LOST: _entry(
        "UNAVAILABLE",
        "The worker process ended before the work did.",
        "The agent starts another.",
        retryable=True,
    ),
    ErrorCode.OPTED_OUT: _entry(
        "FAILED_PRECONDITION", "The owner has not opted in.", "Opt in on the dashboard."
    ),
}

#: What each code means to the outside. A test holds it total over `ErrorCode`.
CATALOGUE: Mapping[ErrorCode, ErrorEntry] = MappingProxyType(_CATALOGUE)
