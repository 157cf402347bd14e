"""Creates the schema from the models, triggers included. Migrations build the same; a test says so."""

from sqlalchemy import Engine

from pool_server.store.tables import METADATA
from pool_server.store.triggers import triggers


def create_all(engine: Engine) -> None:
    """Create every table, index and trigger that is not there yet."""
    with engine.begin() as connection:
        METADATA.create_all(connection)
        for statement in triggers(engine.dialect.name):
            connection.exec_driver_sql(statement)
