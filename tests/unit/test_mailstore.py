"""The role `mailstore` without a host: what the templates say for each shape, settings, letters."""

import dataclasses
import re
import unicodedata
from email.header import decode_header, make_header
from typing import Any

import pytest
from pydantic import ValidationError

from roles.common.rendering import render
from roles.common.secrets import Secrets
from roles.common.site import load
from roles.mailstore.letters import QUOTA_LETTERS
from roles.mailstore.settings import MailstoreSettings
from roles.mailstore.values import values

SHAPES = [
    ("local", "store1"),
    ("local", "front1"),
    ("production", "store2"),
    ("production", "front2"),
    ("single", "mail1"),
]
shapes = pytest.mark.parametrize(("environment", "name"), SHAPES)


def rendered(
    environment: str, name: str, path: str = "etc/dovecot/dovecot.conf", **more: Any
) -> str:
    site = load(environment)
    host = site.hosts[name]
    secrets = Secrets()
    names = {"site": site, "host": host, "secrets": secrets, **values(site, host), **more}
    return render(f"mailstore/{path}.j2", names)


def sections(text: str) -> list[str]:
    """The outermost sections of a dovecot.conf, with balanced braces."""
    found, depth = [], 0
    for number, line in enumerate(text.splitlines(), start=1):
        code = line.split("#")[0] if not line.lstrip().startswith("#") else ""
        bare = re.sub(r"%\{[^}]*\}", "", code).strip()
        if bare.endswith("{"):
            if depth == 0:
                found.append(bare.removesuffix("{").strip())
            depth += 1
        elif bare == "}":
            depth -= 1
        assert depth >= 0, f"line {number}"
    assert depth == 0
    return found


# -- shapes ----------------------------------------------------------------------------------------


@shapes
def test_a_shape_has_what_its_groups_need(environment: str, name: str) -> None:
    host = load(environment).hosts[name]
    text = rendered(environment, name)
    found = sections(text)
    store, front = host.serves("store"), host.serves("front")
    assert ("userdb ldap" in found) == store
    assert ("namespace inbox" in found) == store
    assert ("service lmtp" in found) == store
    assert ("protocol smtp" in found) == front
    assert ("/var/spool/postfix/private/auth" in text) == front
    assert ("port = 10993" in text) == front


@shapes
def test_every_setting_stands_once(environment: str, name: str) -> None:
    path: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for line in rendered(environment, name).splitlines():
        code = line.strip()
        if code.endswith("{") and not code.startswith("#"):
            path.append(code)
        elif code == "}":
            path.pop()
        elif code and not code.startswith("#"):
            key = (*path, code.split(" = ")[0])
            assert key not in seen, f"{key} is set twice"
            seen.add(key)


@shapes
def test_no_secret_is_in_the_configuration(environment: str, name: str) -> None:
    site = load(environment)
    secrets = Secrets()
    host = site.hosts[name]
    text = render(
        "mailstore/etc/dovecot/dovecot.conf.j2",
        {"site": site, "host": host, "secrets": secrets, **values(site, host)},
    )
    assert not [secret for secret in secrets.values() if secret in text]


@shapes
def test_no_template_names_a_host_of_its_own(environment: str, name: str) -> None:
    """Everything that looks like a host's name is one of this environment's."""
    site = load(environment)
    known = {full for host in site.hosts.values() for full in host.names} | {site.domain}
    for full in re.findall(rf"[a-z0-9-]+\.{re.escape(site.domain)}", rendered(environment, name)):
        assert full in known


def test_all_directories_are_asked_beginning_with_different_ones() -> None:
    first, second = (
        re.search(r"(?m)^ldap_uris = (.*)$", rendered("production", name))
        for name in ("store1", "store2")
    )
    assert first is not None
    assert second is not None
    assert sorted(first[1].split()) == sorted(second[1].split())
    assert len(first[1].split()) == len(load("production").group("directory"))
    assert first[1] != second[1]
    assert all(uri.startswith("ldaps://") for uri in first[1].split())


def test_a_store_opens_its_own_mailboxes_only() -> None:
    site = load("production")
    for alias, name in site.table.stores.items():
        own = values(site, site.hosts[name])["own_store"]
        assert f"(mailHost={alias}.{site.domain})" in own
        assert own.count("mailHost=") == list(site.table.stores.values()).count(name)


def test_a_standby_opens_none() -> None:
    site = load("production")
    host = dataclasses.replace(site.group("store")[0], aliases=())
    assert (
        values(dataclasses.replace(site, hosts={**site.hosts, host.name: host}), host)["own_store"]
        == "(mailHost=none)"
    )


def test_only_hosts_of_the_site_pass_on_a_clients_address() -> None:
    site = load("production")
    trusted = values(site, site.group("store")[0])["trusted"]
    assert set(trusted) == {"127.0.0.1", *(host.address for host in site.group("front"))}


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("quota", "26GIGOTS", "expected a whole number and a unit of B, KiB"),
        ("person_trash_keep", "30", "expected a whole number and a unit of s, min"),
        ("units_folder", "Đơn vị/Chung", "String should match"),
        ("units_folder", "a$b", "String should match"),
        ("user_connections", 1, "greater than or equal to 5"),
        ("quotta", "1GiB", "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_is_refused(key: str, value: object, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        MailstoreSettings.model_validate({key: value})


def test_the_folders_name_is_composed() -> None:
    name = unicodedata.normalize("NFD", "Đơn vị")
    assert MailstoreSettings.model_validate({"units_folder": name}).units_folder == "Đơn vị"


def test_settings_reach_the_configuration() -> None:
    settings = MailstoreSettings.model_validate(
        {"quota": "3GiB", "units_folder": "Cơ quan", "auth_cache": "1min"}
    )
    text = rendered("local", "store1", settings=settings)
    assert f"quota_storage_size = {3 * 2**30}B" in text
    assert "prefix = Cơ quan/$username/" in text
    assert "auth_cache_ttl = 60 secs" in text


def test_retention_follows_the_settings() -> None:
    settings = MailstoreSettings.model_validate(
        {
            **dict.fromkeys(("person_trash_keep", "unit_junk_keep"), "1d"),
            **dict.fromkeys(("person_expunged_keep", "unit_trash_keep"), "2w"),
            **dict.fromkeys(("person_junk_keep", "unit_expunged_keep"), "3d"),
        }
    )
    text = rendered("local", "store1", "usr/local/lib/site-mailstore/retention", settings=settings)
    day = 86400
    assert f"remove inetOrgPerson {day} {3 * day} {14 * day}\n" in text
    assert f"remove unitMailbox {14 * day} {day} {3 * day}\n" in text


# -- letters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", QUOTA_LETTERS)
def test_letters_are_vietnamese_and_composed(level: str) -> None:
    letter = QUOTA_LETTERS[level]
    assert str(make_header(decode_header(letter.subject_header))) == letter.subject
    assert letter.subject_header.isascii()
    assert "\n" not in letter.subject_header
    for text in (letter.subject, letter.body):
        assert text == unicodedata.normalize("NFC", text)
        # In a shell script's quotes.
        assert "'" not in text


def test_dovecot_asks_for_the_letters_that_there_are() -> None:
    text = rendered("local", "store1")
    assert set(re.findall(r"args = (\w+) %\{user\}", text)) == set(QUOTA_LETTERS)
    script = rendered("local", "store1", "usr/local/lib/site-mailstore/quota-warning")
    for level in QUOTA_LETTERS:
        assert f"  {level})" in script
