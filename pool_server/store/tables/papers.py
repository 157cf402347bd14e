"""Tables of papers: accounts' particulars, and the documents that were issued to buyers."""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel

from pool_server.store.columns import big_int, blob, row_id, text


class AccountParticularsTable(SQLModel, table=True):
    """Who an account's holder is now; papers that were issued keep what they said."""

    __tablename__ = "account_particulars"
    __table_args__ = (
        CheckConstraint("kind IN ('', 'person', 'company')", name="particulars_kind_known"),
        CheckConstraint(
            "vat_scheme IN ('', 'standard', 'reverse_charge', 'exempt')", name="particulars_vat_scheme_known"
        ),
        CheckConstraint("kind <> 'company' OR birth_date = ''", name="particulars_company_not_born"),
    )
    principal_id: str = Field(sa_column=text(primary_key=True))
    locale: str = Field(sa_column=text())
    display_name: str = Field(sa_column=text())
    address: str = Field(sa_column=text())
    country: str = Field(sa_column=text())
    kind: str = Field(sa_column=text())
    tax_id: str = Field(sa_column=text())
    birth_date: str = Field(sa_column=text())
    vat_id: str = Field(sa_column=text())
    vat_scheme: str = Field(sa_column=text())
    set_by: str = Field(sa_column=text())
    set_at_us: int = Field(sa_column=big_int())


class BuyerDocumentTable(SQLModel, table=True):
    """Papers issued to buyers: numbered without gaps, append-only."""

    __tablename__ = "buyer_documents"
    __table_args__ = (
        CheckConstraint("document_id > 0", name="buyer_document_id_positive"),
        CheckConstraint("kind IN ('invoice', 'usage_statement')", name="buyer_document_kind_known"),
        CheckConstraint(
            "length(pdf_sha256) = 64 AND length(csv_sha256) = 64", name="buyer_document_hash_size"
        ),
        Index("buyer_document_month", "buyer_id", "month", unique=True),
        Index("buyer_document_number", "number", unique=True),
    )
    document_id: int = Field(sa_column=row_id())
    buyer_id: str = Field(sa_column=text())
    month: str = Field(sa_column=text())
    kind: str = Field(sa_column=text())
    number: str = Field(sa_column=text())
    total_micros: int = Field(sa_column=big_int())
    pdf: bytes = Field(sa_column=blob())
    pdf_sha256: str = Field(sa_column=text())
    csv: bytes = Field(sa_column=blob())
    csv_sha256: str = Field(sa_column=text())
    issued_at_us: int = Field(sa_column=big_int())
