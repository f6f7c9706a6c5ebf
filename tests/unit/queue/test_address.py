"""Addresses of queues: which are taken, the remedies for others, and that no password is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqsup.errors import SeqsupError
from seqsup.queue.address import EMBEDDED, parse, selected, shown

WRONG = [
    "", "queue", "postgresql", "postgresql:host/db", "postgresql://", "postgresql:///", "postgres//host/db",
    "mysql://host/db", "redis://host", "/var/lib/queue.db", "postgresql://ho st/db", "postgresql://host:x/db",
    "postgresql://host:0/db", "postgresql://u:p@host:99999/db", "postgresql://host/\ndb", "Embedded",
]  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        EMBEDDED, "postgresql://host/db", "postgres://me@host:5432/db?sslmode=verify-full", "postgresql://u:p:q@h/db",
        "postgresql:///db?host=/run/postgresql", "postgresql://[::1]:5433/db", "postgresql://a:1,b:2/db",
    ],
)  # fmt: skip
def test_addresses_are_taken_as_they_are(url: str) -> None:
    assert parse(url) == url


@pytest.mark.parametrize("url", WRONG)
def test_another_address_gets_a_remedy(url: str) -> None:
    with pytest.raises(ValueError, match=r"postgresql://USER@HOST/DATABASE|from 1 to 65535"):
        parse(url)


PASSWORD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=5).filter(lambda text: "…" not in text)


def said(url: str) -> str:
    try:
        parse(url)
    except ValueError as error:
        return str(error)
    return ""


@given(PASSWORD)
def test_no_password_is_shown(password: str) -> None:
    urls = [f"postgresql://me:{password}@host/db", f"mysql://me:{password}@host/db"]
    if "&" not in password:
        urls.append(f"postgresql://host/db?user=me&password={password}")
    for url in urls:
        assert password not in shown(url).replace("//me", "").replace("host/db", "")
        assert password not in said(url).replace("postgresql", "").replace("DATABASE", "").replace("expected", "")


def test_an_address_without_a_password_is_shown_whole() -> None:
    url = "postgresql://me@host:5432/db?sslmode=verify-full"
    assert shown(url) == url


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQSUP_QUEUE", "postgresql://other/db")
    assert selected() == "postgresql://other/db"
    assert selected(EMBEDDED) == EMBEDDED
    assert selected("postgresql://host/db") == "postgresql://host/db"


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQSUP_QUEUE", "")
    assert selected() == EMBEDDED


def test_the_source_of_a_wrong_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQSUP_QUEUE", "mysql://me:hunter22@host/db")
    with pytest.raises(SeqsupError, match=r"^SEQSUP_QUEUE: a queue is in PostgreSQL, not in mysql: write") as caught:
        selected()
    assert "hunter22" not in str(caught.value)
    with pytest.raises(SeqsupError, match=r"^--queue: expected"):
        selected("nonsense")
