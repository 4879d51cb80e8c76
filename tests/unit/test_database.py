"""The role `database`: passwords that are never sent in clear."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from roles.common.rendering import render
from roles.common.site import load
from roles.database import operations
from roles.database.facts import ClusterState, DatabaseState, RoleState
from roles.database.scram import matches, verifier
from roles.database.settings import DatabaseSettings

PASSWORD = "pencil"
SALT = bytes(range(16))


def test_a_verifier_is_reproducible_and_hides_the_password() -> None:
    known = verifier(PASSWORD, SALT)
    assert known == verifier(PASSWORD, SALT)
    assert known != verifier(PASSWORD)
    assert PASSWORD not in known
    assert matches(PASSWORD, known)
    assert matches(PASSWORD, verifier(PASSWORD, iterations=100))
    assert not matches("pencils", known)
    assert not matches(PASSWORD, "")
    assert not matches(PASSWORD, "md5" + "0" * 32)


def test_a_verifier_is_what_postgresql_computes() -> None:
    # Taken from a PostgreSQL 17 server: CREATE ROLE x PASSWORD 'pencil'.
    assert matches(
        PASSWORD,
        "SCRAM-SHA-256$4096:x3pKkdj8FXhll1NqqQ05Ag==$"
        "ei7iIaytRjeFxDkuU1a38Y26UhjwDzb9hZI2PnkWEn8=:+/amcUzw4rNN8mQ1eAiu8HCSyu0Db8fXxLZQiaJ7ecI=",
    )


class Commands:
    """Stands in for the host: what is found there, and what would be done to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, found: ClusterState) -> None:
        monkeypatch.setattr(
            operations,
            "host",
            SimpleNamespace(get_fact=lambda _: found, print_prefix=""),
        )
        monkeypatch.setattr(operations, "say", lambda _: None)

    @staticmethod
    def sql(generator: Any) -> str:
        """The statements that an operation would run; everything else must be free of them."""
        texts = []
        for command in generator:
            if hasattr(command, "src"):
                texts.append(command.src.getvalue().decode())
            else:
                assert "SCRAM" not in str(command)
        return "".join(texts)


def role(connections: int = 5) -> Any:
    return operations.role._inner(
        role="bayes", password=SecretStr(PASSWORD), connections=connections
    )


def database(**settings: str) -> Any:
    return operations.database._inner(
        database="bayes", owner="bayes", locale="LOCALE 'C'", settings=settings
    )


def test_a_new_role_gets_its_verifier_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    sql = Commands(monkeypatch, ClusterState({}, {})).sql(role())
    assert "CREATE ROLE bayes;" in sql
    assert "CONNECTION LIMIT 5;" in sql
    assert "PASSWORD 'SCRAM-SHA-256$" in sql
    assert PASSWORD not in sql


def test_a_role_that_is_right_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ClusterState({"bayes": RoleState(verifier(PASSWORD), 5, True)}, {})
    assert not Commands(monkeypatch, right).sql(role())
    assert "PASSWORD" not in Commands(monkeypatch, right).sql(role(connections=6))


def test_another_password_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ClusterState({"bayes": RoleState(verifier("other"), 5, True)}, {})
    assert "PASSWORD" in Commands(monkeypatch, other).sql(role())


def test_a_database_is_created_once_and_then_only_corrected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = ClusterState({}, {})
    assert "CREATE DATABASE bayes" in Commands(monkeypatch, nothing).sql(database())
    right = DatabaseState("bayes", False, ("synchronous_commit=off",))
    found = ClusterState({}, {"bayes": right})
    assert not Commands(monkeypatch, found).sql(database(synchronous_commit="off"))
    assert "RESET ALL" in Commands(monkeypatch, found).sql(database())
    opened = ClusterState({}, {"bayes": DatabaseState("other", True, ())})
    sql = Commands(monkeypatch, opened).sql(database())
    assert "OWNER TO bayes" in sql
    assert "REVOKE CONNECT" in sql
    assert "CREATE" not in sql


def test_each_client_reaches_its_own_database_alone() -> None:
    site = load("local")
    lines = [
        line.split()
        for line in render(
            "database/etc/postgresql/17/main/pg_hba.conf.j2", {"site": site}
        ).splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == ["local", "all", "postgres", "peer"]
    assert {line[0] for line in lines[1:]} == {"hostssl"}
    assert {line[4] for line in lines[1:]} == {"scram-sha-256"}
    reachable = {(line[1], line[2], line[3]) for line in lines[1:]}
    assert reachable == {
        *(("roundcube", "roundcube", f"{front.address}/32") for front in site.group("front")),
        *(("bayes", "bayes", f"{host.address}/32") for host in site.group("mx", "store")),
    }


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ValidationError, match="expected a whole number and a unit"):
        DatabaseSettings.model_validate({"shared_buffers": "26GIGOTS"})
