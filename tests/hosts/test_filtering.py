"""The role `filtering`: what runs, as whom, and what it would say of a broken configuration."""

import pytest
from testinfra.host import Host

from roles.common.site import Site, SiteHost
from roles.filtering.settings import FilteringSettings

CLAMD = "/run/clamav/clamd.ctl"
MILTER = "/var/spool/MIMEDefang/mimedefang.sock"
ASK_CLAMD = (
    "perl -MIO::Socket::UNIX -e '"
    f'my $s = IO::Socket::UNIX->new(Peer => "{CLAMD}") or die "$!\\n";'
    ' $s->syswrite("zPING\\0"); print <$s>\''
)


@pytest.mark.serving("mx")
@pytest.mark.parametrize(
    "unit", ["clamav-daemon.socket", "clamav-daemon.service", "mimedefang.service"]
)
def test_the_scanners_run_and_begin_with_the_host(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


@pytest.mark.serving("mx")
def test_the_workers_run_unprivileged(host: Host) -> None:
    assert host.service("mimedefang-multiplexor.service").is_running
    for name, user in (
        ("mimedefang", "defang"),
        ("mimedefang-mult", "defang"),
        ("clamd", "clamav"),
    ):
        running = host.check_output("ps -C %s -o user= | sort -u", name)
        assert running.split() == [user], name


@pytest.mark.serving("mx")
def test_only_those_who_must_reach_the_sockets(host: Host) -> None:
    clamd = host.file(CLAMD)
    assert clamd.is_socket
    assert (clamd.user, clamd.group, clamd.mode) == ("clamav", "defang", 0o660)
    milter = host.file(MILTER)
    assert milter.is_socket
    assert milter.group == "defang"
    assert milter.mode & 0o007 == 0
    assert set(host.group("defang").members) <= {"clamav", "postfix"}
    assert "postfix" in host.group("defang").members
    assert "defang" in host.user("defang").groups


@pytest.mark.serving("mx")
def test_nothing_of_it_listens_on_the_network(host: Host) -> None:
    listening = host.check_output("ss -Hltnp")
    assert "clamd" not in listening
    assert "mimedefang" not in listening


@pytest.mark.serving("mx")
def test_clamd_answers_and_has_signatures(host: Host) -> None:
    assert host.check_output(ASK_CLAMD).rstrip("\0") == "PONG"
    assert host.check_output(
        "find /var/lib/clamav -maxdepth 1 -type f -size +0 ! -name '*.dat'"
    ).split()


@pytest.mark.serving("mx")
def test_signatures_are_renewed_unless_there_is_no_source(
    host: Host, site: Site, me: SiteHost
) -> None:
    settings = site.of(FilteringSettings, me.name)
    assert host.service("clamav-freshclam.service").is_running == settings.downloads


@pytest.mark.serving("mx")
def test_rules_are_renewed_unless_the_package_brings_them(
    host: Host, site: Site, me: SiteHost
) -> None:
    renewed = site.of(FilteringSettings, me.name).rules_source != "package"
    assert host.service("spamassassin-maintenance.timer").is_running == renewed


def test_spamassassin_has_no_complaint(host: Host) -> None:
    said = host.run("spamassassin --lint 2>&1")
    assert said.rc == 0
    assert said.stdout == ""


@pytest.mark.serving("mx")
def test_the_filter_loads(host: Host) -> None:
    said = host.run(
        "cd / && runuser -u defang -- mimedefang.pl -f /etc/mail/site-filter -test 2>&1"
    )
    assert said.rc == 0
    assert "seems syntactically correct" in said.stdout


def test_the_bayes_store_is_complete_and_reached(host: Host) -> None:
    assert host.check_output("/usr/local/libexec/site/bayes-store check") == "complete"


def test_the_password_of_the_bayes_store_is_for_those_who_need_it(host: Host) -> None:
    file = host.file("/etc/spamassassin/bayes.cf")
    assert (file.user, file.group, file.mode) == ("root", "site-bayes", 0o640)
    assert set(host.group("site-bayes").members) <= {"debian-spamd", "defang"}
    assert file.contains("sslmode=verify-full")


@pytest.mark.serving("mx")
def test_one_host_cleans_the_bayes_store(host: Host, site: Site, me: SiteHost) -> None:
    first = site.group("mx")[0].name == me.name
    timer = host.service("site-bayes-forget.timer")
    assert (timer.is_running, timer.is_enabled) == (first, first)


@pytest.mark.serving("store")
def test_the_learner_watches_the_spool(host: Host) -> None:
    path = host.service("site-learn.path")
    assert path.is_running
    assert path.is_enabled
    for kind in ("spam", "ham"):
        folder = host.file(f"/var/spool/site-learn/{kind}")
        assert folder.is_directory
        assert folder.group == "site-learn"
        assert folder.mode == 0o2770


def test_nothing_has_failed(host: Host) -> None:
    failed = host.check_output("systemctl list-units --failed --plain --no-legend")
    ours = ("clam", "mimedefang", "site-learn", "site-bayes", "spamassassin")
    assert not [line for line in failed.splitlines() if line.startswith(ours)]


@pytest.mark.serving("mx")
def test_the_scanners_have_no_complaint_about_their_configuration(host: Host) -> None:
    journal = host.check_output(
        "journalctl --no-pager -o cat -b -u clamav-daemon.service -u mimedefang.service"
        " -u mimedefang-multiplexor.service"
    )
    suspicious = ("deprecat", "obsolete", "unknown option", "failed to parse", "is insecure")
    assert not [line for line in journal.splitlines() if any(s in line.lower() for s in suspicious)]
