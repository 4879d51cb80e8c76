"""The role `filtering`: its settings and what follows from them."""

import base64
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import ValidationError

from roles.common.errors import SiteError
from roles.common.rendering import render
from roles.common.site import ROOT, Site, load, merged, parse, read_document
from roles.filtering import mimedefang
from roles.filtering.facts import Hardware, Machine
from roles.filtering.operations import too_many_workers, workers
from roles.filtering.settings import FilteringSettings
from tests.samples import eicar

SETTINGS = FilteringSettings()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"spam_scan_size": "26GIGOTS"}, "expected a whole number and a unit"),
        ({"tag_score": 0}, "tag_score"),
        ({"tag_score": 9, "outgoing_reject_score": 8}, "expected at least tag_score"),
        ({"refused_attachments": [".exe"]}, "refused_attachments"),
        ({"refused_attachments": ["exe|.*"]}, "refused_attachments"),
        ({"secret_marks": ["mật'"]}, "secret_marks"),
        ({"encrypted_archives": "maybe"}, "'accept' or 'refuse'"),
        ({"rules_source": "somewhere"}, "rules_source"),
        ({"scan_timeout": "10min"}, "expected '30s' to '170s'"),
        ({"local_signatures": ["nothing.ndb"]}, "expected a file below the project's root"),
        ({"local_signatures": ["README.md"]}, "expected a ClamAV signature file"),
        ({"official_signatures": False}, "no source of virus signatures"),
        ({"own_rules": ["score A 1\nscore B 2"]}, "own_rules"),
        ({"queue": 200}, "queue"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        FilteringSettings.model_validate(values)


def test_workers_follow_processors_and_memory() -> None:
    assert workers(Machine(8, 65536), network_tests=True) == 32
    assert workers(Machine(8, 65536), network_tests=False) == 16
    assert workers(Machine(8, 4096), network_tests=True) == 6
    assert workers(Machine(1, 1024), network_tests=True) == 2


def test_the_machine_is_read_off_one_line() -> None:
    assert Hardware().process(["4 7977"]) == Machine(4, 7977)


def lines(site: Site, settings: FilteringSettings, path: str) -> list[str]:
    """A configuration file without its comments."""
    host = site.group("mx")[0]
    values = {"site": site, "host": host, "settings": settings, "workers": 4}
    text = render(f"filtering/{path}.j2", values)
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_sites_own_relays_are_trusted() -> None:
    site = load("production")
    found = lines(site, SETTINGS, "etc/spamassassin/local.cf")
    (trusted,) = (line.split()[1:] for line in found if line.startswith("trusted_networks"))
    assert set(trusted) == {host.address for host in site.hosts.values()}
    msa = {line.split()[1] for line in found if line.startswith("msa_networks")}
    assert msa == {host.address for host in site.group("front")}


def test_a_front_that_is_an_mx_too_takes_letters_from_strangers() -> None:
    site = load("local")
    one = replace(next(iter(site.hosts.values())), groups=("front", "mx", "store", "database"))
    alone = replace(site, hosts={one.name: one})
    found = lines(alone, SETTINGS, "etc/spamassassin/local.cf")
    assert not [line for line in found if line.startswith("msa_networks")]


def test_own_rules_come_last() -> None:
    settings = FilteringSettings(own_rules=["score GTUBE 5", "body X /x/"])
    found = lines(load("local"), settings, "etc/spamassassin/local.cf")
    assert found[-2:] == settings.own_rules


def test_no_question_goes_to_dns_where_there_is_none() -> None:
    settings = FilteringSettings(network_tests=False)
    found = lines(load("local"), settings, "etc/spamassassin/local.cf")
    assert {"dns_available no", "skip_rbl_checks 1", "skip_uribl_checks 1"} <= set(found)
    assert "    network_tests => 0," in lines(load("local"), settings, "etc/mail/site-filter.conf")


def test_signatures_come_from_where_the_site_says() -> None:
    site = load("local")
    internet = lines(site, SETTINGS, "etc/clamav/freshclam.conf")
    assert "DatabaseMirror database.clamav.net" in internet
    mirror = FilteringSettings(signature_mirror="mirror.example")
    found = lines(site, mirror, "etc/clamav/freshclam.conf")
    assert "PrivateMirror mirror.example" in found
    assert not [line for line in found if "clamav.net" in line]
    own = FilteringSettings(official_signatures=False, signature_urls=["https://a.example/b.ndb"])
    found = lines(site, own, "etc/clamav/freshclam.conf")
    assert "DatabaseCustomURL https://a.example/b.ndb" in found
    assert "ExcludeDatabase daily" in found


def test_what_waits_for_what_fits_into_postfix_patience() -> None:
    settings = FilteringSettings(scan_timeout="170s")
    (start,) = (
        line
        for line in lines(
            load("local"), settings, "etc/systemd/system/mimedefang-multiplexor.service"
        )
        if " -b " in line
    )
    words = start.split()
    assert int(words[words.index("-b") + 1]) + int(words[words.index("-Q") + 1]) < 300


def test_the_labs_signature_is_eicars_and_no_scanner_finds_it_here() -> None:
    content = (ROOT / "roles/filtering/files/eicar.ndb").read_bytes()
    assert eicar().startswith(b"X5O!P%@AP")
    assert len(eicar()) == 68
    assert eicar() not in content
    assert base64.b64encode(eicar()) not in content


def site_with(bayes: int, **workers: int | None) -> Site:
    """Production with so many connections to the Bayes store, and workers of its mx."""
    source = ROOT / "inventories" / "production" / "site.toml"
    hosts: dict[str, Any] = {
        name: {"settings": {"filtering": {"workers": count}}}
        for name, count in workers.items()
        if count
    }
    hosts["database1"] = {"settings": {"database": {"bayes_connections": bayes}}}
    return parse(merged(read_document(source), {"hosts": hosts}), source)


@pytest.mark.parametrize(("mx1", "mx2"), [(20, 30), (None, 30), (None, None)])
def test_as_many_connections_as_letters_at_once_are_enough(
    mx1: int | None, mx2: int | None
) -> None:
    # Two stores learn, and one job forgets.
    assert too_many_workers(site_with(53, mx1=mx1, mx2=mx2), 20 if mx2 else 25) is None


def test_more_workers_than_connections_are_refused() -> None:
    expected = r"site\.toml: filtering\.workers: 50 .* 53 .*database\.bayes_connections .* 52\)"
    with pytest.raises(SiteError, match=expected):
        too_many_workers(site_with(52, mx1=20, mx2=30), 20)


@pytest.mark.parametrize("mx2", [30, None])
def test_workers_that_follow_the_hardware_are_warned_of(mx2: int | None) -> None:
    """Of the other hosts' hardware nothing is known here: they are taken to be alike."""
    said = too_many_workers(site_with(52, mx2=mx2), 20 if mx2 else 25)
    assert said is not None
    assert "53" in said
    assert "bayes_connections" in said


@pytest.mark.parametrize("environment", ["local", "single", "staging", "production"])
def test_the_default_serves_two_hosts_of_sixteen_processors(environment: str) -> None:
    count = workers(Machine(16, 32768), network_tests=True)
    assert too_many_workers(load(environment), count) is None


@pytest.mark.parametrize(("name", "runs"), [("mx1", True), ("mx2", False)])
def test_only_the_first_mx_cleans_the_bayes_store(
    monkeypatch: pytest.MonkeyPatch, name: str, runs: bool
) -> None:
    """Also after their order changed: the one that was the first stops."""
    site = load("production")
    done: dict[str, str] = {}
    for what in ("template", "static", "configure"):
        monkeypatch.setattr(mimedefang, what, Mock())
    monkeypatch.setattr(mimedefang, "service", lambda unit, **_: done.update({unit: "runs"}))
    monkeypatch.setattr(mimedefang, "stopped", lambda unit, **_: done.update({unit: "stops"}))
    monkeypatch.setattr(mimedefang, "current_site", lambda: site)
    monkeypatch.setattr(mimedefang, "current_host", lambda: site.hosts[name])
    mimedefang.renewal(FilteringSettings())
    assert done["site-bayes-forget.timer"] == ("runs" if runs else "stops")
