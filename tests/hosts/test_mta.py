"""The role `mta`: Postfix on `mx` and `front`, and what it asks."""

import re
from pathlib import PurePosixPath

import pytest
from testinfra.host import Host

from roles.common.site import Site, SiteHost
from roles.mta.settings import MtaSettings
from roles.mta.values import tunnels

CHECK = "/usr/local/libexec/site/check-postfix"


def parameter(host: Host, name: str) -> str:
    """A parameter as Postfix expands it."""
    return str(host.check_output("postconf -hx %s", name))


def test_it_runs_and_starts_at_boot(host: Host) -> None:
    assert host.service("postfix.service").is_running
    assert host.service("postfix.service").is_enabled


def test_it_listens_where_its_groups_say(host: Host, me: SiteHost) -> None:
    expected = {25, 10025} if me.serves("mx") else set()
    expected |= {465, 587} if me.serves("front") else set()
    listening = {
        int(line.split()[3].rpartition(":")[2])
        for line in host.check_output("ss -Hltn").splitlines()
        if not line.split()[3].startswith("127.")
    }
    assert listening & {25, 465, 587, 10025} == expected


def test_the_configuration_passes_its_own_checker(host: Host) -> None:
    found = host.run("%s /etc/postfix", CHECK)
    assert found.rc == 0, found.stderr


@pytest.mark.serving("mx")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("smtpd_tls_security_level=foo", 'Invalid TLS level "foo"'),
        ("message_size_limit=26GIGOTS", "main.cf: message_size_limit = 26GIGOTS: expected a whole"),
        ("smtpd_recipient_limitt=10", "unused parameter: smtpd_recipient_limitt=10"),
        ("delay_warning_time=4x", "main.cf: delay_warning_time = 4x: expected a time, such as 0h"),
    ],
    ids=lambda value: value.split("=")[0] if "=" in value else "",
)
def test_its_checker_refuses_what_is_broken(host: Host, change: str, words: str) -> None:
    """On a copy: nothing that runs is touched."""
    script = (
        f"copy=$(mktemp -d) && cp -a /etc/postfix/. $copy && postconf -c $copy -e '{change}' &&"
        f" {{ {CHECK} $copy; code=$?; rm -rf $copy; exit $code; }}"
    )
    found = host.run(script)
    assert found.rc == 1
    assert words in found.stderr


def test_it_runs_what_is_on_disk(host: Host) -> None:
    """The newest file is older than the last start or reload."""
    newest = float(
        host.check_output(
            "find /etc/postfix -type f ! -name '.*' -printf '%C@\\n' | sort -rn | head -n1"
        )
    )
    started = host.check_output(
        'date +%s -d "$(systemctl show postfix.service --value -p ActiveEnterTimestamp)"'
    )
    stamp = host.run("stat -c %Z /run/site-reloaded-postfix.service").stdout.strip() or "0"
    assert newest <= max(float(started), float(stamp)) + 1


def test_secrets_are_for_postfix_alone(host: Host, me: SiteHost) -> None:
    files = {
        PurePosixPath(path).stem for path in host.check_output("ls /etc/postfix/ldap/").splitlines()
    }
    expected = {"further", "list", "mailhost"}
    expected |= {"alias", "list-transport", "redirect", "transport"} if me.serves("mx") else set()
    expected |= {"sender", "senders", "units"} if me.serves("front") else set()
    assert files == expected
    for name in files:
        file = host.file(f"/etc/postfix/ldap/{name}.cf")
        assert (file.user, file.group, file.mode) == ("root", "postfix", 0o640)


def test_nothing_runs_chrooted(host: Host) -> None:
    assert host.check_output("postfix chroot query") == "off"


def test_the_directory_answers_it(host: Host, site: Site) -> None:
    found = host.run(
        "runuser -u postfix -- postmap -q %s proxy:ldap:/etc/postfix/ldap/mailhost.cf",
        site.postmaster,
    )
    assert found.stdout.strip() in site.store_names, found.stderr


