"""The network that tells pictures from their altered copies, and its training step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping


class Classifier(nn.Module):
    """An encoder, a projection head and the classes.

    The spatial mean of the encoder's last feature map is the embedding that scores are taken from.
    """

    def __init__(
        self, encoder: nn.Module, channels: int, hidden: tuple[int, ...], classes: int
    ) -> None:
        """
        Args:
            encoder: (B, 3, H, W) -> a list whose last entry is (B, channels, h, w).
            hidden: widths of the head, each a linear layer, batch norm and ReLU.
        """
        super().__init__()
        self.encoder = encoder
        widths = (channels, *hidden)
        layers: list[nn.Module] = []
        for inside, outside in zip(widths, hidden, strict=False):
            layers += [nn.Linear(inside, outside), nn.BatchNorm1d(outside), nn.ReLU()]
        self.head = nn.Sequential(*layers)
        self.out = nn.Linear(widths[-1], classes)

    def features(self, images: Tensor) -> Tensor:
        """(B, C, h, w) last feature map."""
        return cast("list[Tensor]", self.encoder(images))[-1]

    def classify(self, embedding: Tensor) -> Tensor:
        """(B, classes) logits of (B, C) embeddings."""
        return cast("Tensor", self.out(self.head(embedding)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) and embeddings (B, C)."""
        embedding = self.features(images).mean((2, 3))
        return self.classify(embedding), embedding


def initialise(network: Classifier, generator: torch.Generator) -> None:
    """Fresh weights, as torchvision draws them for its ResNets and torch for linear layers."""
    for module in network.encoder.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[:, 0].numel() // module.groups
            module.weight.data.normal_(0, math.sqrt(2 / fan_out), generator=generator)
            if module.bias is not None:
                module.bias.data.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(1)
            module.bias.data.zero_()
    initialise_head(network, generator)


def initialise_head(network: Classifier, generator: torch.Generator) -> None:
    """Weights and biases of the linear layers, uniform up to 1 / sqrt(inputs)."""
    for module in (*network.head, network.out):
        if isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            module.weight.data.uniform_(-bound, bound, generator=generator)
            module.bias.data.uniform_(-bound, bound, generator=generator)


def rate(peak: float, step: int, steps: int) -> float:
    """Learning rate of a step: a cosine that starts one step late, as in the published script."""
    return peak * (1 + math.cos(math.pi * max(step - 1, 0) / steps)) / 2


class Trainer:
    """Stochastic gradient descent; the encoder stands still for the first `freeze` steps.

    Its batch-norm statistics move all the same, as published.
    """

    def __init__(
        self,
        network: Classifier,
        *,
        steps: int,
        lr: float,
        momentum: float,
        weight_decay: float,
        freeze: int,
    ) -> None:
        self.network = network
        self.steps = steps
        self.lr = lr
        self.freeze = freeze
        self.done = 0
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay
        )

    def step(self, inputs: Tensor, labels: Tensor) -> Mapping[str, Tensor | float]:
        """One update on (B, 3, H, W) normalised inputs and (B,) classes."""
        # Without gradients the frozen encoder needs no backward pass, and no decay moves it.
        self.network.encoder.requires_grad_(self.done >= self.freeze)
        lr = rate(self.lr, self.done, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        logits, _ = self.network(inputs)
        loss = functional.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.done += 1
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": loss.detach(), "accuracy": accuracy, "lr": lr}
