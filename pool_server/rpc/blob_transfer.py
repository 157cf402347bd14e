"""Blobs over gRPC, for vehicles and buyers alike: pieces in, pieces out, with rights and quota."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import parse_blob_id
from pool_server.app.blobs import record_blob, require_readable, require_room
from pool_server.ports.shell import BlobStore
from pool_server.rpc.store_access import StoreAccess


class BlobTransfer:
    """Receives and sends blobs."""

    def __init__(self, *, store: StoreAccess, blob_store: BlobStore, bytes_per_holder_max: int) -> None:
        self._store = store
        self._blob_store = blob_store
        self._bytes_per_holder_max = bytes_per_holder_max
        # Bytes of uploads under way, by holder: they count against its share before they are recorded.
        self._arriving: defaultdict[str, int] = defaultdict(int)

    async def receive(self, pieces: AsyncIterator[tuple[str, bytes]], *, holder: str) -> int:
        """Take an upload and return the blob's length; it is durable and the holder may read it.

        Args:
            pieces: Name and bytes; the first piece carries the name.
            holder: Who uploads.

        Raises:
            PoolError: INVALID_ARGUMENT when the first piece has no name or a later one another;
                BLOB_TOO_LARGE for the blob or the holder's share; BLOB_DIGEST_MISMATCH.
        """
        first = await anext(aiter(pieces), None)
        if first is None:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, "an upload has at least one message")
        blob_sha256 = parse_blob_id(first[0])
        used = await self._require_room(holder)
        upload = await asyncio.to_thread(self._blob_store.begin, blob_sha256)
        arrived = 0

        async def take(chunk: bytes) -> None:
            nonlocal arrived
            arrived += len(chunk)
            self._arriving[holder] += len(chunk)
            if used + self._arriving[holder] > self._bytes_per_holder_max:
                await self._require_room(holder)
            await asyncio.to_thread(upload.write, chunk)

        try:
            await take(first[1])
            async for name, chunk in pieces:
                if name not in {"", blob_sha256}:
                    raise PoolError(ErrorCode.INVALID_ARGUMENT, "one upload carries one blob")
                await take(chunk)
            # Again: uploads side by side share what was free when each began.
            await self._require_room(holder)
            size_bytes = await asyncio.to_thread(upload.finish)
            now_us = self._store.now_us()
            await self._store.write(
                lambda uow: record_blob(
                    uow, blob_sha256, size_bytes=size_bytes, uploader=holder, now_us=now_us
                )
            )
        finally:
            self._arriving[holder] -= arrived
            if not self._arriving[holder]:
                del self._arriving[holder]
            await asyncio.to_thread(upload.close)
        return size_bytes

    async def _require_room(self, holder: str) -> int:
        """Return the bytes that a holder keeps, if what arrives still fits beside them.

        Raises:
            PoolError: BLOB_TOO_LARGE.
        """
        return await self._store.read(
            lambda uow: require_room(
                uow,
                holder,
                arriving_bytes=self._arriving.get(holder, 0),
                bytes_max=self._bytes_per_holder_max,
            )
        )

    async def send(
        self, blob_sha256: str, *, offset: int, holder: str
    ) -> AsyncGenerator[tuple[bytes, int], None]:
        """Yield pieces of a blob from an offset, each with the whole length; at least one piece.

        Raises:
            PoolError: INVALID_ARGUMENT for the name or an offset behind the end; BLOB_MISSING;
                BLOB_DIGEST_MISMATCH when what lies in the store was damaged.
        """
        name = parse_blob_id(blob_sha256)
        size_bytes = await self._store.read(lambda uow: require_readable(uow, name, holder=holder))
        if offset > size_bytes:
            raise PoolError(ErrorCode.INVALID_ARGUMENT, f"offset {offset} is behind the end {size_bytes}")
        content = await asyncio.to_thread(self._blob_store.get, name)
        position = offset
        while True:
            chunk = content[position : position + limits.BLOB_CHUNK_BYTES]
            yield chunk, size_bytes
            position += len(chunk)
            if position >= size_bytes:
                return
