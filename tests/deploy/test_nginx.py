"""nginx as shipped, by itself: what it passes on, what it refuses, and how its own errors look."""

from __future__ import annotations

import datetime
import gzip
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from local.home import free_port
from tests.deploy.proxy import START, Backend, Proxy, backend, directory, nginx, place
from tests.environment import HOME
from tests.fakes.unread import unread

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx: apt-get install nginx")

OUR_BODY = {"code", "message", "request_id"}
HIDDEN = (
    *("/metrics", "/healthz/live", "/healthz/ready", "/.error/503"),
    *("/admin/%2e%2e/metrics", "/a/..%2Fmetrics", "/%6detrics"),
)


@pytest.fixture(scope="module")
def echo() -> Iterator[Backend]:
    with backend() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(echo: Backend) -> Iterator[Proxy]:
    static = HOME / "static" / "tests"
    static.mkdir(parents=True, exist_ok=True)
    script = "console.log('kept for good');" * 40
    for name in ("app.0123456789ab.js", "app.js"):
        (static / name).write_text(script)
    (static / "app.0123456789ab.js.gz").write_bytes(gzip.compress(script.encode()))
    with nginx(echo.address) as started:
        yield started


@pytest.fixture(scope="module")
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=30) as started:
        yield started


@pytest.fixture(scope="module")
def certificate() -> Iterator[tuple[Path, Path]]:
    """Of 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    chain, secret = HOME / "chain.pem", HOME / "key.pem"
    chain.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    yield chain, secret
    chain.unlink()
    secret.unlink()


def headers_seen(answer: httpx.Response) -> dict[str, str]:
    """By lower-cased name, as the web process got them."""
    lines = answer.raise_for_status().text.splitlines()[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


# --- The file itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("web", ["127.0.0.1:8000", "127.0.0.1:8000 127.0.0.1:8001"])
@pytest.mark.parametrize("proxies", ["", "10.0.0.0/8 2001:db8::/32"])
def test_nginx_finds_no_fault_in_it(web: str, proxies: str) -> None:
    with directory() as home:
        env = place(home, free_port(), NGINX_WEB=web, NGINX_TRUSTED_PROXIES=proxies)
        tested = subprocess.run([START, "-t"], env=env, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert not re.search(r"\[(warn|error|emerg)\]", tested.stderr), tested.stderr


def test_with_a_certificate_it_speaks_tls_and_http_only_redirects(
    certificate: tuple[Path, Path], echo: Backend
) -> None:
    tls = free_port()
    chain, key = certificate
    settings = {"NGINX_TLS_PORT": f"127.0.0.1:{tls}", "NGINX_TLS_CERTIFICATE": str(chain), "NGINX_TLS_KEY": str(key)}
    with nginx(echo.address, **settings) as started, httpx.Client(verify=False, http2=True) as client:
        moved = client.get(f"{started.url}/admin/?next=%2F")
        assert (moved.status_code, moved.headers["Location"]) == (308, "https://127.0.0.1/admin/?next=%2F")
        answer = client.get(f"https://127.0.0.1:{tls}/")
        assert (answer.http_version, headers_seen(answer)["x-forwarded-proto"]) == ("HTTP/2", "https")


# --- What the web processes learn -------------------------------------------------------------------------------------

CLAIMS = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Real-Ip": "198.51.100.7",
    "Forwarded": "for=198.51.100.7",
    "Daphne-Root-Path": "/evil",
}


def test_what_a_client_claims_about_itself_goes_no_further(client: httpx.Client) -> None:
    seen = headers_seen(client.get("/", headers=CLAIMS))
    assert seen.pop("x-forwarded-for") == "127.0.0.1"
    assert seen.pop("x-forwarded-proto") == "http"
    assert not set(seen) & {name.lower() for name in CLAIMS}


def test_a_proxy_in_front_is_believed_where_it_is_named(echo: Backend) -> None:
    with nginx(echo.address, NGINX_TRUSTED_PROXIES="127.0.0.1") as started:
        seen = headers_seen(httpx.get(started.url, headers=CLAIMS))
        assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("198.51.100.7", "https")
        assert "x-forwarded-host" not in seen
        # What the client itself had put there stands before what the proxy saw.
        chain = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7, 127.0.0.1", "X-Forwarded-Proto": "gopher"}
        seen = headers_seen(httpx.get(started.url, headers=chain))
        assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("198.51.100.7", "http")


def test_a_sane_request_id_is_kept_and_another_replaced(client: httpx.Client) -> None:
    assert headers_seen(client.get("/", headers={"X-Request-Id": "order-4711.a_b"}))["x-request-id"] == "order-4711.a_b"
    for offered in ("short", "spaces in it", "x" * 65, 'quote"quote"', ""):
        seen = headers_seen(client.get("/", headers={"X-Request-Id": offered}))["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", seen)


def test_an_upgrade_is_asked_for_only_where_the_client_asks(client: httpx.Client) -> None:
    assert "upgrade" not in headers_seen(client.get("/ws/chat"))
    seen = headers_seen(client.get("/ws/chat", headers={"Upgrade": "websocket", "Connection": "Upgrade"}))
    assert (seen["upgrade"], seen["connection"]) == ("websocket", "upgrade")


def test_each_request_goes_to_the_web_process_with_the_fewest_connections() -> None:
    """The same caller's, too. One of two is busy: with a request that it has not answered."""
    with ExitStack() as opened:
        idle, pool = opened.enter_context(backend()), opened.enter_context(ThreadPoolExecutor())
        busy = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        started = opened.enter_context(nginx(f"127.0.0.1:{busy.getsockname()[1]}", idle.address))
        key = {"Authorization": "Bearer parley_same"}
        # Two at once are one for each; whichever comes to the busy one waits there.
        two = [pool.submit(httpx.get, started.url, headers=key) for _ in range(2)]
        waiting, _ = busy.accept()
        with waiting:
            wait(two, return_when=FIRST_COMPLETED)
            for _ in range(5):
                assert httpx.get(started.url, headers=key).status_code == 200
            waiting.recv(4096)
            waiting.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        assert [answer.result().status_code for answer in two] == [200, 200]
    assert len(idle.requests) == 6


