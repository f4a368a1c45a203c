"""The conditional flow of one feature level, and the likelihood that it gives a fiber."""

from __future__ import annotations

import functools
import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.api import MethodError

with warnings.catch_warnings():
    # Docstrings of FrEIA 0.2 hold invalid escapes, which warn when Python first compiles them.
    warnings.simplefilter("ignore")
    from FrEIA.framework import SequenceINN
    from FrEIA.modules import AllInOneBlock

if TYPE_CHECKING:
    from collections.abc import Iterator


def make_decoder(
    channels: int, condition: int, couplings: int, clamp: float, generator: torch.Generator
) -> SequenceINN:
    """A flow over fibers of one level (CFLOW-AD, section 3.3): FrEIA's all-in-one blocks.

    Args:
        channels: length C of a fiber.
        condition: length P of the position code; 0 for a flow without condition (UFLOW).
        couplings: number of blocks.
        clamp: alpha of the soft clamp alpha * tanh(.) on the log-scales.
        generator: source of the rotations and of the linear layers.

    Returns:
        a module: `decoder(fibers, [code])` -> z (N, C) and log|det J| (N,); without condition
        `decoder(fibers)`.

    Raises:
        MethodError: if the installed FrEIA computes another coupling.
    """
    require_known_freia()
    decoder = _blocks(channels, condition, couplings, clamp, generator)
    for block in decoder:
        # FrEIA draws rotations from NumPy's global generator, by a loop that takes minutes at
        # 2048 channels. One QR gives the same distribution from our own generator.
        turn = rotation(channels, generator)
        block.w_perm.data.copy_(turn)
        block.w_perm_inv.data.copy_(turn.T)
    return decoder


def rotation(size: int, generator: torch.Generator) -> Tensor:
    """A random matrix of SO(size), Haar distributed: (size, size) float32.

    QR of a Gaussian matrix with the signs of R's diagonal moved into Q (Mezzadri 2007); one row
    is then negated where the determinant is -1.
    """
    gaussian = torch.randn(size, size, generator=generator, dtype=torch.float64)
    q: Tensor
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()
    if torch.linalg.slogdet(q).sign < 0:
        q[0] = -q[0]
    return q.float()


def log_likelihood(z: Tensor, log_det: Tensor) -> Tensor:
    """log p of a fiber for a standard normal z, per dimension: (N, C), (N,) -> (N,)."""
    channels = z.shape[1]
    return (log_det - z.square().sum(1) / 2) / channels - math.log(2 * math.pi) / 2


def fiber_loss(q: Tensor) -> Tensor:
    """-ln sigmoid(q), which flattens the gradient of fibers that are already likely."""
    return -functional.logsigmoid(q)


def _blocks(
    channels: int, condition: int, couplings: int, clamp: float, generator: torch.Generator
) -> SequenceINN:
    decoder = SequenceINN(channels)
    where = {"cond": 0, "cond_shape": (condition,)} if condition else {}
    with _global_generators(generator):
        for _ in range(couplings):
            decoder.append(
                AllInOneBlock,
                subnet_constructor=_subnet,
                affine_clamping=clamp,
                global_affine_type="SOFTPLUS",
                permute_soft=False,
                **where,
            )
    return decoder


def _subnet(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 2 * inputs), nn.ReLU(), nn.Linear(2 * inputs, outputs))


@contextmanager
def _global_generators(generator: torch.Generator) -> Iterator[None]:
    """Seed the global CPU generators from `generator`, and put their state back afterwards."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    saved = np.random.get_state()  # noqa: NPY002 - FrEIA uses the global generator
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            np.random.set_state(saved)  # noqa: NPY002


@functools.cache
def require_known_freia() -> None:
    """Refuse a FrEIA whose blocks compute another function than that of release 0.2.

    Its later development clamps by alpha * tanh(a / alpha) and stores permutations otherwise.

    Raises:
        MethodError: if a small block differs from the formula of the paper's code.
    """
    block = _blocks(4, 0, 1, 1.5, torch.Generator().manual_seed(0))[0]
    x = torch.linspace(-2, 2, 12).reshape(3, 4)
    with torch.no_grad():
        block.subnet[2].bias.add_(9.0)
        (z,), log_det = block((x,))
        a = 0.1 * block.subnet(x[:, :2])
        s = 1.5 * torch.tanh(a[:, :2])
        v = torch.cat([x[:, :2], x[:, 2:] * s.exp() + a[:, 2:]], 1)
        known = isinstance(block.w_perm, Tensor) and block.w_perm.shape == (4, 4)
        if known:
            known = torch.allclose(z, v @ block.w_perm.T, atol=1e-4)
            known = known and torch.allclose(log_det, s.sum(1), atol=1e-4)
    if not known:
        raise MethodError(
            "the installed FrEIA computes another coupling block than release 0.2, with which "
            "CFLOW was published; install FrEIA==0.2"
        )