@pytest.mark.regulation("8")
@pytest.mark.serving("mx")
def test_no_letter_passes_unscanned(host: Host, site: Site, me: SiteHost) -> None:
    scanners = parameter(host, "smtpd_milters")
    assert scanners == ", ".join(site.of(MtaSettings, me.name).milters)
    ours = parameter(host, "non_smtpd_milters")
    assert ours == f"{scanners}, unix:/run/opendkim/opendkim.sock"
    assert parameter(host, "milter_default_action") == "tempfail"
    overridden = host.check_output("postconf -P")
    # What Postfix writes itself is signed, and holds nothing to be scanned.
    ports = ["10025", *(["submission", "submissions"] if me.serves("front") else [])]
    assert {line for line in overridden.splitlines() if "milters" in line} == {
        *(f"{port}/inet/smtpd_milters = $ours" for port in ports),
        "notices/unix/non_smtpd_milters = $signer",
    }
    assert "receive_override_options" not in overridden + host.check_output("postconf -n")


@pytest.mark.serving("mx")
def test_the_tunnels_to_the_quota_services_run(host: Host, site: Site) -> None:
    assert host.service("stunnel@quota-client.service").is_running
    assert host.service("stunnel@quota-client.service").is_enabled
    assert not host.service("stunnel4.service").is_running
    for tunnel in tunnels(site):
        assert host.socket(f"tcp://127.0.0.1:{tunnel.port}").is_listening
    users = host.check_output("ps -C stunnel4 -o user=").split()
    assert "root" not in users


@pytest.mark.serving("mx")
def test_each_store_answers_whether_a_mailbox_is_full(host: Host, site: Site) -> None:
    request = f"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient={site.postmaster}\n\n"
    for tunnel in tunnels(site):
        asking = f'exec 3<>/dev/tcp/127.0.0.1/{tunnel.port}; printf %s "$0" >&3; head -n1 <&3; true'
        answer = host.check_output("timeout 10 bash -c %s %s", asking, request + "\n")
        assert answer.startswith("action=DUNNO"), f"{tunnel.store}: {answer}"


@pytest.mark.regulation("13")
@pytest.mark.serving("front")
def test_what_officials_send_is_counted(host: Host) -> None:
    for unit in ("policyd-rate-limit.service", "policyd-rate-limit-clean.timer"):
        assert host.service(unit).is_running
        assert host.service(unit).is_enabled
    folder = host.file("/run/policyd-rate-limit")
    assert (folder.user, folder.group, folder.mode) == (
        "policyd-rate-limit",
        "policyd-rate-limit",
        0o750,
    )
    assert "policyd-rate-limit" in host.user("postfix").groups


def test_its_letters_are_in_vietnamese(host: Host) -> None:
    text = host.check_output("postconf -b /etc/postfix/bounce.cf")
    assert text.count("Hệ thống thư điện tử") == 4
    assert "Thư của ông/bà KHÔNG gửi được" in text
    assert host.file("/etc/postfix/bounce.cf").content_string.count("Charset: utf-8\n") == 4
    assert not re.search(r"\$[a-z]", text)
    assert not re.search(r" 0 (giờ|ngày)", text)


def test_it_logs_to_the_journal(host: Host) -> None:
    lines = host.check_output(
        "journalctl -q -u postfix.service -n 200 -o cat --output-fields=SYSLOG_IDENTIFIER,MESSAGE"
    )
    assert "daemon started" in lines or "reload -- version" in lines or "connect from" in lines


def test_it_complains_of_nothing_since_its_start(host: Host) -> None:
    """Deprecated, unknown or contradictory settings are defects."""
    found = host.check_output(
        "journalctl -q -u postfix.service -o cat --since"
        ' "$(systemctl show postfix.service --value -p ActiveEnterTimestamp)"'
        " | grep -E 'unused parameter|[Dd]eprecat|obsolete|unsupported dictionary|panic: '"
        " || true"
    )
    assert found == ""


@pytest.mark.parametrize("limit", ["CapEff", "NoNewPrivs"])
def test_its_processes_may_do_little(host: Host, limit: str) -> None:
    process = host.check_output("systemctl show postfix.service --value -p MainPID")
    status = host.file(f"/proc/{process}/status").content_string
    value = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)[limit]
    if limit == "NoNewPrivs":
        assert value == "1"
    else:
        # CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYS_MODULE, CAP_NET_ADMIN.
        assert not int(value, 16) & (1 << 21 | 1 << 19 | 1 << 16 | 1 << 12)
