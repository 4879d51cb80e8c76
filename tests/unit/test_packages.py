"""What the roles need of Debian, all at once."""

from roles.common.packages import Needed, needed_by
from roles.common.site import load, roles_of

SITE = load("local")


def needed(name: str) -> Needed:
    """What a host of the lab needs."""
    host = SITE.hosts[name]
    return needed_by(roles_of(host), SITE, host)


def test_what_two_roles_need_is_named_once() -> None:
    both = Needed(["slapd", "python3"], ["a"]) | Needed(["python3", "age"], ["a", "b"])
    assert both == Needed(("slapd", "python3", "age"), ("a", "b"))


def test_a_host_gets_what_its_roles_need() -> None:
    front, mx, store = (set(needed(name).names) for name in ("front1", "mx1", "store1"))
    backup = set(needed("backup1").names)
    assert backup > {"restic-rest-server", "slapd"}
    assert "restic" in backup & front
    assert "restic-rest-server" not in front | mx | store
    assert front > {"roundcube-core", "postfix", "slapd", "postgresql-17"}
    assert "clamav-daemon" in mx - front
    assert "dovecot-lmtpd" in store - front


def test_what_packages_read_comes_along() -> None:
    front, mx = ({path for _, path in needed(name).templates} for name in ("front1", "mx1"))
    # PostgreSQL creates its cluster when it is installed; the other's own unit would complain.
    assert front == {
        "/etc/postgresql-common/createcluster.d/site.conf",
        "/etc/systemd/system/policyd-rate-limit.service",
    }
    assert not mx
