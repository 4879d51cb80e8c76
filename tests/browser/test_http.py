"""What the webmail's server answers to any client, without a browser."""

import gzip
import http.client
import re
import shlex
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from roles.common.site import Site
from tests import clients, remote


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: tuple[str, ...] = ()
    """Every Set-Cookie."""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class _Connection(http.client.HTTPSConnection):
    """A connection to one address, whatever name it asks for."""

    def __init__(self, address: str, name: str, context: ssl.SSLContext) -> None:
        super().__init__(name, timeout=clients.SECONDS, context=context)
        self.address = address
        self.tls = context

    def connect(self) -> None:
        plain = socket.create_connection((self.address, 443), timeout=clients.SECONDS)
        self.sock = self.tls.wrap_socket(plain, server_hostname=self.host)


def ask(
    site: Site,
    path: str,
    *,
    method: str = "GET",
    host: str | None = None,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    at: str = "",
) -> Answer:
    """Ask the front `at` an address, by its public name unless `host` is another."""
    connection = _Connection(
        at or clients.address_of(site, "front"), site.mail_name, clients.context(site)
    )
    connection.request(
        method, path, body=body, headers={"Host": host or site.mail_name, **(headers or {})}
    )
    response = connection.getresponse()
    answer = Answer(
        response.status,
        {k.lower(): v for k, v in response.getheaders()},
        response.read(),
        tuple(response.headers.get_all("Set-Cookie", [])),
    )
    connection.close()
    return answer


def plain(site: Site, path: str, host: str) -> Answer:
    """Ask without TLS."""
    connection = http.client.HTTPConnection(
        clients.address_of(site, "front"), 80, timeout=clients.SECONDS
    )
    connection.request("GET", path, headers={"Host": host})
    response = connection.getresponse()
    answer = Answer(
        response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    )
    connection.close()
    return answer


@pytest.mark.regulation("2")
def test_it_answers_at_the_one_name_in_vietnamese(site: Site) -> None:
    answer = ask(site, "/")
    assert answer.status == 200
    assert '<html lang="vi"' in answer.text
    assert "Tên đăng nhập" in answer.text
    assert site.table.organisation in answer.text


@pytest.mark.regulation("11")
def test_the_log_in_page_says_whom_to_turn_to(site: Site) -> None:
    assert f"báo sự cố: {site.postmaster}" in ask(site, "/").text


def test_it_answers_by_address(site: Site) -> None:
    assert ask(site, "/", host=clients.address_of(site, "front")).status == 200


def test_plain_http_leads_to_https(site: Site) -> None:
    for host in (site.mail_name, clients.address_of(site, "front")):
        answer = plain(site, "/?_task=mail", host)
        assert answer.status == 301
        assert answer.headers["location"] == f"https://{host}/?_task=mail"


def test_an_unknown_name_gets_nothing(site: Site) -> None:
    assert ask(site, "/", host="www.example.com").status == 421
    assert plain(site, "/", "www.example.com").status == 421


@pytest.mark.parametrize(
    "path",
    ["/", "/nothing", "/robots.txt", "/skins/elastic/styles/styles.min.css", "/plugins/"],
)
def test_every_answer_carries_the_security_headers(site: Site, path: str) -> None:
    headers = ask(site, path).headers
    age = re.fullmatch(r"max-age=(\d+)", headers["strict-transport-security"])
    assert age
    assert int(age[1]) >= 365 * 86400
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    for directive in ("script-src", "style-src", "connect-src", "form-action", "frame-ancestors"):
        assert policy[directive].split()[0] == "'self'"
        assert "http" not in policy[directive], f"{directive} allows other servers"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-robots-tag"] == "noindex, nofollow"
    assert "permissions-policy" in headers


def test_versions_are_nobodys_business(site: Site) -> None:
    for path in ("/", "/nothing"):
        answer = ask(site, path)
        assert answer.headers["server"] == "nginx"
        assert "x-powered-by" not in answer.headers
        assert not re.search(r"nginx/\d|PHP/\d|Roundcube Webmail \d", answer.text)


def test_cookies_are_for_this_host_over_tls_and_not_for_scripts(site: Site) -> None:
    cookie = ask(site, "/").headers["set-cookie"]
    assert cookie.startswith("__Host-webmail=")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes


@pytest.mark.parametrize(
    "path",
    [
        "/config/config.inc.php", "/../config/config.inc.php", "/etc/roundcube/config.inc.php",
        "/temp/", "/logs/errors.log", "/SQL/postgres.initial.sql", "/bin/updatedb.sh",
        "/installer/", "/installer/index.php", "/.htaccess", "/plugins/.htaccess", "/.git/config",
        "/program/lib/Roundcube/rcube.php", "/program/include/iniset.php",
        "/program/localization/vi_VN/labels.inc", "/plugins/password/password.php",
        "/plugins/password/config.inc.php", "/plugins/password/config.inc.php.dist",
        "/plugins/password/drivers/province.php", "/plugins/password/helpers/passwd-expect",
        "/plugins/password/composer.json", "/plugins/managesieve/Changelog",
        "/plugins/province/province.php", "/plugins/province/localization/core.inc",
        "/skins/elastic/meta.json", "/skins/elastic/templates/login.html",
        "/skins/elastic/styles/styles.less", "/program/js/", "/index.php/x", "/nginx_status",
        "/status", "/errors/503.html", "/skins/../../config/config.inc.php",
        "/plugins/province/%2e%2e/%2e%2e/config/config.inc.php",
    ],
)  # fmt: skip
def test_what_is_not_a_page_is_not_served(site: Site, path: str) -> None:
    answer = ask(site, path)
    assert answer.status in (400, 404)
    assert "<?php" not in answer.text


