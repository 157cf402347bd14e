"""The schema's history. `upgrade` brings a database to the present schema; it is safe to run at every start.

Each revision is one file in `versions/`, frozen once released; `scripts/new_migration.py` drafts the next one
from the models. A test proves that all revisions together build exactly what models and triggers describe.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine

_HERE = Path(__file__).parent


def config(connection: Connection) -> Config:
    """Return Alembic's configuration for these revisions on an open connection."""
    settings = Config()
    settings.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    return settings


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest schema, in one transaction: all of it happens or nothing."""
    with engine.begin() as connection:
        command.upgrade(config(connection), "head")


def current_revision(engine: Engine) -> str | None:
    """Return the revision that a database is at; None before the first."""
    with engine.begin() as connection:
        return MigrationContext.configure(connection).get_current_revision()
