"""Backups over the wire: append-only for whoever holds a host's credentials, loud when they fail.

Each test asks from the host whose credentials were stolen: nobody else reaches the server.
"""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

import pytest

from roles.backup.deploy import PORT, clients, parts, server
from roles.backup.settings import BackupSettings
from roles.common.site import Site, SiteHost
from tests import remote
from tests.backups import no_clock
from tests.waiting import until

__all__ = ["no_clock"]
"""A fixture."""
_ASK = """
import base64, json, ssl, sys, urllib.error, urllib.request
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


asked = json.load(sys.stdin)
context = ssl.create_default_context(cafile="/etc/site-tls/ca.pem")
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), Stay)
answers = []
for method, path, body in asked["requests"]:
    request = urllib.request.Request(asked["url"] + path, method=method,
                                     data=None if body is None else body.encode())
    if asked["login"]:
        login = base64.b64encode(asked["login"].encode()).decode()
        request.add_header("Authorization", "Basic " + login)
    request.add_header("Accept", "application/vnd.x.restic.rest.v2")
    try:
        with opener.open(request) as answer:
            answers.append([answer.status, answer.read().decode(errors="replace")])
    except urllib.error.HTTPError as error:
        answers.append([error.code, ""])
print(json.dumps(answers))
"""
"""HTTP requests to the server, as a program of the thief's own makes them."""
_OK, _REDIRECT, _UNAUTHORIZED, _FORBIDDEN = 200, 300, 401, 403
_REFUSED = {_UNAUTHORIZED, _FORBIDDEN}

Request = tuple[str, str, str | None]


@pytest.fixture
def thief(site: Site) -> SiteHost:
    """A host that was taken over."""
    return site.group("store")[0]


def shell(site: Site, host: SiteHost, command: str, *, check: bool = True, stdin: str = "") -> str:
    return remote.shell(site, host.address, command, check=check, stdin=stdin)


def asked(
    site: Site, host: SiteHost, *requests: Request, login: str | None = None
) -> list[tuple[int, str]]:
    """Ask the server from a host.

    Args:
        site: the site.
        host: from where, and whose credentials.
        requests: method, path and body of each.
        login: other credentials than the host's own.
    """
    if login is None:
        login = f"{host.name}:{shell(site, host, 'cat /etc/site-backup/login.secret').strip()}"
    question = {
        "url": f"https://{server(site).fqdn}:{PORT}", "login": login, "requests": requests,
    }  # fmt: skip
    script = f"python3 -c {_quoted(_ASK)}"
    return [tuple(one) for one in json.loads(shell(site, host, script, stdin=json.dumps(question)))]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def backed_up(site: Site, host: SiteHost, *wanted: str) -> None:
    shell(site, host, f"site-backup run {' '.join(wanted)}")


def snapshots(site: Site, host: SiteHost, part: str | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        shell(site, host, "site-backup restic -- --no-lock snapshots --json")
    )
    return [one for one in found if part is None or f"part={part}" in one["tags"]]


def stored(site: Site, host: SiteHost) -> dict[str, str]:
    """Every file of a host's repository with its digest, save locks, which come and go."""
    at = server(site)
    folder = f"{site.of(BackupSettings, at.name).folder}/{host.name}"
    said = shell(site, at, f"cd {folder} && find . -type f ! -path './locks/*' | xargs sha256sum")
    return {path: digest for digest, path in (line.split() for line in said.splitlines())}