# --- A web process that is away ---------------------------------------------------------------------------------------


def test_a_question_is_never_sent_twice() -> None:
    with backend(rude=True) as one, backend(rude=True) as two, nginx(one.address, two.address) as started:
        answer = httpx.post(f"{started.url}/api/v1/search", json={})
        assert len(one.requests) + len(two.requests) == 1
        assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
        httpx.get(f"{started.url}/api/v1/assistants")
        assert len(one.requests) + len(two.requests) == 3


def test_one_that_is_gone_is_passed_over_by_questions_too(echo: Backend) -> None:
    with nginx(f"127.0.0.1:{free_port()}", echo.address) as started:
        for n in range(10):
            key = {"X-Api-Key": f"parley_{n}"}
            assert httpx.post(f"{started.url}/api/v1/search", json={}, headers=key).status_code == 200


def response(head: str, body: str = "{}") -> bytes:
    return f"HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


LEAVING = response("503 Service Unavailable\r\nX-Accel-Redirect: @elsewhere\r\nRetry-After: 1")


@pytest.mark.parametrize("path", ["/api/v1/conversations/1/turns", "/v1/chat/completions", "/api/v1/turns/1/continue"])
def test_what_one_that_is_about_to_end_did_not_accept_goes_to_another(echo: Backend, path: str) -> None:
    before = len(echo.requests)
    with backend(answer=LEAVING) as leaving, nginx(leaving.address, echo.address) as started:
        answers = [httpx.post(started.url + path, content=f"question {n}") for n in range(10)]
        [told] = {line["status"] for line in started.log()}
    assert told == 200
    assert [answer.text.splitlines()[0] for answer in answers] == [f"POST {path} HTTP/1.1"] * 10
    assert [answer.text.splitlines()[-1] for answer in answers] == [f"question {n}" for n in range(10)]
    assert len(echo.requests) - before == 10
    assert len(leaving.requests) >= 5


def test_where_all_are_about_to_end_the_client_learns_it() -> None:
    with backend(answer=LEAVING) as one, backend(answer=LEAVING) as two, nginx(one.address, two.address) as started:
        answer = httpx.post(f"{started.url}/api/v1/conversations/1/turns", json={})
    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (503, "{}", "1")
    assert "X-Accel-Redirect" not in answer.headers
    assert 3 <= len(one.requests) + len(two.requests) <= 6


def test_another_503_is_the_answer_whatever_was_asked() -> None:
    """A question whose model servers were all busy was accepted, and ended."""
    busy = response("503 Service Unavailable\r\nRetry-After: 3", '{"code": "model_busy"}')
    with backend(answer=busy) as one, backend(answer=busy) as two, nginx(one.address, two.address) as started:
        for ask in (httpx.post, httpx.get):
            answer = ask(f"{started.url}/api/v1/conversations/1/turns")
            assert (answer.status_code, answer.json(), answer.headers["Retry-After"]) == (
                503,
                {"code": "model_busy"},
                "3",
            )
        assert len(one.requests) + len(two.requests) == 2


