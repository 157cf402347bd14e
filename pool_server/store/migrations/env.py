"""What Alembic runs for every command: revisions on the caller's connection, in its transaction."""

from alembic import context

from pool_server.store.tables import METADATA


def run() -> None:
    """Run what the command asks for."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=METADATA,
        # Our connections begin their transactions themselves, so DDL rolls back with the rest, on SQLite too.
        transactional_ddl=True,
    )
    context.run_migrations()


# Alembic loads this file under this name; as a module of the package it does nothing.
if __name__ == "env_py":
    run()
