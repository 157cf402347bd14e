"""Who gives out the pool's papers, and how it classifies what it reports: settings as values."""

from dataclasses import dataclass

from pool_server.core.buyer_month import DocumentKind
from pool_server.core.yearly import FormRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """The pool as it stands on papers."""

    pool_id: str
    name: str
    """Legal name; the pool's id where none was set."""
    address_lines: tuple[str, ...]
    vat_id: str
    terms: tuple[str, ...]
    """Paragraphs at the end of statements and invoices."""
    document: DocumentKind
    """What buyers are given."""
    vat_ppm: int
    """Rate of value added tax, parts per million; amounts include it."""
    fee_ppm: int
    dispute_window_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRules:
    """How yearly totals are classified."""

    dac7_activity: str
    """What owners do, in the Directive's words: an operator's decision."""
    form: FormRule
