"""How the role `database` changes a cluster."""

from collections.abc import Generator, Mapping
from io import BytesIO

from pydantic import SecretStr
from pyinfra.api.command import FileUploadCommand, StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from roles.common.plan import say
from roles.database.facts import Cluster
from roles.database.scram import matches, verifier

_DRAFT = "/run/site-database.sql"


def _run(statements: list[str]) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """Run SQL from a file that root alone can read: nothing of it is on a command line."""
    text = "".join(f"{statement};\n" for statement in statements)
    yield StringCommand(f"install -m 600 /dev/null {_DRAFT}")
    yield FileUploadCommand(BytesIO(text.encode()), _DRAFT)
    yield StringCommand(
        f"cd / && runuser -u postgres -- psql -Xqv ON_ERROR_STOP=1 < {_DRAFT} >&2;"
        f" result=$?; rm -f {_DRAFT}; exit $result"
    )


@operation()
def role(
    role: str, password: SecretStr, connections: int
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """A role that logs in with a password.

    Args:
        role: its name.
        password: in clear; only its verifier is sent.
        connections: how many it may hold.
    """
    found = host.get_fact(Cluster).roles.get(role)
    statements = []
    if found is None:
        statements.append(f"CREATE ROLE {role}")
    if found is None or not found.login or found.limit != connections:
        statements.append(f"ALTER ROLE {role} LOGIN CONNECTION LIMIT {connections}")
    clear = password.get_secret_value()
    if found is None or not matches(clear, found.verifier):
        # The server takes a verifier as it is. The statement would be logged if it failed.
        statements.append("SET log_min_error_statement = 'panic'")
        statements.append(f"ALTER ROLE {role} PASSWORD '{verifier(clear)}'")
    if statements:
        say(f"role {role}: {'corrected' if found else 'new'}")
        yield from _run(statements)


@operation()
def database(
    database: str, owner: str, locale: str, settings: Mapping[str, str]
) -> Generator[StringCommand | FileUploadCommand, None, None]:
    """A database that its owner alone may connect to.

    Args:
        database: its name.
        owner: the role that owns it.
        locale: SQL that names its collation; only for a new one.
        settings: parameters of its own.
    """
    found = host.get_fact(Cluster).databases.get(database)
    if found is None:
        say(f"database {database}: new")
        creation = f"CREATE DATABASE {database} OWNER {owner} TEMPLATE template0"
        yield from _run([f"{creation} ENCODING 'UTF8' {locale}"])
    statements = []
    if found is not None and found.owner != owner:
        statements.append(f"ALTER DATABASE {database} OWNER TO {owner}")
    if found is None or found.public:
        statements.append(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    known = found.settings if found else ()
    if set(known) != {f"{key}={value}" for key, value in settings.items()}:
        statements.append(f"ALTER DATABASE {database} RESET ALL")
        statements += [
            f"ALTER DATABASE {database} SET {key} = '{value}'" for key, value in settings.items()
        ]
    if statements:
        if found is not None:
            say(f"database {database}: corrected")
        yield from _run(statements)
