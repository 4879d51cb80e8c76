"""The role `webmail`: its settings, its pages, its texts."""

import re
import unicodedata
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from roles.addressbook.settings import AddressBookSettings
from roles.common.errors import SiteError
from roles.common.facts import UserExists
from roles.common.rendering import render
from roles.common.site import ROOT, Site, load, merged, parse, read_document
from roles.publicdirectory.settings import PublicDirectorySettings
from roles.webmail import deploy, operations, roundcube
from roles.webmail.errors import ERROR_PAGES, ErrorPage
from roles.webmail.facts import Locales, LocaleState, Schema
from roles.webmail.settings import WebmailSettings

TEXTS = ROOT / "roles" / "webmail" / "files" / "province" / "localization"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"worker_memory": "26GIGOTS"}, "expected a whole number and a unit"),
        ({"autosave": "2min"}, "'1min', '3min', '5min' or '10min'"),
        ({"session_idle": "10s"}, "greater than or equal to 300"),
        ({"workers": 0}, "workers"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        WebmailSettings.model_validate(values)


def configuration(site: Site, **settings: Any) -> str:
    """Roundcube's configuration of the first front, with secrets of its own."""
    values = {
        "site": site,
        "host": site.group("front")[0],
        "secrets": {
            "webmail_database_password": "databasepassword",
            "webmail_session_key": "k" * 24,
            "directory_webmail_password": "directorypassword",
        },
        "settings": WebmailSettings.model_validate(settings),
        "database": site.group("database")[0],
        "contact": "0273 123",
        "book": AddressBookSettings(),
        "message_size": 50 * 2**20,
        "recipients": 100,
        "password_length": 12,
        "change_first": False,
    }
    return render("webmail/etc/roundcube/config.inc.php.j2", values)


def test_every_directory_is_asked_and_every_connection_verified() -> None:
    site = load("production")
    text = configuration(site)
    for directory in site.group("directory"):
        assert f"'ldaps://{directory.fqdn}:636'" in text
    assert "sslmode=verify-full" in text
    assert text.count("'verify_peer' => true") == 1
    for service in ("imap", "smtp", "managesieve"):
        assert f"$config['{service}_conn_options'] = $tls;" in text


def test_only_our_names_are_answered() -> None:
    text = configuration(load("production"))
    assert "'^mail\\\\.tiengiang\\\\.gov\\\\.vn$'" in text
    assert "'^203\\\\.0\\\\.113\\\\.51$'" in text


def test_text_is_quoted_for_php() -> None:
    text = configuration(load("production"), product="Cơ quan 'A' \\ B")
    assert "$config['product_name'] = 'Cơ quan \\'A\\' \\\\ B';" in text


def test_images_from_elsewhere_can_be_forbidden() -> None:
    site = load("production")
    name = "webmail/etc/nginx/conf.d/webmail.conf.j2"
    values = {
        "site": site,
        "host": site.group("front")[0],
        "public": site.of(PublicDirectorySettings),
    }
    asked = render(name, {**values, "settings": WebmailSettings()})
    never = render(
        name, {**values, "settings": WebmailSettings.model_validate({"remote_images": False})}
    )
    assert "img-src 'self' data: blob: https: http:;" in asked
    assert "img-src 'self' data: blob:;" in never
    assert "'show_images',\n" in configuration(site, remote_images=False)
    assert "'show_images',\n" not in configuration(site)


@pytest.mark.regulation("11")
@pytest.mark.parametrize("page", ERROR_PAGES, ids=lambda page: str(page.status))
def test_an_error_page_is_vietnamese_and_says_whom_to_turn_to(page: ErrorPage) -> None:
    site = load("production")
    values = {"site": site, "settings": WebmailSettings(), "contact": "0273 <1>", "page": page}
    text = render("webmail/usr/local/share/webmail/errors/error.html.j2", values)
    assert '<html lang="vi">' in text
    assert site.table.organisation in text
    assert f"<h1>{page.title}</h1>" in text
    assert "báo sự cố: 0273 &lt;1&gt;" in text
    # Nothing is fetched from elsewhere: the rest of the site may be down.
    assert not re.search(r"(src|href)=\"(?!/\")", text)


def test_more_workers_than_connections_are_refused() -> None:
    site = load("production")
    deploy._refuse_too_many_workers(site)
    document = read_document(site.folder / "site.toml")
    own = {"settings": {"database": {"webmail_connections": 39}}}
    small = parse(merged(document, {"hosts": {"database1": own}}), site.folder / "site.toml")
    with pytest.raises(SiteError, match=r"webmail\.workers: 40 .* expected at most 39"):
        deploy._refuse_too_many_workers(small)


def entries() -> Iterator[tuple[str, str, str]]:
    """Every Vietnamese text: file, label, text."""
    for file in sorted(TEXTS.glob("*.inc")):
        for label, text in re.findall(r"^    '([^']+)' => '(.*)',$", file.read_text(), re.M):
            yield file.stem, label, text


@pytest.mark.regulation("3.3")
def test_our_texts_are_unicode_in_one_form() -> None:
    found = list(entries())
    assert len(found) > 900
    for name, label, text in found:
        assert unicodedata.is_normalized("NFC", text), f"{name}: {label}"
        assert text.strip() == text, f"{name}: {label}"
        # One spelling throughout: tùy, xóa, hủy and not tuỳ, xoá, huỷ.
        assert not re.search(r"[Tt]uỳ|[Xx]oá|[Hh]uỷ", text), f"{name}: {label}: {text}"


def test_no_text_is_given_twice() -> None:
    labels = [(name, label) for name, label, _ in entries()]
    assert len(labels) == len(set(labels))


def test_every_file_of_texts_is_deployed() -> None:
    assert sorted(file.stem for file in TEXTS.glob("*.inc")) == sorted(roundcube.TEXTS)


@pytest.mark.parametrize(
    ("found", "commands"), [("current", 0), ("absent", 1), ("outdated", 1), ("unreachable", 1)]
)
def test_tables_are_made_when_they_are_not_current(
    monkeypatch: pytest.MonkeyPatch, found: str, commands: int
) -> None:
    host = SimpleNamespace(get_fact=lambda *_, **__: found, print_prefix="")
    monkeypatch.setattr(operations, "host", host)
    monkeypatch.setattr(operations, "say", lambda _: None)
    assert len(list(operations.schema._inner())) == commands


def test_facts_read_what_hosts_say() -> None:
    assert Schema().process(["current"]) == "current"
    assert Schema().process([]) == "absent"
    assert Schema().process(["PHP Fatal error"]) == "unreachable"
    assert UserExists().process(["webmail:x:998:998::/:/usr/sbin/nologin"])
    assert not UserExists().process([])
    assert Locales().process(["C", "vi_VN.utf8", "+vi_VN UTF-8"]) == LocaleState(
        frozenset({"C", "vi_VN.utf8"}), frozenset({"vi_VN UTF-8"})
    )


@pytest.mark.parametrize(
    ("made", "kept", "commands"),
    [
        ({"C", "vi_VN.utf8"}, {"vi_VN UTF-8"}, []),
        ({"C"}, {"vi_VN UTF-8"}, ["locale-gen"]),
        # Made by hand: the next upgrade of the C library would drop it.
        ({"C", "vi_VN.utf8"}, set(), ["sed", "locale-gen"]),
    ],
)
def test_a_locale_lasts(
    monkeypatch: pytest.MonkeyPatch, made: set[str], kept: set[str], commands: list[str]
) -> None:
    found = LocaleState(frozenset(made), frozenset(kept))
    monkeypatch.setattr(operations, "host", SimpleNamespace(get_fact=lambda *_, **__: found))
    yielded = operations.locale._inner(locale_="vi_VN", charmap="UTF-8")
    assert [str(command).split()[0] for command in yielded] == commands
