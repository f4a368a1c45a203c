"""What a normalizing flow does to tell the unusual: CFLOW-AD's Figure 1, in two dimensions.

    python examples/cflow_toy.py --out toy.png

Normal points lie on a bent band; each stands for the features of a patch. CFLOW-AD's decoder
learns to turn their distribution into a standard normal one, without seeing an anomalous point. A
point whose image z lies further from the origin than nearly all normal ones is then anomalous, and
its density is low. Nothing here is measured; `bench run -m cflow` does so on images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.patches import Circle
from torch import Tensor, nn

from bench.blocks.position import position_code
from bench.plugins.methods.cflow.decoder import fiber_loss, log_likelihood, make_decoder
from bench.report.pictures.figures import COLOURS, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NORMAL, ANOMALOUS = COLOURS[0], COLOURS[1]
SHARE = 0.99
"""Of the normal points that lie within the threshold."""
CODE = 32
"""Length of the position code."""


def crescent(count: int, generator: torch.Generator) -> Tensor:
    """(count, 2) normal points: a bent band."""
    angle = 0.6 * torch.randn(count, generator=generator)
    radius = 1 + 0.08 * torch.randn(count, generator=generator)
    return torch.stack([radius * angle.sin(), radius * angle.cos()], 1)


def elsewhere(count: int, generator: torch.Generator) -> Tensor:
    """(count, 2) anomalous points: a cluster on either side of the band."""
    points = 0.1 * torch.randn(count, 2, generator=generator)
    sides = torch.where(torch.arange(count) % 2 == 0, 1.0, -1.0)
    return points + torch.stack([1.2 * sides, torch.full_like(sides, 1.2)], 1)


def train(normal: Tensor, steps: int, generator: torch.Generator) -> nn.Module:
    """The decoder of CFLOW-AD for fibers of length 2, trained as `bench run -m cflow` does."""
    decoder: nn.Module = make_decoder(2, CODE, couplings=8, clamp=1.9, generator=generator)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(normal), (256,), generator=generator)
        z, log_det = decoder(normal[chosen], [code(256)])
        loss = fiber_loss(log_likelihood(z, log_det)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return decoder.eval()


def code(count: int) -> Tensor:
    """(count, CODE) position codes: all points stand for patches of one position, the first."""
    return position_code(CODE, 1, 1).flatten(1).T.expand(count, -1)


@torch.no_grad()
def look(decoder: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 2) images z of points, and (N,) log densities per dimension."""
    z, log_det = decoder(points, [code(len(points))])
    return z, log_likelihood(z, log_det)


def draw_points(axis: Axes, normal: Tensor, anomalous: Tensor, title: str) -> None:
    for points, colour, marker, label in (
        (normal, NORMAL, "o", "normal"),
        (anomalous, ANOMALOUS, "^", "anomalous"),
    ):
        x, y = points.T.tolist()
        axis.scatter(x, y, s=4, c=colour, marker=marker, label=label, zorder=3)
    axis.set_title(title, fontsize=9)
    axis.set_aspect("equal")


def draw(decoder: nn.Module, normal: Tensor, anomalous: Tensor, file: Path) -> float:
    """Points with their density, and their images with the threshold, into a file.

    Returns:
        the share of anomalous points beyond the threshold.
    """
    (z, _), (z_bad, _) = look(decoder, normal), look(decoder, anomalous)
    threshold = float(z.norm(dim=1).quantile(SHARE))
    found = float((z_bad.norm(dim=1) > threshold).float().mean())
    figure, (left, right) = new_figure(1, 2, 8.0, 4.2)
    line = torch.linspace(-1.8, 1.8, 150)
    y, x = torch.meshgrid(line, line, indexing="ij")
    _, density = look(decoder, torch.stack([x.flatten(), y.flatten()], 1))
    shown = density.exp().reshape(x.shape)
    left.contourf(x, y, shown, levels=12, cmap="Greys")
    draw_points(left, normal, anomalous, "points x, and the density that was learned")
    draw_points(right, z, z_bad, f"images z: {found:.0%} of the anomalous beyond the threshold")
    right.add_patch(Circle((0, 0), threshold, fill=False, linestyle="--"))
    reach = max(1.5 * threshold, 1.1 * float(z_bad.norm(dim=1).quantile(0.9)))
    right.set(xlim=(-reach, reach), ylim=(-reach, reach))
    handles, names = left.get_legend_handles_labels()
    text = f"; dashed: {SHARE:.0%} of the normal points lie within"
    figure.legend(handles, [names[0], names[1] + text], loc="outside lower center", ncols=2)
    save(figure, file)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("toy.png"), help="the figure")
    parser.add_argument("--steps", type=int, default=300, help="updates of the decoder")
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    normal, anomalous = crescent(1000, generator), elsewhere(100, generator)
    decoder = train(normal, arguments.steps, generator)
    found = draw(decoder, normal, anomalous, arguments.out)
    densities = [float(look(decoder, points)[1].mean()) for points in (normal, anomalous)]
    print(
        f"log density per dimension: normal {densities[0]:.2f}, anomalous {densities[1]:.2f}; "
        f"{found:.0%} of the anomalous points beyond the threshold"
    )
    print(arguments.out)


if __name__ == "__main__":
    main()
