"""Second sites, played by `outside1`. The backup host copies by its own unit, in its sandbox."""

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import SecretStr

from deploy.run import EXIT_DONE, run
from roles.backup.deploy import clients as holders
from roles.backup.deploy import parts, server
from roles.common.secrets import TargetSecrets
from roles.common.site import ROOT, Site, SiteHost, load
from tests import clients, remote
from tests.deploys import overlaid

_OBJECTS = Path(__file__).with_name("objects.py")
NAME = "second"
"""Of the one by SFTP."""
RUN, UNIT = "/run/second-site", "second-site"
COPY = "site-backup-copy.service"
_RUNS = "systemd-run -q --collect -p Type=notify --unit={unit} {command}"


@dataclass(frozen=True)
class Second(ABC):
    """A second site, which the backup host knows."""

    site: Site
    """As the environment says it, with the second site and what opens it."""
    name: ClassVar[str]
    stranger: ClassVar[str]
    """What restic says where somebody else answers there."""

    @property
    def keeper(self) -> SiteHost:
        """The backup host."""
        return server(self.site)

    @property
    def address(self) -> str:
        """Where it is."""
        return clients.outside_address(self.site)

    def shell(self, command: str, *, stdin: str = "") -> str:
        """Run a command at the second site."""
        return remote.shell(self.site, self.address, command, stdin=stdin)

    def at_keeper(self, command: str, *, check: bool = True) -> str:
        """Run a command on the backup host."""
        return remote.shell(self.site, self.keeper.address, command, check=check)

    @abstractmethod
    def make(self) -> None:
        """Make it, and start it."""

    @abstractmethod
    def undo(self) -> None:
        """Remove it, and what is left of one."""

    @abstractmethod
    def settings(self) -> str:
        """How it is reached, as TOML."""

    @abstractmethod
    def secrets(self) -> TargetSecrets:
        """What opens it."""

    @abstractmethod
    def somebody_else(self) -> AbstractContextManager[None]:
        """Inside the block somebody answers there whom nobody knows."""

    @abstractmethod
    def files(self) -> dict[str, int]:
        """What is kept there: bytes by path."""

    def copied(self) -> str:
        """Copy by the backup host's own unit; its result."""
        self.at_keeper(f"systemctl reset-failed {COPY} 2>/dev/null; systemctl start {COPY}",
                       check=False)  # fmt: skip
        return self.at_keeper(f"systemctl show -P Result {COPY}").strip()

    def copy(self, host: SiteHost, *, check: bool = True) -> None:
        """Copy there what one host backed up."""
        self.at_keeper(f"site-backup-keeper copy {host.name}/{self.name}", check=check)

    def alarms(self) -> dict[str, str]:
        """What the keeper says of copies: words by host."""
        said = self.at_keeper("site-backup-keeper status || test $? = 2")
        found = {}
        for line in said.splitlines():
            place, _, words = line.removeprefix("ALARM ").partition(": copy: ")
            if words and place.endswith(f"/{self.name}"):
                found[place.removesuffix(f"/{self.name}")] = words
        return found

    def snapshots(self, host: SiteHost) -> set[str]:
        """The backups of a host that are kept there."""
        return {path for path in self.files() if f"/{host.name}/snapshots/" in path}

    def size(self) -> int:
        """Bytes of all that is kept there."""
        return sum(self.files().values())

    def restore(self, action: str, *words: str) -> tuple[int, str]:
        """What an operator types; the exit code, and what is said."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy.restore", "--env", self.site.environment, action,
             *words, "--from", self.name],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


class Sftp(Second):
    """By SFTP.

    An account there can do nothing else, below a folder that it cannot leave, at a port that is not
    ssh's own.
    """

    name = NAME
    stranger = "Host key verification failed"
    account, port = "saoluu", 2222
    home, kept = "/srv/second-site", "kho"
    """What the account sees as `/`, and the folder in it where it may write."""
    run, unit = f"{RUN}-sftp", f"{UNIT}-sftp.service"

    def make(self) -> None:
        """Make it, and start it."""
        self.shell(f"""
