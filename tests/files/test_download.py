"""Downloads against a server on this machine: hash, size, resuming, redirects, refusals."""

from __future__ import annotations

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from bench.errors import DataError
from bench.files.download import download

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; knows ranges unless told not to; may break off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str | None] = []  # the Range of each request
        self.ranges = True
        self.break_after: list[int] = []  # bytes sent in the next answers before the line drops
        self.elsewhere = ""

    def url(self, path: str = "/file") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/missing":
            return self.send_error(404)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
            self.end_headers()
            return None
        wanted = self.headers["Range"]
        self.server.requests.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.server.ranges else 0
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = len(CONTENT)
        if self.server.break_after:
            stop = start + self.server.break_after.pop(0)
        self.wfile.write(CONTENT[start:stop])
        return None

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the surroundings stands before this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server: Server, target: Path, path: str = "/file", sha256: str = SHA) -> Path:
    url = server.url(path)
    return download(url, target, sha256=sha256, size=len(CONTENT), allow_loopback=True)


def test_a_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    target = fetch(server, tmp_path / "new" / "file.bin")
    assert target.read_bytes() == CONTENT
    assert [p.name for p in target.parent.iterdir()] == ["file.bin"]


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    fetch(server, tmp_path / "file.bin")
    assert server.requests == []


def test_progress_counts_to_the_whole_size(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    download(
        server.url(),
        tmp_path / "f",
        sha256=SHA,
        progress=lambda done, total: seen.append((done, total)),
        allow_loopback=True,
    )
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_line_is_resumed_in_the_same_call(server: Server, tmp_path: Path) -> None:
    server.break_after = [300_000, 300_000]
    assert fetch(server, tmp_path / "f").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=600000-"]


def test_what_arrived_is_kept_for_the_next_call(server: Server, tmp_path: Path) -> None:
    server.break_after = [300_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match="300000 bytes are kept for next time"):
        fetch(server, tmp_path / "f")
    assert not (tmp_path / "f").exists()
    assert fetch(server, tmp_path / "f").read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=300000-"


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    assert fetch(server, tmp_path / "f").read_bytes() == CONTENT


def test_a_complete_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "f").read_bytes() == CONTENT
    assert server.requests == []


def test_another_hash_is_refused_and_nothing_stays(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"SHA-256 is {SHA}, expected 00"):
        fetch(server, tmp_path / "f", sha256="00" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_another_file_does_not_survive(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="SHA-256"):
        fetch(server, tmp_path / "f")
    assert fetch(server, tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize(("size", "message"), [(1000, "more than 1000"), (1 << 21, "instead of")])
def test_another_size_is_refused(size: int, message: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        download(server.url(), tmp_path / "f", sha256=SHA, size=size, allow_loopback=True)
    assert list(tmp_path.iterdir()) == []


def test_only_https_is_downloaded(server: Server, tmp_path: Path) -> None:
    for url in ("http://example.com/f", "ftp://example.com/f", "file:///etc/hostname"):
        with pytest.raises(DataError, match="only https"):
            download(url, tmp_path / "f", sha256=SHA, allow_loopback=True)
    with pytest.raises(DataError, match="only https"):
        download(server.url(), tmp_path / "f", sha256=SHA)


def test_a_redirect_to_plain_http_is_refused(server: Server, tmp_path: Path) -> None:
    server.elsewhere = "http://example.com/f"
    with pytest.raises(DataError, match=r"example\.com/f: only https"):
        fetch(server, tmp_path / "f", "/moved")
    server.elsewhere = server.url()
    assert fetch(server, tmp_path / "f", "/moved").read_bytes() == CONTENT


def test_a_servers_refusal_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the server says 404"):
        fetch(server, tmp_path / "f", "/missing")


def test_no_server_is_told(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # taken, so that no other process listens there meanwhile
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/file"
        with pytest.raises(DataError, match="no connection"):
            download(url, tmp_path / "f", sha256=SHA, allow_loopback=True)
