"""Command-line options for an account's particulars: the same for owners, buyers and operators.

Which values are good is decided by the pool; here they are only named and explained. A field that is not
given stays as it is; `--clear FIELD` empties it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from pool_protocol.v1 import particulars_service_pb2 as pb

#: Field, option, what it is. In the order in which they are shown.
FIELDS: tuple[tuple[str, str, str], ...] = (
    ("locale", "--locale", "How amounts and dates are written for you: de_DE, en_GB."),
    ("display_name", "--name", "The name that papers carry."),
    ("address_lines", "--address-line", "A line of the address; give it once per line, at most 5 times."),
    ("country", "--country", "Two letters of ISO 3166: DE, US."),
    ("kind", "--kind", "person or company."),
    ("tax_id", "--tax-id", "Your number at the tax authority (TIN)."),
    ("birth_date", "--birth-date", "Of a person, for DAC7 reports: 1984-03-21."),
    ("vat_id", "--vat-id", "VAT number with its country in front: DE123456789."),
    ("vat_scheme", "--vat-scheme", "standard, reverse_charge or exempt."),
)
NAMES = tuple(field for field, _, _ in FIELDS)
Command = Callable[..., Any]


def particulars_options(command: Command) -> Command:
    """Add an option per field and `--clear`; the command gets them as keywords, and as `clear`."""
    for field, option, words in reversed(FIELDS):
        command = click.option(option, field, help=words, multiple=field == "address_lines")(command)
    return click.option(
        "--clear", multiple=True, type=click.Choice(NAMES), help="Empty this field; may be given often."
    )(command)


def changed(kept: pb.Particulars, given: Mapping[str, Any], clear: Sequence[str]) -> pb.Particulars:
    """Return particulars with what was given on the command line, and without what was cleared.

    Raises:
        click.UsageError: nothing was given, or the same field was given and cleared.
    """
    wanted = {name: value for name, value in given.items() if value not in (None, ())}
    both = sorted(set(wanted) & set(clear))
    if both:
        raise click.UsageError(f"{both[0]} is given and cleared: which is it?")
    if not wanted and not clear:
        raise click.UsageError("Nothing to set: give at least one option, for example --locale de_DE.")
    left = {name: value for name, value in plain(kept).items() if name not in clear}
    return pb.Particulars(**(left | wanted))


def shown(particulars: pb.Particulars) -> list[tuple[str, str]]:
    """Return names and values for a person; a dash where nothing was set."""
    return [
        (
            option.removeprefix("--"),
            " / ".join(particulars.address_lines)
            if field == "address_lines"
            else getattr(particulars, field),
        )
        for field, option, _ in FIELDS
    ]


def plain(particulars: pb.Particulars) -> dict[str, Any]:
    """Return particulars for JSON."""
    return {
        field: list(particulars.address_lines) if field == "address_lines" else getattr(particulars, field)
        for field in NAMES
    }
