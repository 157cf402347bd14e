"""`pool-server init`: makes a pool and says what it made."""

import os
from pathlib import Path

import click

from pool_server.cli.output import json_option, print_json, print_pairs


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory to make the pool in; must not exist, or be empty.",
)
@click.option(
    "--pool-name",
    default="chargepool",
    show_default=True,
    help="Lower-case letters, digits, dashes; the pool's id begins with it.",
)
@click.option(
    "--currency", default="EUR", show_default=True, help="ISO 4217 code of the pool's one currency."
)
@click.option(
    "--database-url",
    help="PostgreSQL instead of the embedded database: postgresql://user@host/database, an empty one. Kept "
    "in pool.toml; a password is better kept in CHARGEPOOL_SERVER_DATABASE_URL.",
)
@json_option
def init(*, data: Path, pool_name: str, currency: str, database_url: str | None, as_json: bool) -> None:
    """Make a pool: keys, certificate authority, database, settings, first operator."""
    # Imported here: operator commands need neither database nor keys, and should start at once.
    from pool_protocol.system import SystemClock, SystemIds
    from pool_server.config import load_config
    from pool_server.main.initialize import initialize_pool
    from pool_server.main.wiring import url_without_password

    config = load_config(None, environment=os.environ, overrides={"database_url": database_url})
    made = initialize_pool(
        data,
        pool_name=pool_name,
        currency=currency,
        config=config,
        clock=SystemClock(),
        id_source=SystemIds(),
        write_database_url=database_url is not None,
    )
    database = url_without_password(config.database_url) or str(made.data / "pool.sqlite3")
    if as_json:
        print_json(
            {
                "data": str(made.data),
                "database": database,
                "pool_id": made.pool_id,
                "currency": made.currency,
                "operator_id": made.operator_id,
                "operator_token_file": str(made.operator_token_file),
                "ca_file": str(made.ca_file),
                "config_file": str(made.config_file),
                "root_key_file": str(made.root_key_file),
                "key_ids": made.key_ids,
            }
        )
        return
    click.echo(f"Made pool {made.pool_id} in {made.data}\n")
    print_pairs(
        [
            ("settings", str(made.config_file)),
            ("database", database),
            ("CA certificate (public: give it to every client)", str(made.ca_file)),
            ("first operator", made.operator_id),
            ("first operator's token (secret, mode 0600)", str(made.operator_token_file)),
            *[(f"{role} key", key_id) for role, key_id in sorted(made.key_ids.items())],
        ]
    )
    if config.database_url and database_url is None:
        click.echo(
            "\nKeep CHARGEPOOL_SERVER_DATABASE_URL set wherever the pool is run: pool.toml does not hold it."
        )
    click.echo(
        f"\nTake the root key offline once all is set up: move {made.root_key_file}\n"
        "to another machine and put it back only to rotate keys.\n"
        "\nNext:\n"
        f"  pool-server run --data {made.data}\n"
        f"  pool-server --data {made.data} principals create --role buyer --name Alice"
    )