def test_without_any_the_error_is_ours() -> None:
    with nginx(f"127.0.0.1:{free_port()}") as started, httpx.Client(base_url=started.url) as client:
        answer = client.get("/api/v1/assistants", headers={"X-Request-Id": "look-for-me"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert answer.headers["Content-Type"] == "application/json"
        assert set(answer.json()) == OUR_BODY | {"retry_after"}
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "look-for-me"
        openai = client.post("/v1/chat/completions", json={})
        assert openai.status_code == 503
        assert set(openai.json()["error"]) == OUR_BODY | {"type", "param", "retry_after"}
        assert openai.json()["error"]["type"] == "server_error"


def test_people_get_a_page() -> None:
    with nginx(f"127.0.0.1:{free_port()}") as started:
        page = httpx.get(f"{started.url}/admin/", headers={"X-Request-Id": "for-a-person"})
    assert (page.status_code, page.headers["Content-Type"]) == (503, "text/html")
    assert "Parley does not answer just now." in page.text
    assert "Request for-a-person" in page.text
    assert "<!--#" not in page.text


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", HIDDEN)
def test_what_is_not_for_the_public_is_not_there(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(("path", "most"), [("/api/v1/search", 2 * 2**20), ("/api/v1/documents", 50 * 2**20 + 65536)])
def test_a_body_beyond_the_limit_is_refused_before_it_is_passed_on(
    client: httpx.Client, echo: Backend, path: str, most: int
) -> None:
    before = len(echo.requests)
    answer = client.post(path, content=bytes(most + 1), timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert len(echo.requests) == before


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"y" * 10_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 10_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=["ten thousand headers", "a long header", "a long address", "no host", "tls"],
)
def test_a_malformed_head_gets_an_error_of_our_shape(proxy: Proxy, echo: Backend, head: bytes) -> None:
    before = len(echo.requests)
    with socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), timeout=30) as connection:
        connection.sendall(head)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 400 ")
    assert set(json.loads(body)) == OUR_BODY
    assert len(echo.requests) == before


def test_whoever_guesses_passwords_is_slowed_down(echo: Backend) -> None:
    with nginx(echo.address) as started, httpx.Client(base_url=started.url) as client:
        answer = guesses(lambda n: client.post("/admin/login/", data={"password": str(n)}))
        assert answer.status_code == 429
        assert "Too many requests in a short time." in answer.text
        assert client.get("/admin/login/").status_code == client.post("/api/v1/search").status_code == 200


def guesses(guess: Callable[[int], httpx.Response]) -> httpx.Response:
    """The answer to the first guess too many: six pass at once, and one more every six seconds."""
    passed, began = 0, time.monotonic()
    while (answer := guess(passed)).status_code == 200:
        passed += 1
    assert 6 <= passed <= 6 + (time.monotonic() - began) / 6
    return answer


def flood(address: str, path: bytes, times: int, headers: Callable[[int], bytes] = lambda _: b"") -> list[bytes]:
    """The statuses of so many requests at once, over one connection. headers: of each, whole lines."""
    asked = b"HEAD " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n%s%s\r\n"
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30) as connection:
        first = b"".join(asked % (headers(n), b"") for n in range(times - 1))
        connection.sendall(first + asked % (headers(times - 1), b"Connection: close\r\n"))
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    return re.findall(rb"^HTTP/1.1 (\d+)", answers, re.MULTILINE)


# Nobody answers floods, which is the fastest answer: what passes the limit is a 503.


def test_a_flood_is_cut_off(proxy: Proxy) -> None:
    with nginx(f"127.0.0.1:{free_port()}") as started:
        statuses = flood(started.url, b"/api/v1/assistants", 900)
    assert statuses[:200] == [b"503"] * 200
    assert b"429" in statuses


def test_a_key_that_many_addresses_flood_with_is_cut_off_and_no_other(proxy: Proxy) -> None:
    with nginx(f"127.0.0.1:{free_port()}", NGINX_TRUSTED_PROXIES="127.0.0.1") as started:

        def asks(key: bytes, n: int) -> bytes:
            return b"X-Forwarded-For: 10.0.%d.%d\r\nAuthorization: Bearer %s\r\n" % (*divmod(n, 256), key)

        one = flood(started.url, b"/api/v1/assistants", 3000, lambda n: asks(b"parley_one", n))
        assert one[:400] == [b"503"] * 400
        assert b"429" in one
        two = flood(started.url, b"/api/v1/assistants", 300, lambda n: asks(b"parley_two", n))
        assert set(two) == {b"503"}
        nobody = b"X-Forwarded-For: 10.9.%d.%d\r\n"
        assert set(flood(started.url, b"/api/v1/assistants", 600, lambda n: nobody % divmod(n, 256))) == {b"503"}


