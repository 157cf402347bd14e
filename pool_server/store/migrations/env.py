"""What Alembic runs for every command: revisions on the caller's connection, in its transaction."""

from alembic import context

from pool_server.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # Our connections begin their transactions themselves, so DDL rolls back with the rest, on SQLite too.
    transactional_ddl=True,
)
context.run_migrations()
