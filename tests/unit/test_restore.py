"""The plan of a rebuild: what comes first, and what another host has newer."""

import argparse
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from deploy import restore, restore_mail, restore_targets
from roles.backup import target_file
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost, load


def words(site: Site, names: Sequence[str]) -> list[str]:
    options = argparse.Namespace(at="", source="")
    return [step.words for step in restore.steps(site, [site.hosts[n] for n in names], options)]


def test_a_directory_host_that_is_the_only_one_is_loaded_before_the_registry_runs() -> None:
    assert words(load("local"), ["directory1"]) == [
        "deploy the foundation of directory1",
        "no backup begins meanwhile",
        "the directory on directory1, loaded as a whole",
        "keys of directory1",
        "deploy everything of directory1",
    ]


def test_a_directory_host_with_a_peer_takes_everything_from_there() -> None:
    found = words(load("production"), ["directory2"])
    assert not [step for step in found if "loaded" in step]


def test_mail_is_in_place_before_any_can_arrive() -> None:
    found = words(load("local"), ["store1"])
    assert found.index("keys, archive, mail of store1") < found.index("deploy everything of store1")
    assert found[-1] == "letters of mailboxes that were there already"


@pytest.mark.parametrize("environment", ["local", "single", "pair", "production"])
def test_a_site_gets_its_directory_first_and_everything_once(environment: str) -> None:
    site = load(environment)
    found = words(site, list(site.hosts))
    assert len(set(found)) == len(found)
    directory = found.index(
        f"the directory on {site.group('directory')[0].name}, loaded as a whole"
    )
    everything = next(n for n, step in enumerate(found) if step.startswith("deploy everything"))
    databases = found.index(f"the databases on {site.group('database')[0].name}")
    assert directory < databases < everything
    for host in site.group("store"):
        held = next(n for n, step in enumerate(found) if step.endswith(f"mail of {host.name}"))
        assert directory < held < everything


def test_hosts_get_their_data_side_by_side_and_each_its_own_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    together = threading.Barrier(2, timeout=30)
    done: list[str] = []

    def alone(words: str) -> list[str]:
        done.append(words)
        return []

    def at_once(words: str) -> list[str]:
        # Nobody gets past it alone.
        together.wait()
        done.append(words)
        return [f"{words}: left"]

    def fails() -> list[str]:
        raise SiteError("front1: no disk")

    todo = [
        restore.Step("first", lambda: alone("first")),
        restore.Step("mail", lambda: at_once("mail"), on="store1"),
        restore.Step("keys", lambda: at_once("keys"), on="front1"),
        restore.Step("database", lambda: alone("database"), on="front1"),
        restore.Step("last", lambda: alone("last")),
    ]
    monkeypatch.setattr(restore, "steps", lambda *_: todo)
    monkeypatch.setattr(restore, "noted", lambda *_: None)
    site = load("local")
    options = argparse.Namespace(at="", source="", action="apply")
    assert restore.rebuild(site, [site.hosts["store1"]], options) == 1
    assert (done[0], done[-1]) == ("first", "last")
    assert done.index("keys") < done.index("database")
    assert {"mail: left", "keys: left"} <= {*capsys.readouterr().out.splitlines()}

    todo[3] = restore.Step("database", fails, on="front1")
    done.clear()
    with pytest.raises(SiteError, match="front1: no disk"):
        restore.rebuild(site, [site.hosts["store1"]], options)
    # What others do is not cut off, and nothing comes after.
    assert sorted(done) == ["first", "keys", "mail"]


def test_the_backup_host_alone_has_nothing_to_bring_back() -> None:
    assert words(load("local"), ["backup1"]) == [
        "deploy the foundation of backup1",
        "no backup begins meanwhile",
        "deploy everything of backup1",
    ]