def test_an_office_that_opens_a_page_gets_its_files(proxy: Proxy, echo: Backend) -> None:
    with nginx(echo.address) as started:
        assert set(flood(started.url, b"/static/tests/app.js", 900)) == {b"200"}


def test_an_ipv6_network_counts_as_one_client(echo: Backend) -> None:
    with nginx(echo.address, NGINX_TRUSTED_PROXIES="127.0.0.1") as started:

        def guess(address: str) -> httpx.Response:
            return httpx.post(f"{started.url}/admin/login/", headers={"X-Forwarded-For": address})

        assert guesses(lambda n: guess(f"2001:db8:1:2:{n:x}::{n:x}")).status_code == 429
        assert guess("2001:db8:1:3::1").status_code == 200
        # IPv4 addresses are clients of their own.
        assert [guess(f"192.0.2.{n}").status_code for n in range(7)] == [200] * 7


# --- Static files and the log -----------------------------------------------------------------------------------------


def test_files_named_by_their_hash_are_kept_for_good(client: httpx.Client, echo: Backend) -> None:
    before = len(echo.requests)
    kept = client.get("/static/tests/app.0123456789ab.js", headers={"Accept-Encoding": "gzip"})
    assert kept.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert kept.headers["Content-Type"] == "application/javascript"
    assert (kept.headers["Content-Encoding"], kept.headers["X-Content-Type-Options"]) == ("gzip", "nosniff")
    plain = client.get("/static/tests/app.js", headers={"Accept-Encoding": "identity"})
    assert plain.headers["Cache-Control"] == "public, max-age=3600"
    assert plain.text == kept.text
    assert len(echo.requests) == before
    # The other version's files are asked of the web processes, which may have them.
    assert client.get("/static/tests/app.fedcba987654.js").text.startswith("GET /static/tests/app.fedcba987654.js")


def test_other_sites_read_the_widget_and_no_other_file(client: httpx.Client) -> None:
    widget = HOME / "static" / "widget"
    widget.mkdir(exist_ok=True)
    (widget / "app-0123abcd.js").write_text("the app")
    app = client.get("/static/widget/app-0123abcd.js")
    assert (app.text, app.headers["Access-Control-Allow-Origin"]) == ("the app", "*")
    assert app.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert app.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in client.get("/static/tests/app.js").headers
    # But for fonts, which browsers would not take from a CDN otherwise.
    (HOME / "static" / "tests" / "inter.0123456789ab.woff2").write_text("a font")
    assert client.get("/static/tests/inter.0123456789ab.woff2").headers["Access-Control-Allow-Origin"] == "*"
    for path in ("/widget.js", "/chat/acme/guide/", "/share/some"):
        assert client.get(path).text.startswith(f"GET {path} ")


def test_readers_get_a_page_where_nobody_answers() -> None:
    with nginx(f"127.0.0.1:{free_port()}") as started:
        for path in ("/chat/acme/guide/", "/share/some"):
            answer = httpx.get(f"{started.url}{path}")
            assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html")


def test_the_log_is_json_and_tells_no_secrets(client: httpx.Client, proxy: Proxy) -> None:
    headers = {"X-Request-Id": "in-the-log", "User-Agent": 'a"b\\'}
    headers |= {"Authorization": "Bearer s3cret", "Cookie": "sessionid=s3cret", "Referer": "http://x.example/?q=s3cret"}
    client.get("/api/v1/documents?user=s3cret", headers=headers)
    client.get("/admin/password_reset/MQ/s3cret/")
    client.get("/share/s3cret")
    [line] = [line for line in proxy.log() if line["request_id"] == "in-the-log"]
    assert (line["path"], line["status"], line["client"]) == ("/api/v1/documents", 200, "127.0.0.1")
    assert line["agent"] == 'a"b\\'
    assert "s3cret" not in proxy.raw_log()


def test_a_log_that_nobody_reads_holds_up_no_request(echo: Backend, tmp_path: Path) -> None:
    with (
        unread(tmp_path / "pipe") as pipe,
        nginx(echo.address, output=pipe.path) as started,
        httpx.Client(base_url=started.url, timeout=30, headers={"User-Agent": "x" * 1000}) as client,
    ):
        for _ in range(300):  # more than the pipe between nginx and start.sh's relay holds
            assert client.get("/static/tests/app.js").status_code == 200
        pipe.read()
        until = time.monotonic() + 30
        while b'"nginx.request"' not in pipe.read():
            assert time.monotonic() < until, "nothing comes again"
            client.get("/static/tests/app.js")
            time.sleep(0.05)
