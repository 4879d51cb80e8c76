"""Repositories that are damaged, closed, or on a full disk: seen, told, and nothing is thrown away.

Each test works on a copy of one host's repository, with the keeper of the backup host.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from roles.common.site import Site, SiteHost
from tests import remote
from tests.backups import OWNER, Keeper, another_keeper, no_clock

__all__ = ["no_clock"]
"""A fixture."""
_PACK = "find {folder} -path '*/data/*' -type f -printf '%s %p\\n' | sort -n | tail -1"


@dataclass(frozen=True)
class Copy(Keeper):
    """A keeper with a copy of a repository."""

    host: SiteHost
    """Whose repository it is."""

    def setting(self, **settings: str | float) -> None:
        """Change settings of the keeper; the others are again as the fixture has them."""
        own: dict[str, str | float] = {
            "folder": self.folder,
            "state": self.folder,
            "shares": 1,
            "free": 0,
        }
        self.configure(self.host, **{**own, **settings})

    def kinds(self) -> set[str]:
        """The alarms of its status."""
        code, text = self("status --json")
        found: dict[str, Any] = json.loads(text)
        assert code == (2 if found["alarms"] else 0)
        return {alarm["kind"] for alarm in found["alarms"]}

    def pack(self) -> tuple[int, str]:
        """Size and path of the largest file of its data."""
        size, path = self.shell(_PACK.format(folder=self.folder)).split()
        return int(size), path


@pytest.fixture
def copy(site: Site) -> Iterator[Copy]:
    """A copy of the repository of a host, which all that looks after it calls good."""
    host = site.group("directory")[0]
    remote.shell(site, host.address, "site-backup run directory keys")
    with another_keeper(site) as keeper:
        made = Copy(site, keeper.folder, host)
        made.shell(f"cp -a /srv/restic/{host.name} {made.folder}/")
        made.setting()
        yield made


def test_a_good_copy_is_no_alarm(copy: Copy) -> None:
    for job in ("check", "drill", "prune"):
        code, text = copy(job)
        assert code == 0, text
    assert not copy.kinds() & {"damaged", "drill", "unreadable", "stale", "missing"}


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_repository_is_told_and_nothing_is_forgotten(copy: Copy, damage: str) -> None:
    size, path = copy.pack()
    flip = f"f = open('{path}', 'r+b'); f.seek({size // 2}); b = f.read(1)[0]; f.seek({size // 2});"
    copy.shell(
        {
            "flipped": f'chmod u+w {path} && python3 -c "{flip} f.write(bytes([b ^ 1]))"',
            "truncated": f"truncate -s {size // 2} {path}",
            "missing": f"rm {path}",
        }[damage]
    )
    before = copy.shell(f"ls {copy.folder}/{copy.host.name}/snapshots")
    code, text = copy("check")
    assert code == 1, text
    assert "damaged" in copy.kinds()
    code, text = copy("prune")
    assert (code, "nothing is forgotten before it is mended" in text) == (1, True), text
    assert copy.shell(f"ls {copy.folder}/{copy.host.name}/snapshots") == before


def test_a_drill_of_a_damaged_repository_fails(copy: Copy) -> None:
    copy.shell(f"find {copy.folder}/{copy.host.name}/data -type f -delete")
    code, text = copy("drill")
    assert code == 1, text
    assert {"drill"} <= copy.kinds()


def test_a_wrong_key_is_an_alarm(copy: Copy) -> None:
    copy.shell(f"echo wrong > {copy.folder}/wrong.secret")
    copy.setting(password=f"{copy.folder}/wrong.secret")
    copy.shell(f"chown {OWNER} {copy.folder}/wrong.secret")
    assert copy.kinds() == {"unreadable"}


def test_a_full_disk_is_an_alarm_and_the_status_is_still_read(copy: Copy) -> None:
    # As a share of the disk that is never free.
    copy.setting(free=1.0)
    copy.shell(f"chmod a-w {copy.folder}/{copy.host.name}/locks")
    assert copy.kinds() == {"disk"} | (copy.kinds() & {"strange", "small"})


def test_a_backup_that_is_too_old_is_an_alarm(copy: Copy) -> None:
    copy.setting(stale=0)
    assert "stale" in copy.kinds()