set -eu
umask 022
useradd --no-create-home --home-dir / --shell /usr/sbin/nologin --password '*' {self.account}
mkdir {self.run} {self.home}
install -d -m 700 -o {self.account} -g {self.account} {self.home}/{self.kept}
cd {self.run}
for name in host other client; do ssh-keygen -q -t ed25519 -N '' -C '' -f $name; done
cp client.pub authorized
cat > sshd_config <<.
Port {self.port}
HostKey {self.run}/key
PidFile none
AuthorizedKeysFile {self.run}/authorized
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowUsers {self.account}
PerSourcePenalties no
ChrootDirectory {self.home}
Subsystem sftp internal-sftp
ForceCommand internal-sftp
DisableForwarding yes
.
""")
        self._start("host")

    def _start(self, key: str) -> None:
        command = f"/usr/sbin/sshd -D -e -f {self.run}/sshd_config"
        runs = _RUNS.format(unit=self.unit, command=command)
        self.shell(f"cp {self.run}/{key} {self.run}/key && {runs}")

    def undo(self) -> None:
        """Remove it, and what is left of one."""
        self.shell(
            f"systemctl stop {self.unit} 2>/dev/null; userdel {self.account} 2>/dev/null;"
            f" rm -rf {self.run} {self.home}"
        )

    def settings(self) -> str:
        """How it is reached, as TOML."""
        return (
            f'url = "sftp://{self.account}@{self.address}:{self.port}/{self.kept}"\n'
            f'host_key = "{self.shell(f"cat {self.run}/host.pub").strip()}"\n'
        )

    def secrets(self) -> TargetSecrets:
        """What opens it."""
        return TargetSecrets(ssh_key=SecretStr(self.shell(f"cat {self.run}/client")))

    @contextmanager
    def away(self) -> Iterator[None]:
        """Inside the block nobody answers there."""
        self.shell(f"systemctl stop {self.unit}")
        try:
            yield
        finally:
            self._start("host")

    @contextmanager
    def somebody_else(self) -> Iterator[None]:
        """Inside the block somebody answers there who has another key."""
        with self.away():
            self._start("other")
            try:
                yield
            finally:
                self.shell(f"systemctl stop {self.unit}")

    def files(self) -> dict[str, int]:
        """What is kept there: bytes by path."""
        lines = self.shell(f"find {self.home} -type f -printf '%s %p\\n'").splitlines()
        return {path: int(size) for size, _, path in (line.partition(" ") for line in lines)}


class S3(Second):
    """Storage by S3's interface, over TLS, which a CA of its own confirms: `tests/objects.py`."""

    name = "third"
    stranger = "certificate signed by unknown authority"
    port, bucket = 8443, "tiengiang"
    run, unit = f"{RUN}-s3", f"{UNIT}-s3.service"

    def make(self) -> None:
        """Make it, and start it."""
        self.shell(
            "export DEBIAN_FRONTEND=noninteractive; for first in '' 'apt-get -qq update'; do"
            " $first; apt-get -qq install -y --no-install-recommends python3-moto"
            " python3-flask-cors >/dev/null && exit; done",
        )
        self.shell(f"""
set -eu
umask 077
mkdir {self.run}
cd {self.run}
ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
for name in ca strangers; do
    openssl req -x509 $ec -keyout $name.key -out $name.pem -subj /CN=$name 2>/dev/null
done
for pair in host:ca other:strangers; do
    name=${{pair%:*}} by=${{pair#*:}}
    openssl req -x509 $ec -keyout $name.key -out $name.pem -subj /CN=s3 \\
        -CA $by.pem -CAkey $by.key -addext subjectAltName=IP:{self.address} \\
        -addext basicConstraints=CA:FALSE 2>/dev/null
    cat $name.key >> $name.pem
done
cp host.pem server.pem
""")
        self.shell(f"cat > {self.run}/objects.py", stdin=_OBJECTS.read_text(encoding="utf-8"))
        command = (
            f"--setenv=INITIAL_NO_AUTH_ACTION_COUNT=0 /usr/bin/python3 {self.run}/objects.py"
            f" {self.port} {self.bucket} {self.run}"
        )
        self.shell(_RUNS.format(unit=self.unit, command=command))

    def undo(self) -> None:
        """Remove it, and what is left of one."""
        self.shell(f"systemctl stop {self.unit} 2>/dev/null; rm -rf {self.run}")

    def settings(self) -> str:
        """How it is reached, as TOML."""
        return (
            f'url = "s3:https://{self.address}:{self.port}/{self.bucket}/kho"\n'
            f"authority = '''{self.shell(f'cat {self.run}/ca.pem')}'''\n"
        )

    def secrets(self) -> TargetSecrets:
        """What opens it."""
        name, key = self.shell(f"cat {self.run}/credentials").split()
        return TargetSecrets(access_key_id=SecretStr(name), secret_access_key=SecretStr(key))

    @contextmanager
    def somebody_else(self) -> Iterator[None]:
        """Inside the block the certificate is of another authority."""
        self._show("other")
        try:
            yield
        finally:
            self._show("host")

    def _show(self, certificate: str) -> None:
        self.shell(f"cp {self.run}/{certificate}.pem {self.run}/server.pem")
        self._told("HUP")

    def _told(self, signal: str) -> None:
        """Have it do what a signal says, and wait until it has."""
        done = f"{self.run}/done"
        self.shell(
            f"rm -f {done}; systemctl kill -s {signal} {self.unit};"
            f" until test -e {done}; do sleep 0.05; done"
        )

    @contextmanager
    def other_key(self) -> Iterator[None]:
        """Inside the block the backup host has another key than the one that opens it."""
        path = "/etc/site-backup/targets.json"
        key = self.secrets().secret_access_key.get_secret_value()
        self.at_keeper(f"cp -a {path} {path}.kept && sed -i 's|{key}|{key[::-1]}|' {path}")
        try:
            yield
        finally:
            self.at_keeper(f"mv {path}.kept {path}")

    def files(self) -> dict[str, int]:
        """What is kept there: bytes by path."""
        self._told("USR1")
        found: dict[str, int] = json.loads(self.shell(f"cat {self.run}/files.json"))
        return found


