"""The pool's keys as operators see them; a new lease or receipt key in a new root document."""

import asyncio

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey
from pool_protocol.roots import Role, TrustedRoot, open_first_root, open_root_chain
from pool_protocol.system import IdSource
from pool_server.app.keys import publish_root, roots_after
from pool_server.identity.directory import PoolDirectory
from pool_server.identity.signing import PoolKeys, rotated_root
from pool_server.rpc.store_access import StoreAccess


class KeyDesk:
    """Shows and rotates keys."""

    def __init__(
        self, *, store: StoreAccess, keys: PoolKeys, directory: PoolDirectory, id_source: IdSource
    ) -> None:
        self._store = store
        self._keys = keys
        self._directory = directory
        self._ids = id_source
        self._rotating = asyncio.Lock()

    async def roots(self) -> list[bytes]:
        """Return every version of the signed root, oldest first."""
        return await self._store.read(lambda uow: roots_after(uow, 0))

    def in_force(self) -> list[tuple[Role, SigningKey]]:
        """Return the keys that sign now, by role. Callers show their public halves only."""
        return [(role, self._keys.key(role)) for role in (Role.PROGRAM, Role.LEASE, Role.RECEIPT)]

    async def rotate(self, role_text: str) -> tuple[str, int]:
        """Replace the lease key, or add a new receipt key; return the new key's id and the root's version.

        1. The root keys that the threshold asks for are here (not offline). 2. The new key is on disk. 3. The
        new root is published. 4. Only now the server signs with the new key.

        Raises:
            PoolError: INVALID_ARGUMENT for another role; KEY_INVALID when root keys are offline; CONFLICT.
        """
        try:
            role = Role(role_text)
        except ValueError as error:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT, "a role is lease or receipt", context={"field": "role"}
            ) from error
        async with self._rotating:
            now_us = self._store.now_us()
            trusted = await self._trusted(now_us)
            new_key = SigningKey.generate(self._ids)
            root_keys = self._root_keys(trusted)
            root = rotated_root(trusted, role=role, new_key=new_key, root_keys=root_keys, now_us=now_us)
            await asyncio.to_thread(self._directory.save_signing_key, role.value, new_key)
            await self._store.write(
                lambda uow: publish_root(
                    uow,
                    version=root.version,
                    signed_root=root.signed_root,
                    signing_keys={role.value: str(new_key.key_id)},
                    now_us=now_us,
                )
            )
            self._keys.replace(role, new_key)
            return str(new_key.key_id), root.version

    async def _trusted(self, now_us: int) -> TrustedRoot:
        roots = await self.roots()
        # Expiry is what a rotation mends, so the chain is walked as of its first day.
        first = open_first_root(roots[0], now_us=0)
        return open_root_chain(roots[1:], first, now_us=0) if len(roots) > 1 else first

    def _root_keys(self, trusted: TrustedRoot) -> list[SigningKey]:
        found: list[SigningKey] = []
        missing: list[str] = []
        for key in trusted.document.keys[Role.ROOT]:
            try:
                found.append(self._directory.load_signing_key(Role.ROOT.value, key.key_id))
            except PoolError as error:
                missing.append(error.detail)
        if len(found) < trusted.document.root_threshold:
            raise PoolError(
                ErrorCode.KEY_INVALID,
                f"{trusted.document.root_threshold} root keys must sign, {len(found)} are here: {missing}",
                context={"needed": str(trusted.document.root_threshold), "found": str(len(found))},
            )
        return found
