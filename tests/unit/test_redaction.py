"""No plan and no error shows a secret: not today's, and not the one that a rotation replaced."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra import logger

from roles.addressbook.settings import AddressBookSettings
from roles.common import files, inventory
from roles.common.redaction import MASK, Redacting
from roles.common.rendering import render
from roles.common.secrets import Secrets
from roles.common.site import ROOT, load
from roles.directory.config import difference
from roles.directory.settings import DirectorySettings
from roles.mta.values import values as mta_values
from roles.webmail.settings import WebmailSettings

OLD, NEW = Secrets(), Secrets()
ALL = [line for secret in (*OLD.values(), *NEW.values()) for line in secret.splitlines()]


def shown(before: str | None, after: str, *, private: bool = True) -> str:
    """What the plan says of a file."""
    return "\n".join(files.diff("/etc/some.cf", before, after, private=private))


def leaks(text: str) -> list[str]:
    """The secrets, former and present, that appear in a text."""
    return [line for line in ALL if not line.startswith("-----") and line in text]


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site that is deployed knows the new secrets only."""
    monkeypatch.setattr(files, "current_site", lambda: SimpleNamespace(secrets=NEW))


def bayes(secrets: Secrets) -> str:
    site = load("production")
    path = "filtering/etc/spamassassin/bayes.cf.j2"
    return render(path, {"site": site, "host": site.hosts["mx1"], "secrets": secrets})


def postfix(secrets: Secrets) -> str:
    site = load("production")
    host = site.hosts["mx1"]
    names = {"site": site, "host": host, "secrets": secrets, **mta_values(site, host)}
    return render("mta/etc/postfix/ldap/alias.cf.j2", names)


def webmail(secrets: Secrets) -> str:
    site = load("production")
    names: dict[str, Any] = {
        "site": site, "host": site.group("front")[0], "secrets": secrets,
        "settings": WebmailSettings(), "database": site.group("database")[0], "contact": "0273",
        "message_size": 50 * 2**20, "recipients": 100, "password_length": 12,
        "change_first": False, "book": AddressBookSettings(),
    }  # fmt: skip
    return render("webmail/etc/roundcube/config.inc.php.j2", names)


def slapd(secrets: Secrets) -> str:
    site = load("production")
    schema = (ROOT / "roles/directory/files/schema.ldif").read_text(encoding="utf-8")
    names = {
        "site": site, "host": site.group("directory")[0], "secrets": secrets,
        "settings": DirectorySettings(), "schema": schema,
    }  # fmt: skip
    return render("directory/etc/ldap/slapd.ldif.j2", names)


@pytest.mark.parametrize("file", [bayes, postfix, webmail, slapd])
@pytest.mark.parametrize("private", [True, False])
def test_a_rotated_secret_is_not_shown(file: Any, private: bool) -> None:
    said = shown(file(OLD), file(NEW), private=private)
    assert leaks(file(OLD)), "it holds none"
    assert leaks(said) == []
    assert said == "/etc/some.cf: differs in what is not shown"


@pytest.mark.parametrize("file", [bayes, postfix, webmail, slapd])
def test_nor_is_it_where_the_file_was_laid_out_otherwise(file: Any) -> None:
    lines = file(OLD).splitlines()
    said = shown("\n".join(f"  {line.replace(' ', '   ')};" for line in lines), file(NEW))
    assert leaks(said) == []
    # Without any separator before the secret, a secret alone on its line, or one cut in two.
    for secret in OLD.values():
        said = shown(f"{file(NEW)}\nkey={secret}\n{secret}\n{secret[:16]}\\\n", file(NEW))
        assert leaks(said) == []
        assert secret[:16] not in said


@pytest.mark.parametrize("name", sorted({*Secrets.model_fields} - {"backup_targets"}))
def test_a_file_that_is_a_secret_is_not_compared(name: str) -> None:
    old, new = (getattr(secrets, name).get_secret_value() for secrets in (OLD, NEW))
    assert shown(old, new) == "/etc/some.cf: a secret, not shown, differs"
    assert shown("some\nother\ntext", new, private=False).endswith("differs")
    assert shown(None, new) == "/etc/some.cf: a secret, not shown, is new"
    assert shown(new, new) == ""


def test_a_private_key_of_nobody_is_not_shown() -> None:
    key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n"
    assert "MHcC" not in shown(key, "ssl_key = </etc/site-tls/key.pem\n", private=False)


def test_a_file_that_held_a_secret_before_is_not_trusted() -> None:
    before = f"hosts = a\nbind_pw = {OLD.values()[2]}\n"
    said = shown(before, "hosts = b\n")
    assert leaks(said) == []
    assert f"-hosts {MASK}" in said
    assert "+hosts = b" in said


def test_a_file_without_secrets_is_shown_as_it_is() -> None:
    assert "-a = 1\n+a = 2" in shown("a = 1\n", "a = 2\n", private=False)


def test_what_else_changes_beside_a_secret_is_shown() -> None:
    before, after = bayes(OLD) + "extra yes\n", bayes(NEW) + "wanted yes\n"
    said = shown(before, after)
    assert "+wanted yes" in said
    assert f"-{MASK}" in said
    assert leaks(said) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ('olcSyncrepl: rid=1 credentials="NEW" retry=5', 'olcSyncrepl: {0}rid=1 credentials="OLD"'),
        ("olcSyncrepl: rid=1 bindmethod=sasl", "olcSyncrepl: {0}rid=1 credentials=OLD"),
        ("olcDbIDAssertBind: mode=none", 'olcDbIDAssertBind: {0}bindpw = "OLD"'),
        ("olcRootPW: {ARGON2}new", "olcRootPW: OLD"),
        ("olcRootDN: cn=admin", "olcRootDN: cn=admin\nolcRootPW: OLD"),
        ("userPassword: {ARGON2}new", "userPassword: OLD"),
    ],
)
def test_the_directorys_former_passwords_are_not_shown(wanted: str, found: str) -> None:
    head = "dn: olcDatabase={1}mdb,cn=config\nolcDatabase: {1}mdb\n"
    words = difference(f"{head}{wanted}\n", f"{head}{found}\n").words
    assert words
    assert not [line for line in words if "OLD" in line]
    assert [line for line in words if line.endswith(MASK)]


def test_nothing_that_pyinfra_logs_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = SimpleNamespace(secrets=NEW, lab=None, group=lambda _: [], keep_secrets=lambda: None)
    monkeypatch.setattr(inventory, "load", lambda _: site)
    monkeypatch.setattr(logger, "filters", [])
    inventory.groups(str(tmp_path / "inventory.py"))
    (added,) = logger.filters
    assert isinstance(added, Redacting)
    password = NEW.values()[1]
    record = logging.LogRecord("pyinfra", logging.ERROR, "", 1, "no %s", (password,), None)
    assert added.filter(record)
    assert record.getMessage() == f"no {MASK}"