def deployed(site: Site) -> None:
    """Deploy the backup host as the environment says now."""
    assert run("apply", "site", site.environment, [server(site).name], sys.stdout) == EXIT_DONE


@contextmanager
def knowing(site: Site, secrets: Mapping[str, TargetSecrets]) -> Iterator[None]:
    """Inside the block the lab's secrets have what opens second sites, by their names."""
    path = site.state / "secrets.toml"
    before = path.read_text(encoding="utf-8")
    path.write_text(site.secrets.model_copy(update={"backup_targets": secrets}).to_toml())
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


@contextmanager
def second_sites(site: Site, *kinds: type[Second]) -> Iterator[tuple[Second, ...]]:
    """Inside the block there are some, which the backup host knows; every host has a backup."""
    made = tuple(kind(site) for kind in kinds)
    with ExitStack() as stack:
        for one in made:
            one.undo()
            stack.callback(one.undo)
            one.make()
        settings = "".join(
            f'[backup.targets.{one.name}]\n{one.settings()}upload_limit = "0B"\n' for one in made
        )
        secrets = {one.name: one.secrets() for one in made}
        try:
            with knowing(site, secrets), overlaid(settings):
                deployed(site)
                # Of a host without a backup nothing is copied.
                for host in holders(site):
                    _back_up(site, host)
                # What was loaded before knows no second site.
                known = load.__wrapped__(site.environment)
                yield tuple(kind(known) for kind in kinds)
        finally:
            deployed(site)
            made[0].at_keeper(f"systemctl reset-failed {COPY}", check=False)
        # What opened them is there no more.
        assert made[0].at_keeper("cat /etc/site-backup/targets.json").strip() == "{}"


@contextmanager
def second_site(site: Site) -> Iterator[Second]:
    """Inside the block there is one by SFTP."""
    with second_sites(site, Sftp) as (made,):
        yield made


def _back_up(site: Site, host: SiteHost) -> None:
    """Back up what of a host has no backup yet."""
    found = json.loads(remote.shell(site, host.address, "site-restore snapshots"))
    missing = {*parts(site, host)} - {item["part"] for item in found}
    if missing:
        remote.shell(site, host.address, f"site-backup run {' '.join(sorted(missing))}")
