"""Weights from the libraries' hubs: asked last, and never for longer than a limit."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import torch

from bench.errors import MethodError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from bench.blocks.architecture import Architecture

TIMEOUT_S = 10.0
"""Seconds until a hub that does not answer counts as out of reach (BENCH_HUB_TIMEOUT)."""

_HUBS = {"timm": "https://huggingface.co", "torchvision": "https://download.pytorch.org"}


def hub_of(architecture: Architecture) -> str:
    """The address that an architecture's weights come from."""
    own = os.environ.get("HF_ENDPOINT") if architecture.library == "timm" else None
    return own or _HUBS[architecture.library]


def has_weights(architecture: Architecture) -> bool:
    """Whether the library knows weights of this name."""
    if architecture.library == "torchvision":
        return bool(architecture.tag)
    import timm

    cfg = timm.get_pretrained_cfg(architecture.tagged)
    return cfg is not None and bool(cfg.has_weights)


def licence_of(architecture: Architecture) -> str:
    """The licence that the library states; empty where it states none."""
    if architecture.library == "torchvision":
        return "BSD-3-Clause"
    import timm

    cfg = timm.get_pretrained_cfg(architecture.tagged)
    return str(getattr(cfg, "license", None) or "")


def download(architecture: Architecture) -> nn.Module:
    """The network with its library's weights; from the library's cache where they lie there.

    Raises:
        MethodError: the hub is out of reach or has no such file.
    """
    silent = _silent(hub_of(architecture))
    try:
        with torch.random.fork_rng(devices=[]), _limited(offline=bool(silent)):
            return architecture.create(pretrained=True)
    except _network_errors() as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise MethodError(silent or reason) from error


def _timeout() -> float:
    text = os.environ.get("BENCH_HUB_TIMEOUT", "")
    try:
        seconds = float(text or TIMEOUT_S)
    except ValueError as error:
        raise MethodError(f"BENCH_HUB_TIMEOUT = {text!r} is no number of seconds") from error
    return seconds


def _silent(address: str) -> str:
    """Why nothing can be had there, empty where something listens: clients try for minutes."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return ""  # a proxy looks names up itself
    parts = urlsplit(address)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_timeout()):
            return ""
    except TimeoutError:
        return f"{address} does not answer within {_timeout():g} s"
    except OSError as error:
        return f"{address} cannot be reached: {error.strerror or error}"


@contextmanager
def _limited(*, offline: bool) -> Iterator[None]:
    """Time limits of both libraries' clients; `offline`: only what their caches hold."""
    import huggingface_hub.constants as hub

    seconds = _timeout()
    names = ("HF_HUB_OFFLINE", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
    before = {name: getattr(hub, name) for name in names}
    default = socket.getdefaulttimeout()
    hub.HF_HUB_DOWNLOAD_TIMEOUT = hub.HF_HUB_ETAG_TIMEOUT = int(max(1, seconds))
    hub.HF_HUB_OFFLINE = offline or before["HF_HUB_OFFLINE"]
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(default)
        for name, value in before.items():
            setattr(hub, name, value)


def _network_errors() -> tuple[type[BaseException], ...]:
    """What a failed download raises: the client of the hub depends on its version."""
    clients = (("httpx", "HTTPError"), ("httpx2", "HTTPError"), ("requests", "RequestException"))
    found = [getattr(sys.modules.get(module), error, None) for module, error in clients]
    return (OSError, RuntimeError, ValueError, *(error for error in found if error is not None))