def test_pages_parts_are_served_compressed_and_kept(site: Site) -> None:
    for path in ("/program/js/app.min.js", "/skins/elastic/styles/styles.min.css"):
        answer = ask(site, path, headers={"Accept-Encoding": "gzip"})
        assert answer.status == 200
        assert answer.headers["content-encoding"] == "gzip"
        assert len(gzip.decompress(answer.body)) > 10_000
        assert answer.headers["cache-control"] == "max-age=2592000"
    for path in ("/skins/elastic/fonts/fa-solid-900.woff2", "/plugins/province/logo.svg"):
        assert ask(site, path).status == 200


@pytest.mark.parametrize("path", ["/", "/?_task=mail"])
def test_what_holds_a_secret_is_not_compressed(site: Site, path: str) -> None:
    """By its length one would guess the request token (BREACH)."""
    answer = ask(site, path, headers={"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in answer.headers
    assert re.search(r"token\W+[A-Za-z0-9]{32}", answer.text)


@pytest.mark.parametrize(
    ("path", "title"), [("/nothing", "Không tìm thấy trang"), ("/plugins/x.php", "Không tìm thấy")]
)
@pytest.mark.regulation("11")
def test_errors_are_vietnamese_and_say_whom_to_turn_to(site: Site, path: str, title: str) -> None:
    answer = ask(site, path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert '<html lang="vi">' in answer.text
    assert title in answer.text
    assert site.postmaster in answer.text


def test_what_is_larger_than_a_letter_is_refused(site: Site) -> None:
    answer = ask(site, "/", method="POST", body=b"", headers={"Content-Length": str(200 * 2**20)})
    assert answer.status == 413
    assert "Tệp quá lớn" in answer.text


def test_old_tls_is_refused_and_http_2_spoken(site: Site) -> None:
    address = clients.address_of(site, "front")
    context = clients.context(site)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((address, 443), timeout=clients.SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=site.mail_name) as tls,
    ):
        assert tls.version() == "TLSv1.3"
        assert tls.selected_alpn_protocol() == "h2"
    old = f"openssl s_client -connect {address}:443 -tls1_1 -cipher DEFAULT@SECLEVEL=0"
    found = remote.shell(site, address, f"{old} </dev/null 2>&1", check=False)
    assert "Cipher is (NONE)" in found


def test_log_ins_are_counted_by_address(site: Site) -> None:
    address = clients.address_of(site, "front")
    request = (
        f"POST /?_task=login HTTP/1.1\\r\\nHost: {site.mail_name}\\r\\nContent-Length: 0\\r\\n"
    )
    # From the outside world: here every further test would be counted in.
    flood = (
        f"{{ for i in $(seq 149); do printf '{request}\\r\\n'; done;"
        f" printf '{request}Connection: close\\r\\n\\r\\n'; }} |"
        f" openssl s_client -quiet -connect {address}:443 2>/dev/null"
    )
    outside = clients.outside_address(site)
    answers = remote.shell(site, outside, f"timeout 60 bash -c {shlex.quote(flood)}", check=False)
    refused = answers.count("HTTP/1.1 429")
    assert 0 < refused < 150
    assert "Quá nhiều yêu cầu" in answers


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("?_task=login", {"_task": "login"}, 302),
        ("", {"_task": "login"}, 401),
        ("", {}, 401),
        ("?_task=mail", {"_task": "login"}, 401),
        ("?_task=mail&_task=login", {}, 401),
        ("?%5Ftask=login", {}, 401),
        ("?_task=log%69n", {}, 401),
    ],
)
def test_what_is_not_counted_is_no_log_in(
    site: Site,
    person: Callable[[str], clients.Account],
    query: str,
    body: dict[str, str],
    status: int,
) -> None:
    account = person("thunq")
    page = ask(site, "/")
    token = re.search(r'name="_token" value="(\w+)"', page.text)
    assert token
    fields = {
        **body,
        "_action": "login",
        "_token": token[1],
        "_user": account.address,
        "_pass": account.password,
    }
    answer = ask(
        site,
        f"/{query}",
        method="POST",
        body=urlencode(fields).encode(),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": page.headers["set-cookie"].partition(";")[0],
        },
    )
    assert answer.status == status


@pytest.mark.regulation("8")
def test_without_its_database_it_says_so(site: Site) -> None:
    database = clients.address_of(site, "database")
    with remote.stopped(site, database, "postgresql@17-main.service"):
        answer = ask(site, "/")
        assert answer.status == 503
        assert '<html lang="vi">' in answer.text
        assert "Webmail tạm thời không hoạt động" in answer.text
        assert "Database" not in answer.text
        # What a page asks in the background.
        assert ask(site, "/?_task=mail&_action=refresh&_remote=1").status == 503
    assert ask(site, "/").status == 200


def test_without_php_it_says_so(site: Site) -> None:
    with remote.stopped(site, clients.address_of(site, "front"), "php8.4-fpm.service"):
        answer = ask(site, "/")
        assert answer.status in (502, 503)
        assert "Webmail tạm thời không hoạt động" in answer.text
    assert ask(site, "/").status == 200