def test_from_a_second_site_hosts_learn_how_it_is_reached_and_forget_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = load("local")
    options = argparse.Namespace(at="", source="second", action="apply")
    told: list[tuple[str, str, str]] = []

    def everywhere(
        _: Site, hosts: Sequence[SiteHost], command: str
    ) -> tuple[dict[str, str], list[str]]:
        told.extend((host.name, command, "") for host in hosts)
        return {}, ["store1: does not answer"]

    monkeypatch.setattr(restore_targets, "everywhere", everywhere)
    monkeypatch.setattr(
        restore_targets, "shell", lambda _, host, words, text: told.append((host.name, words, text))
    )
    monkeypatch.setattr(target_file, "text", lambda _, names, hosts: (
        f"{', '.join(names)} for {', '.join(host.name for host in hosts)}"))  # fmt: skip
    whole = restore.steps(site, list(site.hosts.values()), options)
    assert whole[2].words == "they learn how second is reached"
    whole[2].work()
    # Each what is its own, and by standard input.
    assert [(name, text) for name, _, text in told] == [
        (name, f"second for {name}") for name in ("directory1", "store1", "mx1", "front1")
    ]
    assert not any("second for" in words for _, words, _ in told)

    def fails() -> list[str]:
        raise SiteError("cut off")

    monkeypatch.setattr(restore, "steps", lambda *_: [restore.Step("x", fails)])
    told.clear()
    with pytest.raises(SiteError, match="cut off"):
        restore.rebuild(site, [site.hosts["store1"]], options)
    assert told == [("store1", "rm -f /run/site-backup-targets.json"
                     " /run/site-backup-targets.json.new", "")]  # fmt: skip
    assert "store1: does not answer" in capsys.readouterr().err
    with (
        pytest.raises(SiteError, match="not every host forgot"),
        restore_targets.reached(site, [site.hosts["store1"]], "second"),
    ):
        pass


@pytest.mark.parametrize(
    ("words", "host"),
    [
        (["directory", "--at", "2026-11-20"], "directory1"),
        (["database", "--at", "2026-11-20"], "front1"),
        (["mailbox", "anv", "--at", "2026-11-20"], "store1"),
    ],
)
def test_what_holds_the_data_reads_from_a_second_site_while_it_is_told_how(
    words: list[str], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = load("local")
    events: list[str] = []

    @contextmanager
    def reached(_: Site, hosts: Sequence[SiteHost], source: str) -> Iterator[None]:
        events.append(f"{source} to {', '.join(one.name for one in hosts)}")
        yield
        events.append("forgotten")

    def asked(_: Site, one: SiteHost, *request: Any) -> dict[str, Any]:
        events.append(f"asked {one.name} of {request[-1]['source']}")
        raise SiteError("enough")

    monkeypatch.setattr(restore_targets, "reached", reached)
    monkeypatch.setattr(restore_targets, "check", lambda *_: None)
    for module in (restore, restore_mail):
        monkeypatch.setattr(module, "asked", asked)
    monkeypatch.setattr(restore_mail, "noted", lambda *_: None)
    what = {"source": "second", "address": "anv"}
    monkeypatch.setattr(restore_mail, "request", lambda *_: (site.hosts["store1"], what))
    command = ["--env", "local", "plan", *words, "--from", "second"]
    assert restore.main(command) == 1
    assert events == [f"second to {host}", f"asked {host} of second"]


def test_a_host_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert restore.main(["--env", "local", "plan", "host", "store9"]) == 1
    assert "host store9: no such host in local; expected one of backup1" in capsys.readouterr().err


def test_a_time_to_come_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert restore.main(["--env", "local", "plan", "host", "store1", "--at", "2099-01-01"]) == 1
    assert "--at '2099-01-01': is yet to come" in capsys.readouterr().err


def test_a_plan_says_what_comes_back_and_what_cannot() -> None:
    site = load("local")
    answer = {
        "taken": "2026-11-20T01:00:00+00:00", "loaded": 0, "added": [f"cn={n}" for n in range(30)],
        "modified": [{"dn": "cn=a", "attributes": {"title": ["x", "y"], "pwdReset": []}}],
        "deleted": [], "stays": [], "revoked": [], "refused": {"cn=b": "mail b belongs to cn=c"},
    }  # fmt: skip
    lines = restore.directory_shown(site, answer)
    assert lines[:2] == ["the directory as it was at 2026-11-20 08:00:00:", "  30 come back:"]
    assert "    … and 10 lines more (--json has all)" in lines
    assert "  1 values become what they were:" in lines
    assert "        title: x, y" in lines
    assert "        pwdReset: none" in lines
    assert lines[-1] == "    cn=b: mail b belongs to cn=c"
