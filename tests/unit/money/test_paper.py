"""The papers' layout: the same bytes, everything on it, nothing cut that is a figure, boxes said plainly."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool_protocol import amounts
from pool_server.core.buyer_month import BuyerMonth, DocumentKind
from pool_server.core.issuer import Issuer
from pool_server.core.particulars import EMPTY, Particulars
from pool_server.core.statement import LineKind, StatementLine, make_statement
from pool_server.reports.csv_file import typed
from pool_server.reports.paper import Column, Paper, Table, pages_of, render
from pool_server.reports.papers_of_buyers import invoice_pdf
from pool_server.reports.papers_of_owners import statement_pdf
from pool_server.reports.type_faces import BOX, can_show, fitted, printable_locale, shown, width_of, wrapped
from tests.support.repository import ROOT

ISSUER = Issuer(
    pool_id="pool_x",
    name="Pool",
    address_lines=(),
    vat_id="",
    terms=("Terms of the pool.",),
    document=DocumentKind.USAGE_STATEMENT,
    vat_ppm=0,
    fee_ppm=100_000,
    dispute_window_us=86_400_000_000,
)
COLUMNS = (Column(title="What", share=2), Column(title="Amount", share=1, is_number=True))


def paper(rows: int = 3) -> Paper:
    return Paper(
        title="Title",
        subtitle="November 2026",
        issuer=("Pool",),
        recipient=("Olga",),
        facts=(("Number", "17"),),
        figures=(("Sum", "1.00 EUR"),),
        tables=(
            Table(
                heading="Lines",
                columns=COLUMNS,
                rows=tuple((f"row-{number}", f"{number}.00") for number in range(rows)),
                totals=(("Total", "9.99"),),
            ),
        ),
        notes=("A note.",),
        terms=("Small print.",),
        footer="foot",
    )


def texts(content: bytes) -> str:
    """What the pages say, as far as it is ASCII: the faces keep its codes."""
    said = []
    for encoded in re.findall(rb"/ASCII85Decode /FlateDecode.*?stream\r?\n(.*?)~>", content, re.DOTALL):
        page = zlib.decompress(base64.a85decode(encoded))
        said += [text.decode("latin-1") for text in re.findall(rb"\(((?:[^()\\]|\\.)*)\) Tj", page)]
    return "\n".join(text.replace("\\(", "(").replace("\\)", ")") for text in said)


def test_the_same_paper_is_the_same_bytes_and_carries_no_time() -> None:
    content = render(paper())
    assert content == render(paper())
    assert content != render(replace(paper(), footer="another"))
    assert b"/CreationDate (D:2000" in content, "the date of every reproducible file"


def test_another_process_sets_the_same_bytes() -> None:
    script = "import sys; from tests.unit.money.test_paper import paper, render; "
    script += "sys.stdout.buffer.write(render(paper()))"
    environment = {**os.environ, "PYTHONHASHSEED": "17", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, check=True, timeout=60
    )
    assert done.stdout == render(paper())


def test_everything_is_on_it() -> None:
    said = texts(render(paper()))
    for text in ("Title", "November 2026", "Olga", "Number", "17", "1.00 EUR", "row-2", "9.99", "A note."):
        assert text in said
    assert "Page 1 of 1" in said


def test_long_tables_go_on_with_their_header_and_numbered_pages() -> None:
    content = render(paper(rows=120))
    said = texts(content)
    pages = pages_of(content)
    assert pages == 3
    assert [f"Page {page} of {pages}" in said for page in range(1, pages + 1)] == [True] * pages
    assert said.count("What") == pages
    assert all(f"row-{number}\n" in said for number in range(120))


@pytest.mark.parametrize("rows", range(38, 50))
def test_nothing_is_lost_at_the_foot_of_a_page(rows: int) -> None:
    said = texts(render(paper(rows=rows)))
    assert all(f"row-{number}\n" in f"{said}\n" for number in range(rows))
    assert "9.99" in said
    assert "Small print." in said


def test_a_figure_is_set_smaller_but_never_cut() -> None:
    huge = amounts.amount(-(10**40), "EUR")
    table = Table(heading="h", columns=COLUMNS, rows=(("here", huge),), totals=(("x" * 300, huge),))
    said = texts(render(replace(paper(), tables=(table,), figures=(("Sum", huge),))))
    assert said.count(huge) == 3
    assert "x" * 300 not in said, "words are cut, with an ellipsis"


def test_names_in_many_scripts_print_and_what_cannot_is_said() -> None:
    for name in ("José Łukasz", "Ольга", "Ελένη", "Գարուն", "ანა", "Ġorġ Şahin"):
        assert can_show(name)
        assert shown(name) == name
    assert shown("山田 Taro") == f"{BOX}{BOX} Taro"
    assert shown("שלום") == BOX * 4, "read from right to left"
    assert shown("مرحبا") == BOX * 5
    assert shown("a\u200db") == "ab", "a joiner shows nothing by itself"
    content = texts(render(replace(paper(), recipient=("山田",))))
    assert "cannot show" in content
    assert "cannot show" not in texts(render(paper()))


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_any_text_can_be_set(text: str) -> None:
    ready = shown(text)
    assert can_show(ready) == (BOX not in ready)
    assert width_of(fitted(ready, 60, bold=False, size=8), bold=False, size=8) <= 60
    lines = wrapped(ready, 60, bold=True, size=8)
    assert "".join("".join(lines).split()) == "".join(ready.split())


@pytest.mark.parametrize(
    ("locale", "used"),
    [("de_DE", "de_DE"), ("", "en_GB"), ("ja_JP", "ja_JP"), ("ar_EG", "ar_EG"), ("he_IL", "en_GB")],
)
def test_a_locale_whose_months_cannot_be_printed_falls_back(locale: str, used: str) -> None:
    assert printable_locale(locale) == used


def test_a_statement_of_nothing_and_one_of_everything_can_be_printed() -> None:
    empty = make_statement(month="2026-11", currency="EUR", opening_micros=0, lines=())
    said = texts(statement_pdf(empty, owner_id="owner_a", owner_name="A", particulars=EMPTY, issuer=ISSUER))
    assert "Nothing happened on the account in this month." in said
    assert "not told" in said
    lines = [
        StatementLine(at_us=1_793_491_200_000_000, kind=kind, reference=f"r-{kind}", net_micros=-5)
        for kind in LineKind
    ]
    full = make_statement(month="2026-11", currency="EUR", opening_micros=10**15, lines=lines)
    german = Particulars(locale="de_DE", display_name="Jürgen", address_lines=("Weg 1",), country="DE")
    said = texts(statement_pdf(full, owner_id="owner_a", owner_name="A", particulars=german, issuer=ISSUER))
    assert all(f"r-{kind}" in said for kind in LineKind)
    assert "1.000.000.000,000000" in said
    assert "01.11.2026" in said
    assert "10 %" in said
    assert "held for 1 day in case" in said
    assert "Terms of the pool." in said


@pytest.mark.parametrize(
    ("kind", "number", "title"),
    [
        (DocumentKind.INVOICE, "INV-2026-000001", "Invoice"),
        (DocumentKind.USAGE_STATEMENT, "USE-2026-000001", "Statement of prepaid usage"),
        (DocumentKind.INVOICE, "", "Preview: invoice"),
    ],
)
def test_a_buyers_paper_says_what_it_is(kind: DocumentKind, number: str, title: str) -> None:
    month = BuyerMonth(
        buyer_id="buyer_b",
        month="2026-11",
        currency="EUR",
        opening_micros=7,
        charges=(),
        entries=(),
        closing_micros=7,
    )
    said = texts(
        invoice_pdf(
            month,
            number=number,
            kind=kind,
            issued_at_us=1_796_083_200_000_000,
            buyer_name="Bea",
            particulars=EMPTY,
            issuer=ISSUER,
        )
    )
    assert title in said
    assert (number or "none: the month is not over") in said
    assert ("This is no invoice" in said) == (kind is DocumentKind.USAGE_STATEMENT)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49", "'+49"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("a\r\n=b", "a =b"),
        ("Olga", "Olga"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(text: str, cell: str) -> None:
    assert typed(text) == cell