def lost(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Files that are gone, or not what they were."""
    return {path for path, digest in before.items() if after.get(path) != digest}


# -- append-only -----------------------------------------------------------------------------------


@pytest.mark.regulation("13")
def test_over_http_nothing_can_be_deleted_or_overwritten(site: Site, thief: SiteHost) -> None:
    backed_up(site, thief, "keys")
    before = stored(site, thief)
    own = f"/{thief.name}"
    requests: list[Request] = []
    for kind in ("data", "index", "snapshots", "keys"):
        ((status, listed),) = asked(site, thief, ("GET", f"{own}/{kind}/", None))
        assert status == _OK
        name = json.loads(listed)[0]["name"]
        requests += [
            ("DELETE", f"{own}/{kind}/{name}", None), ("POST", f"{own}/{kind}/{name}", "x"),
            ("PUT", f"{own}/{kind}/{name}", "x"),
        ]  # fmt: skip
    requests += [
        ("DELETE", f"{own}/config", None), ("POST", f"{own}/config", "x"),
        ("DELETE", f"{own}/", None), ("POST", f"{own}/?create=true", None),
        ("DELETE", f"{own}/data/", None), ("DELETE", f"{own}/keys/../config", None),
    ]  # fmt: skip
    answers = asked(site, thief, *requests)
    done = [
        f"{method} {path}"
        for (method, path, _), (status, _) in zip(requests, answers, strict=True)
        if status < _REDIRECT and "create=true" not in path
    ]
    assert done == []
    assert lost(before, stored(site, thief)) == set()


@pytest.mark.regulation("13")
def test_with_restic_nothing_can_be_forgotten(site: Site, thief: SiteHost) -> None:
    backed_up(site, thief, "keys")
    backed_up(site, thief, "keys")
    before, known = stored(site, thief), {one["id"] for one in snapshots(site, thief)}
    newest = snapshots(site, thief)[-1]["id"]
    own = shell(site, thief, "site-backup restic -- key list --json")
    others = [key["id"] for key in json.loads(own) if not key["current"]]
    for attempt in (
        f"forget {newest}", "forget --keep-last 1 --prune", "prune --max-unused 0",
        f"tag --set part=other {newest}", f"rewrite --forget --exclude '*' {newest}",
        *(f"key remove {key}" for key in others),
    ):  # fmt: skip
        shell(site, thief, f"site-backup restic -- {attempt}", check=False)
    assert lost(before, stored(site, thief)) == set()
    assert known <= {one["id"] for one in snapshots(site, thief)}
    # And the next backup goes on.
    backed_up(site, thief, "keys")
    # What was added is the server's to forget.
    folder = site.of(BackupSettings, server(site).name).folder
    shell(
        site, server(site),
        "cd / && runuser -u restic-rest-server -- restic --no-cache -q --retry-lock 5m -r"
        f" {folder}/{thief.name} -p /etc/site-backup/maintenance.secret forget --tag part=other"
        " --unsafe-allow-remove-all",
    )  # fmt: skip
    assert not snapshots(site, thief, "other")


@pytest.mark.regulation("13")
def test_nobody_reads_another_hosts_backup(site: Site, thief: SiteHost) -> None:
    others = [host for host in clients(site) if host != thief]
    if not others:
        pytest.skip("one host is all there is")
    for other in others:
        requests: list[Request] = [
            ("GET", f"/{other.name}/config", None), ("GET", f"/{other.name}/snapshots/", None),
            ("POST", f"/{other.name}/data/{'0' * 64}", "x"),
            ("GET", f"/{thief.name}/../{other.name}/config", None),
            ("GET", f"/{thief.name}/%2e%2e/{other.name}/config", None),
        ]  # fmt: skip
        answers = asked(site, thief, *requests)
        assert not [status for status, _ in answers if status < _REDIRECT], other.name
        assert answers[0][0] in _REFUSED
        said = shell(
            site, thief,
            "site-backup restic -- -r "
            f"rest:https://{server(site).fqdn}:{PORT}/{other.name}/ --no-lock snapshots 2>&1",
            check=False,
        )  # fmt: skip
        assert "403" in said or "401" in said, said


def test_nobody_gets_in_without_a_password(site: Site, thief: SiteHost) -> None:
    for login in ("", f"{thief.name}:wrong", f"{thief.name}:", ":"):
        answers = asked(site, thief, ("GET", f"/{thief.name}/config", None), login=login)
        assert [status for status, _ in answers] == [_UNAUTHORIZED], login


def test_the_login_alone_opens_nothing(site: Site, thief: SiteHost) -> None:
    """What crosses the wire is encrypted by a password that the server does not have."""
    said = shell(
        site, thief,
        "d=$(mktemp) && echo wrong > $d; site-backup restic -- -p $d --no-lock snapshots 2>&1;"
        " rm -f $d",
        check=False,
    )  # fmt: skip
    assert "wrong password or no key found" in said


# -- failures --------------------------------------------------------------------------------------


@contextmanager
def broken_database(site: Site, host: SiteHost) -> Iterator[str]:
    """A database of its own with a table whose file is gone."""
    name = f"broken_{secrets.token_hex(4)}"
    sql = "cd / && runuser -u postgres -- psql -XAtqv ON_ERROR_STOP=1"
    shell(site, host, f"{sql} -c 'CREATE DATABASE {name}'")
    try:
        path = shell(
            site, host, f"{sql} {name}",
            stdin="CREATE TABLE lost AS SELECT generate_series(1, 9) AS n; CHECKPOINT;"
            " SELECT current_setting('data_directory') || '/' || pg_relation_filepath('lost');",
        ).strip()  # fmt: skip
        # Whoever has the file open would read on.
        shell(site, host, f"rm {path} && {sql} -c 'ALTER DATABASE {name} CONNECTION LIMIT 5'")
        yield name
    finally:
        shell(site, host, f"{sql} -c 'DROP DATABASE {name} WITH (FORCE)'")


def test_a_dump_that_fails_fails_the_job_and_not_the_other_parts(site: Site) -> None:
    host = site.group("database")[0]
    backed_up(site, host)
    before = snapshots(site, host)
    since = shell(site, host, "date +%s").strip()
    try:
        with broken_database(site, host) as name:
            shell(site, host, "systemctl start site-backup.service", check=False)
            state = shell(site, host, "systemctl show -P Result site-backup.service").strip()
            assert state == "exit-code"
            said = shell(site, host, f"journalctl -q -o cat -p err -t site-backup --since=@{since}")
            assert "database: failed: pg_dump" in said
            assert name in said
        new = [one for one in snapshots(site, host) if one["id"] not in {o["id"] for o in before}]
        tags = sorted(tag for one in new for tag in one["tags"])
        assert tags == sorted(f"part={part}" for part in parts(site, host) if part != "database")
    finally:
        shell(site, host, "systemctl reset-failed site-backup.service", check=False)
    backed_up(site, host, "database")
    assert len(snapshots(site, host, "database")) == 1 + sum(
        "part=database" in one["tags"] for one in before
    )


def test_a_backup_leaves_nothing_to_excuse_in_the_journal(site: Site) -> None:
    for host in clients(site):
        since = shell(site, host, "date +%s").strip()
        shell(site, host, "systemctl start site-backup.service")
        said = shell(
            site, host,
            f"journalctl -q -o cat --since=@{since} -p warning -u site-backup.service; "
            f"journalctl -q -o cat --since=@{since} -u site-backup.service -g 'warn|error|fatal'"
            " || test $? = 1",
        )  # fmt: skip
        assert said == "", host.name


# -- consistency -----------------------------------------------------------------------------------


def test_the_audit_log_of_a_backup_has_every_change_that_its_data_has(site: Site) -> None:
    host = site.group("directory")[0]
    policy = f"cn=default,ou=policies,{site.base_dn}"
    entry = shell(
        site, host, f"ldapsearch {remote.LDAP} -LLL -b ou=policies,{site.base_dn}"
        " '(objectClass=pwdPolicy)' 1.1 | sed -n 's/^dn: //p' | head -1",
    ).strip() or policy  # fmt: skip
    ended = Event()

    def change() -> None:
        """Changes without an end: a new value and its removal."""
        lines = []
        for number in range(200):
            for verb in ("add", "delete"):
                lines.append(
                    f"dn: {entry}\nchangetype: modify\n{verb}: description\n"
                    f"description: backup {number}\n"
                )
        while not ended.is_set():
            shell(site, host, f"ldapmodify {remote.LDAP} >/dev/null", stdin="\n".join(lines))

    thread = Thread(target=change)
    thread.start()
    try:
        began = datetime.now(UTC)
        for _ in range(3):
            backed_up(site, host, "directory")
            read = "site-backup restic -- dump latest --tag part=directory"
            stage = "/var/lib/site-backup/stage/directory"
            last = {
                name: shell(
                    site, host,
                    f"{read} {stage}/{name}.ldif | sed -n 's/^entryCSN: //p' | sort | tail -1",
                ).strip()
                for name in ("data", "accesslog")
            }  # fmt: skip
            changed = datetime.strptime(last["data"][:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            assert (began - changed).total_seconds() < 60, "nothing was changed meanwhile"
            assert last["data"] <= last["accesslog"]
    finally:
        ended.set()
        thread.join()


def test_two_runs_go_one_after_the_other(site: Site) -> None:
    host = site.group("mx")[0]
    started = time.monotonic()
    # It is given time to begin, and then to go on, which it must not.
    said = shell(
        site, host,
        "cd $(mktemp -d) && touch said && flock -o /run/site-backup.lock -c"
        " 'site-backup run keys >>said 2>&1 & echo $! >pid;"
        " timeout 120 sh -c \"until grep -q waiting said; do sleep 0.1; done\";"
        " timeout 3 tail --pid=$(cat pid) -f /dev/null; echo released >>said';"
        " tail --pid=$(cat pid) -f /dev/null; cat said; rm -r $PWD",
    )  # fmt: skip
    assert time.monotonic() - started >= 3
    assert "waiting for another run" in said
    assert said.index("released") < said.index("keys: snapshot")


def test_a_run_that_is_ended_leaves_no_link_to_a_letter(site: Site) -> None:
    """A link would keep `lazy_expunge` from keeping a letter that is deleted (`mail.py`)."""
    host, at = site.group("store")[0], server(site)
    home = "/var/vmail/people/site-test/mail/mailboxes/INBOX/dbox-Mails"
    linked = "find /var/vmail/.backup -name 'u.*' -links +1 2>/dev/null || true"
    shell(site, host, f"runuser -u vmail -- mkdir -p {home}")
    try:
        shell(site, host, f"cd {home} && echo x | runuser -u vmail -- tee u.1 >/dev/null"
              " && runuser -u vmail -- touch dovecot.index.log")  # fmt: skip
        backed_up(site, host, "mail")
        assert shell(site, host, linked) == ""
        with remote.stopped(site, at.address, "site-backup-server.service"):
            # The part of mail alone: restic waits for the server, which is away.
            shell(site, host, "systemd-run --quiet --unit=test-backup site-backup run mail")
            until(lambda: shell(site, host, linked), "the stage of mail")
            # Each of the unit's processes, those too that begin meanwhile.
            shell(site, host, "while systemctl is-active --quiet test-backup.service;"
                  " do systemctl kill test-backup.service || :; done")  # fmt: skip
        assert shell(site, host, linked) == ""
        assert shell(site, host, f"cat {home}/u.1")
    finally:
        shell(site, host, "rm -r /var/vmail/people/site-test; systemctl reset-failed test-backup",
              check=False)  # fmt: skip
