"""Who may put and read blobs. The bytes are in the blob store; here are the rights and the quota.

A blob's name is the hash of its bytes, which anyone who has the bytes knows: the name alone therefore opens
nothing. A holder may read what it brought and what it was granted: a vehicle what its leases name, a buyer
the outputs of its tasks.
"""

from collections.abc import Sequence

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.ports.unit_of_work import UnitOfWork


def require_room(uow: UnitOfWork, holder: str, *, arriving_bytes: int, bytes_max: int) -> int:
    """Refuse an upload of a holder that has used its share; return the bytes that it keeps.

    Args:
        uow: A query.
        holder: Who uploads.
        arriving_bytes: What its uploads under way have brought and nobody has recorded yet.
        bytes_max: Its share.

    Raises:
        PoolError: BLOB_TOO_LARGE.
    """
    used = uow.blobs.uploaded_bytes(holder)
    if used >= bytes_max or used + arriving_bytes > bytes_max:
        raise PoolError(
            ErrorCode.BLOB_TOO_LARGE,
            f"{holder} keeps {used} bytes, allowed are {bytes_max}",
            context={"limit": str(bytes_max), "used": str(used)},
        )
    return used


def record_blob(uow: UnitOfWork, blob_sha256: str, *, size_bytes: int, uploader: str, now_us: int) -> None:
    """Note a blob that is durable in the blob store."""
    uow.blobs.add(blob_sha256, size_bytes=size_bytes, uploader=uploader, now_us=now_us)


def require_readable(uow: UnitOfWork, blob_sha256: str, *, holder: str) -> int:
    """Return a blob's length if the holder may read it.

    Raises:
        PoolError: BLOB_MISSING, the same for one that is not there and one that is another's.
    """
    size_bytes = uow.blobs.size(blob_sha256)
    if size_bytes is None or not uow.blobs.may_read(blob_sha256, holder=holder):
        raise PoolError(
            ErrorCode.BLOB_MISSING, f"{holder} holds no blob {blob_sha256}", context={"sha256": blob_sha256}
        )
    return size_bytes


def require_held(uow: UnitOfWork, blob_sha256s: Sequence[str], *, holder: str) -> None:
    """Refuse a request that names blobs which its sender may not read.

    Raises:
        PoolError: BLOB_MISSING.
    """
    for blob_sha256 in dict.fromkeys(blob_sha256s):
        require_readable(uow, blob_sha256, holder=holder)


def grant_outputs(uow: UnitOfWork, blob_sha256s: Sequence[str], *, lease_id: int) -> None:
    """Let the buyer of a lease's job read outputs that a vehicle handed in."""
    lease = uow.leases.get(lease_id)
    job = None if lease is None else uow.jobs.get(lease.job_id)
    if job is not None:
        uow.blobs.grant(blob_sha256s, holder=job.buyer_id)
