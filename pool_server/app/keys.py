"""The pool's root documents: read, and published one version after the other.

The document itself, its rules and its signatures are `pool_protocol.roots`; here it is bytes with a version.
"""

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.ports.shell import SETTING_SIGNING_KEY, RootRecord
from pool_server.ports.unit_of_work import UnitOfWork


def roots_after(uow: UnitOfWork, version: int) -> list[bytes]:
    """Return the serialized signed roots newer than `version`, oldest first."""
    return [root.signed_root for root in uow.settings.roots_after(version)]


def publish_root(
    uow: UnitOfWork, *, version: int, signed_root: bytes, signing_keys: dict[str, str], now_us: int
) -> None:
    """Store the next root and which keys sign from now on.

    Args:
        uow: The transaction.
        version: The root's version.
        signed_root: The serialized SignedRoot.
        signing_keys: Key ids by role.
        now_us: Wall time.

    Raises:
        PoolError: CONFLICT when another root was published meanwhile.
    """
    newest = max((root.version for root in uow.settings.roots_after(0)), default=0)
    if version != newest + 1:
        raise PoolError(ErrorCode.CONFLICT, f"the newest root is {newest}, not {version - 1}")
    uow.settings.add_root(RootRecord(version=version, signed_root=signed_root, created_at_us=now_us))
    for role, key_id in signing_keys.items():
        uow.settings.put(SETTING_SIGNING_KEY + role, key_id)


def signing_key_id(uow: UnitOfWork, role: str) -> str:
    """Return the id of the key that signs for a role now.

    Raises:
        PoolError: NOT_FOUND when none was published.
    """
    key_id = uow.settings.get(SETTING_SIGNING_KEY + role)
    if key_id is None:
        raise PoolError(ErrorCode.NOT_FOUND, f"no key signs for {role}")
    return key_id
