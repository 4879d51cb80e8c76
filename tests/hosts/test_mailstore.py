"""The role `mailstore`: Dovecot on `store` and `front`."""

import re

import pytest
from testinfra.host import Host

from roles.common.site import SiteHost
from tests.waiting import until

CONF = "/etc/dovecot/dovecot.conf"


def listening(host: Host) -> set[str]:
    """What listens: `24` for everybody, `127.0.0.1:12340` for the host itself."""
    found = set()
    for line in host.check_output("ss -Hltn").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        found.add(f"{address}:{port}" if address.startswith("127.") else port)
    return found


def test_it_runs_and_starts_at_boot(host: Host) -> None:
    assert host.service("dovecot.service").is_running
    assert host.service("dovecot.service").is_enabled


def test_it_listens_where_its_groups_say(host: Host, me: SiteHost) -> None:
    both = {"143", "993", "995", "4190", "127.0.0.1:9900"}
    store = {"24", "12341", "127.0.0.1:12340"}
    front = {"127.0.0.1:10993"}
    expected = both | (store if me.serves("store") else set())
    expected |= front if me.serves("front") else set()
    # 110: POP3 without TLS; 12345: doveadm, whose one password would open every mailbox.
    assert listening(host) & (both | store | front | {"110", "12345"}) == expected


def test_the_configuration_is_understood_without_a_complaint(host: Host) -> None:
    found = host.run("doveconf -n")
    assert found.rc == 0
    assert found.stderr == ""


def test_it_began_without_a_warning(host: Host) -> None:
    """Deprecations, limits that do not fit together, sockets that cannot be made."""
    lines = host.check_output(
        "show() { systemctl show --value --timestamp=unix dovecot.service -p $1; };"
        " begin=$(show ActiveEnterTimestamp); journalctl -q -o cat -p warning"
        ' _SYSTEMD_INVOCATION_ID=$(show InvocationID) --until "@$((${begin#@} + 5))"'
    ).splitlines()
    # The master's own; a deployment that reloads says so.
    complaints = [line for line in lines if line.startswith(("master:", "config:"))]
    assert [line for line in complaints if "SIGHUP received" not in line] == []


def test_nothing_of_the_packages_configuration_is_read(host: Host) -> None:
    assert not re.search(r"(?m)^\s*!include", host.file(CONF).content_string)


def test_passwords_are_for_dovecot_alone(host: Host) -> None:
    folder = host.file("/etc/dovecot/private")
    assert (folder.user, folder.mode) == ("root", 0o700)
    # Besides two links of the package.
    assert [name for name in folder.listdir() if "password" in name] == ["ldap-password"]
    file = host.file("/etc/dovecot/private/ldap-password")
    assert (file.user, file.mode) == ("root", 0o600)
    assert file.content_string not in host.file(CONF).content_string


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ssl", "required"),
        ("ssl_min_protocol", "TLSv1.2"),
        ("auth_allow_cleartext", "no"),
        ("shutdown_clients", "no"),
    ],
)
def test_passwords_are_taken_under_tls_only(host: Host, setting: str, value: str) -> None:
    assert host.check_output("doveconf -h %s", setting) == value


def test_metrics_are_served_to_the_host_itself(host: Host) -> None:
    answer = host.check_output(
        "exec 3<>/dev/tcp/127.0.0.1/9900;"
        " printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; timeout 10 cat <&3"
    )
    assert "dovecot_auth_failure_total" in answer


def test_whoever_may_no_longer_is_out(host: Host) -> None:
    service = host.service("site-access.service")
    assert service.is_running
    assert service.is_enabled
    known = host.file("/var/lib/site-access/known.sqlite")
    assert (known.user, known.mode) == ("root", 0o600)
    # It knows the accounts of each directory.
    count = (
        "import sqlite3, sys; print(min(n for (n,) in sqlite3.connect(sys.argv[1]).execute("
        "'SELECT count(*) FROM directory LEFT JOIN account USING (uri) GROUP BY uri')))"
    )
    assert int(host.check_output("python3 -c %s %s", count, known.path)) > 1


