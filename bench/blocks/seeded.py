"""torch's own initialisation of layers, drawn from a generator of the run's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def drawn_from(generator: torch.Generator) -> Iterator[None]:
    """Layers made inside draw their initial values by the seed of `generator`.

    torch's layers initialise themselves from the global generator alone. It starts from the seed
    of `generator` inside, and is what it was afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())
        yield
