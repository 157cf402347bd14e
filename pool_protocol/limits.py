"""Every size, count, age and depth that both sides of the wire must agree on, with its reason.

Pure numbers: `core` imports them. A limit that only one program needs lives in that program's
configuration; a limit that a message, a program or a signature is judged by lives here, so that a car and
the pool never disagree about it.
"""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

# --- messages -----------------------------------------------------------------------------------

#: One gRPC message. A lease of 256 tasks with inline tensors of 56 KiB each still fits; a 1 GiB message
#: is refused by the transport before it is read.
MESSAGE_BYTES_MAX = 16 * MIB
#: Tensors of one task or result that travel inside the message. Larger ones are blobs, so that a batch
#: of small tasks stays one message and a large task does not block the stream.
INLINE_TENSOR_BYTES_MAX = 64 * KIB
#: One blob in the store. Bounds what a car must hold in memory to check a digest.
BLOB_BYTES_MAX = 64 * MIB
#: One chunk of a streamed blob: large enough that the per-message cost vanishes, small enough to
#: interleave with other streams.
BLOB_CHUNK_BYTES = 1 * MIB
#: Bytes of an error's detail and of each context value that cross the wire.
ERROR_TEXT_CHARACTERS_MAX = 1024
#: Entries of an error's context that cross the wire: HTTP/2 trailers stay under 8 KiB.
ERROR_CONTEXT_ENTRIES_MAX = 16
#: A name that a person gives something (vehicle, job). Fits one line of any screen.
NAME_CHARACTERS_MAX = 80

# --- work ---------------------------------------------------------------------------------------

#: Tasks in one lease: a signature and a transaction are spread over hundreds of tasks; more would only
#: lengthen what is lost on unplug.
LEASE_TASKS_MAX = 256
#: Tasks in one AddTasks message, results in one submit.
TASKS_PER_REQUEST_MAX = 1024
RESULTS_PER_REQUEST_MAX = 1024
#: Tasks of one job. Row ids and screens stay handy; split larger sweeps into jobs.
TASKS_PER_JOB_MAX = 10_000_000
#: Work of one task, all steps together, micro-WU: 1e8 WU, more than a lease's longest life on a machine of
#: 4 PFLOP/s. Donated work has no price that would bound it, and sums of it must fit 64 bits.
TASK_WORK_UWU_MAX = 100_000_000_000_000
#: Tries of one task over all vehicles, honest failures, unplugs and audits together. A task that fails
#: this often is at fault itself, and the buyer must hear so.
ATTEMPTS_PER_TASK_MAX = 12
#: Errors (not unplugs) of one task before it is given up: a program that fails on four different cars
#: fails everywhere.
ERRORS_PER_TASK_MAX = 4
#: Agreeing attempts a job may ask for.
QUORUM_MAX = 8
#: A lease's life. The least leaves time for a program's first compilation on a slow car; the most bounds
#: how long a lost car holds money and tasks.
LEASE_LIFETIME_US_MIN = 10 * SECOND_US
LEASE_LIFETIME_US_MAX = 6 * HOUR_US
#: Step count of one unit that a step program may declare.
UNIT_STEPS_MAX = 1_000_000_000
#: Units of one step task: bounds the Merkle tree of committed states.
UNITS_PER_TASK_MAX = 65_536

# --- energy --------------------------------------------------------------------------------------

#: More than any vehicle's computer and everything around it draws; a figure beyond is a mistake.
COMPUTE_WATTS_MAX = 20_000
#: Dearer than electricity is in any currency: 100,000 units per kWh. A tariff may be as far below nothing.
TARIFF_MICROS_PER_KWH_MAX = 10**11

# --- identity and signatures --------------------------------------------------------------------

