"""Databases from the backup: as a whole, with what was there before kept beside."""

import secrets
from collections.abc import Iterator

import pytest

from deploy import restore
from roles.common.site import Site
from tests import clients, remote
from tests.backups import backup_of


def sql(site: Site, statement: str, database: str = "bayes") -> str:
    address = clients.address_of(site, "database")
    return remote.shell(
        site, address, f"cd / && runuser -u postgres -- psql -XAtq -d {database}", stdin=statement
    ).strip()


@pytest.fixture
def token(site: Site) -> Iterator[str]:
    """A word that Bayes never saw; nothing is left of it."""
    word = secrets.token_hex(5)
    yield word
    sql(site, f"DROP TABLE IF EXISTS thu_{word}")


def restored(site: Site, at: str, *words: str, action: str = "apply") -> int:
    return restore.main(["--env", site.environment, action, "database", *words, "--at", at])


def test_a_database_comes_back_and_what_was_there_is_kept(
    site: Site, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = clients.address_of(site, "database")
    sql(site, f"CREATE TABLE thu_{token} AS SELECT 'trước' AS word")
    sql(site, f"ALTER TABLE thu_{token} OWNER TO bayes")
    at = backup_of(site, site.group("database")[0], "database")
    sql(site, f"ALTER TABLE thu_{token} ALTER word TYPE text USING 'sau'")
    assert restored(site, at, "bayes", action="plan") == 2
    assert sql(site, f"TABLE thu_{token}") == "sau"
    capsys.readouterr()
    assert restored(site, at, "bayes") == 0
    assert sql(site, f"TABLE thu_{token}") == "trước"
    assert sql(site, f"\\dt thu_{token}").endswith("|bayes")
    said = capsys.readouterr().out
    (kept,) = [line.rpartition(":")[2] for line in said.splitlines() if "before is in" in line]
    text = remote.shell(site, address, f"pg_restore -f - {kept}; rm {kept}")
    assert "sau" in text


def test_a_database_that_no_backup_has_is_named(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    at = backup_of(site, site.group("database")[0], "database")
    before = sql(site, "SELECT count(*) FROM pg_class")
    assert restored(site, at, "khong-co") == 1
    assert "no such database in the backup; expected one of bayes" in capsys.readouterr().err
    assert sql(site, "SELECT count(*) FROM pg_class") == before
