"""The role `archive`: what a store needs for it, and no key that opens an archive. Read-only."""

import json
from collections.abc import Callable
from datetime import datetime, time, timedelta

import pytest
from testinfra.host import Host

from roles.archive.settings import ArchiveSettings
from roles.common.site import Site, SiteHost


def test_the_archives_are_roots(host: Host, site: Site, me: SiteHost) -> None:
    folder = host.file(site.of(ArchiveSettings, me.name).folder)
    assert (folder.mode, folder.user) == (0o700, "root")


def test_the_password_is_roots(host: Host) -> None:
    file = host.file("/etc/site-archive/ldap-password")
    assert (file.mode, file.user) == (0o600, "root")


@pytest.mark.regulation("8")
def test_it_runs_every_night_and_did_not_fail(host: Host) -> None:
    timer = host.service("site-archive.timer")
    assert timer.is_running
    assert timer.is_enabled
    # Between 02:45 and half past three of the host's own time, within a day.
    next_, now = (
        datetime.fromisoformat(said)
        for said in host.check_output(
            'date -Iseconds -d "$(systemctl show --value --timestamp=unix'
            ' -p NextElapseUSecRealtime site-archive.timer)"; date -Iseconds'
        ).splitlines()
    )
    assert time(2, 45) <= next_.time() <= time(3, 31)
    assert next_ - now < timedelta(days=1, hours=1)
    assert host.run("systemctl is-failed site-archive.service").stdout.strip() != "failed"


def damaged(run: Callable[[str], str], folder: str) -> list[str]:
    """What is wrong with the archives of a store.

    Args:
        run: runs a command there.
        folder: that of the archives.
    """
    find = f"find {folder}/people {folder}/mailboxes -type f"
    sizes = {
        path.removeprefix(f"{folder}/"): int(size)
        for size, path in (
            line.split()
            for line in run(f"{find} -printf '%s %p\\n' 2>/dev/null || true").splitlines()
        )
    }
    heads = run(
        f"{find} -name '*.age' 2>/dev/null"
        ' | while read -r file; do head -c 21 "$file" | tr -d "\\0"; echo " $file"; done'
    ).splitlines()
    encrypted = {
        path.removeprefix(f"{folder}/")
        for head, _, path in (line.partition(" ") for line in heads)
        if head == "age-encryption.org/v1"
    }
    texts, known = run(f"{find} -name '*.json' -exec cat {{}} + 2>/dev/null || true").strip(), {}
    while texts:
        described, end = json.JSONDecoder().raw_decode(texts)
        known[described["name"]] = described
        texts = texts[end:].lstrip()
    parts = (".tar.zst.age", ".index.gz.age", ".json")
    expected = {f"{name}{part}" for name in known for part in parts}
    return [
        *(f"{path} is missing" for path in sorted(expected - set(sizes))),
        *(f"{path} belongs to no description" for path in sorted(set(sizes) - expected)),
        *(
            f"{path} is not encrypted"
            for path in sorted(sizes)
            if path.endswith(".age") and path not in encrypted
        ),
        *(
            f"{name}.tar.zst.age has another size than is described"
            for name, described in sorted(known.items())
            if sizes.get(f"{name}.tar.zst.age") != described["size"]
        ),
    ]


@pytest.mark.regulation("8")
def test_every_archive_is_whole_and_encrypted(host: Host, site: Site, me: SiteHost) -> None:
    """`tests/recovery/test_archive.py` shows that it would be seen."""
    assert damaged(host.check_output, site.of(ArchiveSettings, me.name).folder) == []


def test_what_opens_an_archive_is_not_here(host: Host) -> None:
    identity = "AGE-SECRET-KEY-1[0-9A-Z]{20}"
    assert not host.check_output(f"grep -rlsE '{identity}' /etc /usr/local /root || true")


def test_its_program_writes_mail_and_archives_only(host: Host, site: Site, me: SiteHost) -> None:
    said = host.check_output("systemctl show site-archive.service -p ProtectSystem,PrivateTmp")
    assert set(said.split()) == {"ProtectSystem=strict", "PrivateTmp=yes"}
    writes = host.check_output("systemctl show --value site-archive.service -p ReadWritePaths")
    folder = str(site.of(ArchiveSettings, me.name).folder)
    assert set(writes.split()) == {"/var/vmail", folder, "/run"}