#: How far two honest clocks may differ. Cars set theirs from GNSS or the mobile network.
CLOCK_SKEW_US_MAX = 30 * SECOND_US
#: The longest life of an envelope: a replay guard must remember nonces this long.
ENVELOPE_LIFETIME_US_MAX = 7 * DAY_US
#: Header and body of an envelope together; equal to a message, which carries it.
ENVELOPE_BYTES_MAX = MESSAGE_BYTES_MAX
ENVELOPE_HEADER_BYTES_MAX = 1 * KIB
ENVELOPE_PAYLOAD_TYPE_BYTES_MAX = 128
ENVELOPE_NONCE_BYTES_MIN = 16
ENVELOPE_NONCE_BYTES_MAX = 64
#: Nonces that an in-memory replay guard keeps. Full means refuse, not forget.
REPLAY_NONCES_MAX = 100_000
#: A device code: long enough to walk to a screen, short enough that guessing it is hopeless.
DEVICE_CODE_LIFETIME_US = 15 * MINUTE_US
#: How often an agent asks whether its code was approved.
DEVICE_CODE_POLL_S = 2
#: Failed guesses per minute and caller before RATE_LIMITED. 40 bits of code at 10 a minute: never.
DEVICE_CODE_GUESSES_PER_MINUTE_MAX = 10
#: A vehicle certificate's life and when it is renewed: a month parked without network must not unpair.
VEHICLE_CERTIFICATE_LIFETIME_US = 60 * DAY_US
VEHICLE_CERTIFICATE_RENEW_BEFORE_US = 30 * DAY_US
#: A quote binds the pool this long.
QUOTE_LIFETIME_US = 15 * MINUTE_US
#: Root document: bytes, keys and signatures. Ten operators with spare keys fit.
ROOT_BYTES_MAX = 64 * KIB
ROOT_KEYS_MAX = 64
ROOT_LIFETIME_US_MAX = 400 * DAY_US
#: Leaves of one signed Merkle tree; a proof then has at most 40 hashes.
MERKLE_LEAVES_MAX = 2**40
#: A receipt stands in every tree head that is signed this long after it: time for a pool to catch up.
LOG_DELAY_US_MAX = HOUR_US
#: Receipts proved by one answer: a thousand paths of forty hashes are well under a message.
LOG_PROOFS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLimits:
    """What a decoder of tensors accepts."""

    bytes_max: int
    """Bytes of the whole encoded set."""
    tensors_max: int = 4096
    """Arrays in one set: a large model's parameters fit."""
    rank_max: int = 16
    """Dimensions of one array. XLA itself is content with any; 16 is beyond honest use."""
    name_bytes_max: int = 256
    """UTF-8 bytes of an array's name."""
    header_bytes_max: int = 1 * MIB
    """Bytes of the safetensors header."""


#: A task's inputs or outputs inside a message.
INLINE_TENSORS = TensorLimits(bytes_max=INLINE_TENSOR_BYTES_MAX, tensors_max=256)
#: A blob of tensors: constants, large inputs, outputs and checkpoints.
BLOB_TENSORS = TensorLimits(bytes_max=BLOB_BYTES_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramLimits:
    """What admission accepts. Defaults are the pool's published limits; tests use smaller ones."""

    artifact_bytes_max: int = 8 * MIB
    """Programs are code; data travels as constants. The largest honest artifact measured was 13 kB."""
    manifest_bytes_max: int = 1 * MIB
    constant_bytes_max: int = 4 * MIB
    """Bytes of all constants inside the program that are not one repeated value."""
    inlined_operations_max: int = 20_000
    """Operations once every call is inlined: 16 levels of doubling calls are 2 kB and never compile."""
    nesting_depth_max: int = 24
    """Regions inside regions. The walker recurses no deeper than this."""
    call_depth_max: int = 64
    """Calls inside calls."""
    functions_max: int = 2_000
    tensor_bytes_max: int = 2 * GIB
    """One value anywhere in the program: a 372 GiB iota is 0.9 kB of program."""
    tensor_rank_max: int = 32
    """Dimensions of one value inside a program."""
    arguments_max: int = 4_096
    argument_bytes_max: int = 2 * GIB
    """All arguments, or all results, of one call together."""
    peak_memory_bytes_max: int = 4 * GIB
    """What the compiler plans for: arguments, results and temporaries. Fits the smallest car computer."""
    work_uwu_max: int = 10_000_000_000_000
    """Of one task or step: 1e7 WU, a day of a 100 TFLOP/s device."""
    compile_wall_s: int = 60
    """Parse, vet and compile. 5,000 unrolled sines (12 s) pass; a call bomb that slipped through does not."""
    compile_address_space_bytes: int = 6 * GIB
    """Address space of the admission child: JAX itself reserves 1.7 GiB, the compiler gets the rest."""
    verdict_bytes_max: int = 32 * MIB
    """What the admission child may answer: manifest, plus the artifact written again, in base64."""


PROGRAM_LIMITS = ProgramLimits()
