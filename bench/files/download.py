"""Files from the web: https only, resumed where they broke off, kept only if the hash is right."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from bench import __version__
from bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 18
_ATTEMPTS = 4
_TIMEOUT_S = 30.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def download(
    url: str,
    target: Path,
    *,
    sha256: str,
    size: int | None = None,
    progress: Progress | None = None,
    allow_loopback: bool = False,
) -> Path:
    """Fetch a file, unless `target` already is that file.

    What has arrived waits in `<target>.part`; the next call goes on from there. The file appears
    under its name only after its size and hash were checked.

    Args:
        url: https, also after every redirect.
        target: where the file goes; folders are made.
        sha256: hex digest that the file must have.
        size: bytes that it must have; None: not known.
        progress: called with bytes so far and in total (None: unknown) after each piece.
        allow_loopback: plain http from this machine itself is accepted, for tests.

    Raises:
        DataError: another scheme, no connection, a server's refusal, another size or hash.
    """
    _check_scheme(url, allow_loopback)
    if target.is_file() and _digest(target) == sha256:
        return target
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, size, progress, allow_loopback)
        _check(url, part, sha256, size)
        part.replace(target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error})") from error
    return target


def download_with_bar(url: str, target: Path, *, sha256: str, size: int | None = None) -> Path:
    """`download` with a progress bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        task = bars.add_task(target.name, total=size)

        def show(done: int, total: int | None) -> None:
            bars.update(task, completed=done, total=total)

        return download(url, target, sha256=sha256, size=size, progress=show)


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where the first request could have gone."""

    def __init__(self, allow_loopback: bool) -> None:
        self.allow_loopback = allow_loopback

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _check_scheme(newurl, self.allow_loopback)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str, allow_loopback: bool) -> None:
    parts = urlsplit(url)
    local = allow_loopback and parts.scheme == "http" and parts.hostname in _LOOPBACK
    if parts.scheme != "https" and not local:
        raise DataError(f"{url}: only https is downloaded")


def _fetch(
    url: str, part: Path, size: int | None, progress: Progress | None, allow_loopback: bool
) -> None:
    """Bring `part` to its full length; tries again while attempts make progress."""
    opener = urllib.request.build_opener(_SameScheme(allow_loopback))
    failures = 0
    while True:
        before = _length(part)
        if before and before == size:
            return
        try:
            _receive(opener, url, part, size, progress)
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:
                # The server has no byte beyond ours: complete, or a left-over of another file.
                if size is None:
                    return
                part.unlink()
                size_known = f"{before} bytes kept, {size} expected"
                raise DataError(
                    f"{url}: the kept part does not fit ({size_known}); it was removed, try again"
                ) from error
            raise DataError(f"{url}: the server says {error.code} {error.reason}") from error
        except (
            urllib.error.URLError,
            ssl.SSLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as error:
            failures = 1 if _length(part) > before else failures + 1
            if failures >= _ATTEMPTS:
                reason = getattr(error, "reason", None) or error or type(error).__name__
                raise DataError(
                    f"{url}: no connection ({reason}); {_length(part)} bytes are kept for next time"
                ) from error
        else:
            return


def _receive(
    opener: urllib.request.OpenerDirector,
    url: str,
    part: Path,
    size: int | None,
    progress: Progress | None,
) -> None:
    done = _length(part)
    headers = {"User-Agent": f"flawbench/{__version__}", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    request = urllib.request.Request(url, headers=headers)
    with opener.open(request, timeout=_TIMEOUT_S) as response:
        if response.status != 206:  # the server sends the whole file again
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None else size
        with part.open("ab" if done else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if size is not None and done > size:
                    break
                if progress is not None:
                    progress(done, total)
    if total is not None and done < total:
        raise http.client.IncompleteRead(b"", total - done)


def _check(url: str, part: Path, sha256: str, size: int | None) -> None:
    """Refuse a file that is not the one expected, and remove it: it cannot be gone on with."""
    found = _length(part)
    if size is not None and found != size:
        part.unlink()
        more = "more than " if found > size else f"{found} bytes instead of "
        raise DataError(f"{url}: {more}{size} bytes arrived; removed")
    digest = _digest(part)
    if digest != sha256:
        part.unlink()
        raise DataError(f"{url}: SHA-256 is {digest}, expected {sha256}; removed")


def _length(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
