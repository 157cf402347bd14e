"""Makes operators, and tokens for them, on the pool's own machine: in its database, with its keys at hand.

Not over the network: an operator who could make another one, or a token of a colleague's, would be the second
pair of eyes that every payout and entry needs. Whoever has the pool's machine and keys has the pool anyway.
"""

from pathlib import Path
from typing import NamedTuple

from pool_protocol.clock import Clock
from pool_protocol.system import IdSource
from pool_server.app.principals import CreatePrincipal, create_principal
from pool_server.config import ServerConfig
from pool_server.identity.directory import PoolDirectory
from pool_server.identity.signing import PoolSigner
from pool_server.identity.tokens import new_token
from pool_server.main.wiring import database_url, load_keys, money_terms, read_facts
from pool_server.ports.shell import Role
from pool_server.store.engine import open_engine
from pool_server.store.unit_of_work import SqlUnitOfWork


class OperatorMade(NamedTuple):
    """An operator and a token, shown this once."""

    operator_id: str
    token: str
    token_id: str


def make_operator(
    data: Path,
    *,
    name: str,
    operator_id: str = "",
    token_expires_at_us: int = 0,
    config: ServerConfig,
    clock: Clock,
    id_source: IdSource,
) -> OperatorMade:
    """Make an operator with a token, or one more token for one; the pool may run meanwhile.

    Args:
        data: The pool's data directory.
        name: For lists; of a new operator.
        operator_id: An existing operator; empty makes a new one.
        token_expires_at_us: When the token ends; 0 for never.
        config: The pool's settings: they say where its database is.
        clock: Wall time.
        id_source: Randomness.

    Raises:
        PoolError: NOT_FOUND without a pool or such an operator; KEY_INVALID without the pool's keys;
            INVALID_ARGUMENT for the name or the expiry.
    """
    directory = PoolDirectory(data)
    facts = read_facts(directory, config)
    keys = load_keys(directory, facts)
    token = new_token(Role.OPERATOR, id_source)
    command = CreatePrincipal(
        role=Role.OPERATOR,
        name=name,
        principal_id=operator_id,
        new_principal_id=id_source.new_operator_id(),
        token_id=token.token_id,
        token_sha256=token.token_sha256,
        token_expires_at_us=token_expires_at_us,
    )
    engine = open_engine(database_url(directory, config))
    try:
        signer = PoolSigner(pool_id=facts.pool_id, keys=keys, id_source=id_source, clock=clock)
        terms = money_terms(config, pool_id=facts.pool_id, currency=facts.currency)
        with engine.begin() as connection:
            uow = SqlUnitOfWork(connection, receipt_issuer=signer, terms=terms)
            made = create_principal(uow, command, now_us=clock.now_us())
    finally:
        engine.dispose()
    return OperatorMade(made.principal_id, token.text, token.token_id)