def test_what_ends_sessions_is_locked_up(host: Host) -> None:
    line = host.check_output("systemd-analyze security --no-pager site-access.service | tail -n 1")
    level = re.search(r"([0-9.]+) (OK|MEDIUM)", line)
    assert level, line
    assert float(level[1]) <= 2.5
    assert host.check_output(
        "grep CapPrm: /proc/$(systemctl show --value -p MainPID site-access.service)/status"
    ).endswith("\t0000000000000000")


@pytest.mark.serving("front")
def test_postfix_may_ask_who_may_submit(host: Host) -> None:
    socket = host.file("/var/spool/postfix/private/auth")
    assert socket.is_socket
    assert (socket.user, socket.group, socket.mode) == ("postfix", "postfix", 0o660)


@pytest.mark.serving("store")
def test_mail_belongs_to_one_user_with_the_same_number_everywhere(host: Host) -> None:
    user = host.user("vmail")
    assert (user.uid, user.gid, user.shell) == (5000, 5000, "/usr/sbin/nologin")
    folder = host.file("/var/vmail")
    assert (folder.user, folder.group, folder.mode) == ("vmail", "vmail", 0o700)


@pytest.mark.serving("store")
@pytest.mark.parametrize("kind", ["spam", "ham"])
def test_the_learner_may_take_what_it_is_given(host: Host, kind: str) -> None:
    folder = host.file(f"/var/spool/site-learn/{kind}")
    assert (folder.user, folder.group, folder.mode) == ("vmail", "site-learn", 0o2770)


@pytest.mark.serving("store")
def test_sieve_scripts_are_compiled(host: Host) -> None:
    for name in ("learn", "spam"):
        script = f"/etc/dovecot/sieve/{name}"
        assert host.run("test %s.svbin -nt %s.sieve", script, script).rc == 0


@pytest.mark.serving("store")
@pytest.mark.regulation("3.1a")
def test_unit_mailboxes_are_as_the_directory_has_them(host: Host) -> None:
    """Soon, that is: who was just added or taken away is seen by the next look."""
    check = "/usr/local/lib/site-mailstore/units --check"
    until(lambda: not host.check_output(check), "the unit mailboxes of the directory", pause=1)


@pytest.mark.serving("store")
@pytest.mark.parametrize("job", ["units", "retention"])
def test_what_runs_at_times_is_due(host: Host, job: str) -> None:
    timer = host.service(f"site-{job}.timer")
    assert timer.is_running
    assert timer.is_enabled
    state = host.check_output("systemctl show -p Result -p NeedDaemonReload site-%s.service", job)
    # It does not run while Dovecot is stopped.
    assert set(state.splitlines()) - {"Result=exec-condition"} <= {
        "Result=success",
        "NeedDaemonReload=no",
    }


@pytest.mark.serving("store")
def test_no_mailbox_is_closed_since_a_move_was_cut_off(host: Host) -> None:
    """The same `deploy.move_mailbox` again completes it."""
    closed = host.file("/var/lib/site-move/closed")
    # Dovecot's auth process reads it.
    assert (closed.user, closed.mode, closed.content_string) == ("root", 0o644, "")
    left = host.check_output("find /var/vmail/.moving -name '*.out' 2>/dev/null || true")
    assert not left


@pytest.mark.serving("store")
def test_the_quota_service_is_reached_by_tls_only(host: Host) -> None:
    assert host.service("stunnel@quota-server.service").is_running
    assert host.service("stunnel@quota-server.service").is_enabled
    assert host.check_output("systemctl is-enabled stunnel4.service || true") == "masked"
    text = host.file("/etc/stunnel/quota-server.conf").content_string
    assert "verifyChain = yes" in text
