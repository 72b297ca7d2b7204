"""Settings that name databases: what is accepted, and that no password is ever shown."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from policy_engine.cli.session import read_settings
from policy_engine.errors import InputRefused, StartRefused
from policy_engine.settings import Settings


@pytest.mark.parametrize("url", ["mysql://x/y", "engine.db", "postgres://x/y", "sqlite://"])
def test_other_databases_are_refused(url: str) -> None:
    """Only SQLite files and PostgreSQL are databases, and an operator's login is one of PostgreSQL."""
    with pytest.raises(ValidationError, match="must be a URL"):
        Settings(database=url)
    with pytest.raises(ValidationError, match="must be a URL") as refused:
        Settings.model_validate({"operator_database": "sqlite:///secret.db"})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///engine.db", "sqlite:///engine.db"),
        ("postgresql://pe:secret@db.example:5432/policy?password=secret", "postgresql://db.example:5432/policy"),
        ("postgresql+psycopg:///policy?user=pe&password=secret", "postgresql+psycopg:///policy"),
        ("postgresql://pe:sec@ret@db.example/policy", "postgresql://db.example/policy"),
    ],
)
def test_a_shown_database_has_no_password(url: str, shown: str) -> None:
    """What is printed and logged names scheme, host and database, and nothing that lets anybody in."""
    assert Settings(database=url).shown_database == shown


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("deny_statuses", "law=500", "POLICY_ENGINE_DENY_STATUSES: must be reason codes"),
        ("blocked_by", "no address", "POLICY_ENGINE_BLOCKED_BY, POLICY_ENGINE_DOCS_URL: blocked_by must be"),
    ],
)
def test_a_refused_setting_is_named_as_it_is_set(name: str, value: str, where: str) -> None:
    """The sentence begins with the variable to mend and holds no words of the library that read it."""
    with pytest.raises(InputRefused) as refused:
        read_settings(**{name: value})
    assert str(refused.value).startswith(where)


EMPTY_SAYS = {"key", "serving_region", "deny_statuses", "sample_world", "grpc_plaintext"}


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_an_empty_variable_is_refused_by_its_name_unless_that_says_something(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty host is no leave to listen everywhere, and an empty file is not the folder somebody stands in."""
    variable = f"POLICY_ENGINE_{name.upper()}"
    monkeypatch.setenv(variable, "")
    if name in EMPTY_SAYS:
        assert read_settings() is not None
        return
    said = "must be" if name.endswith(("database", "url")) and name != "docs_url" else "is empty; give it a value"
    with pytest.raises(InputRefused, match=f"^{variable}: {said}"):
        read_settings()


@pytest.mark.parametrize("name", ["database", "policies", "serving_region", "log_origin", "key", "host"])
def test_a_variable_that_is_no_text_is_refused_by_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no UTF-8 could be neither recorded nor shown, and are not repeated."""
    variable = f"POLICY_ENGINE_{name.upper()}"
    monkeypatch.setenv(variable, "sqlite:////tmp/\udcff")
    with pytest.raises(InputRefused, match=f"^{variable}: is not UTF-8 text; write it in UTF-8$"):
        read_settings()


@pytest.mark.parametrize(
    "identifier",
    [
        "http://pdp.example",
        "pdp.example",
        "https://",
        "https://pdp.example?x=1",
        "https://pdp.example?",
        "https://pdp.example#x",
        "https://pdp.example#",
        "https://user@pdp.example",
        "https://[::1",
        "https://pdp.example:port",
        "https://pdp.example:0",
        "https://pdp.example/a b",
        "",
    ],
)
def test_an_identifier_that_the_standard_forbids_does_not_start(identifier: str) -> None:
    """Without https, or with query, fragment or user, there is no service: not one that lacks its management routes."""
    with pytest.raises(InputRefused, match=r"^POLICY_ENGINE_PUBLIC_URL: must be an https URL"):
        read_settings(public_url=identifier)


@pytest.mark.parametrize("identifier", ["https://pdp.example", "https://pdp.example:8443/tenant1", "https://[::1]/"])
def test_an_identifier_of_the_standard_is_taken(identifier: str) -> None:
    """A host, a port and a path may be named."""
    assert Settings(public_url=identifier).public_url == identifier


def test_who_may_change() -> None:
    """On SQLite the one database is enough; on PostgreSQL the operator's login must be named."""
    operator = {"operator_database": "postgresql://op:secret@h/d"}
    assert Settings(database="sqlite:///x.db").may_change
    assert not Settings(database="postgresql://h/d").may_change
    both = Settings.model_validate({"database": "postgresql://h/d", **operator})
    assert both.may_change
    assert "secret" not in repr(both)


def test_a_key_file_lies_beside_a_file_only() -> None:
    """On PostgreSQL the key file must be named; guessing one would make each machine its own."""
    assert str(Settings(database="sqlite:///x.db").key_file) == "x.db.keys"
    with pytest.raises(StartRefused, match="POLICY_ENGINE_KEYS"):
        _ = Settings(database="postgresql://h/d").key_file
