"""What the role `database` asks a host."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase

_QUERY = (
    "SELECT json_build_object("
    "'roles', (SELECT json_object_agg(rolname, json_build_object("
    "'verifier', coalesce(rolpassword, ''), 'limit', rolconnlimit, 'login', rolcanlogin))"
    " FROM pg_authid WHERE rolname !~ '^pg_'),"
    "'databases', (SELECT json_object_agg(datname, json_build_object("
    "'owner', pg_get_userbyid(datdba),"
    "'public', has_database_privilege('public', d.oid, 'CONNECT'),"
    "'settings', coalesce((SELECT setconfig FROM pg_db_role_setting s"
    " WHERE s.setdatabase = d.oid AND s.setrole = 0), '{}')))"
    " FROM pg_database d))"
)


@dataclass(frozen=True)
class RoleState:
    """A role that may log in."""

    verifier: str
    limit: int
    login: bool


@dataclass(frozen=True)
class DatabaseState:
    """A database."""

    owner: str
    public: bool
    """Whether every role may connect to it, as PostgreSQL's default is."""
    settings: tuple[str, ...]
    """Parameters of its own, `name=value`."""


@dataclass(frozen=True)
class ClusterState:
    """The roles and databases of the cluster."""

    roles: dict[str, RoleState]
    databases: dict[str, DatabaseState]


class Cluster(FactBase[ClusterState]):
    """The roles and databases, each by its name; none where no server answers."""

    def command(self) -> StringCommand:
        """Ask the running server, over its socket."""
        return StringCommand(
            "cd / && runuser -u postgres -- psql -XAtqc", QuoteString(_QUERY), "2>/dev/null; true"
        )

    @staticmethod
    def default() -> ClusterState:
        """No server."""
        return ClusterState({}, {})

    def process(self, output: Iterable[str]) -> ClusterState:
        """Read the one line of JSON."""
        text = "".join(output)
        if not text:
            return self.default()
        found = json.loads(text)
        return ClusterState(
            {name: RoleState(**values) for name, values in found["roles"].items()},
            {
                name: DatabaseState(**{**values, "settings": tuple(values["settings"])})
                for name, values in found["databases"].items()
            },
        )
