"""Uninformed Students: networks that have learned to describe normal patches as a teacher does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from bench.api import Method, MethodError, Prediction, nearest
from bench.blocks.on_device import sent

from .network import LAYERS, PatchNetwork, draw_network
from .students import (
    Moments,
    Target,
    blocks,
    describe,
    error_and_variance,
    pixels,
    student_step,
)
from .teacher import PatchSampler, TeacherLoss, TeacherTrainer, to_half, train_teacher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.api import Images, Run

    Augment = Callable[[Tensor, torch.Generator], Tensor]

_CHOICES = {
    "teacher_keep": ("best", "last"),
    "descriptor": ("decoded", "embedding"),
    "calibration": ("train", "split"),
}


@dataclass
class UninformedStudents(Method):
    """Error and disagreement of students that imitate a teacher at every pixel (arXiv:1911.02357).

    Attributes:
        patches: sides of the patches, each with a teacher and students of its own: 17, 33, 65.
        students: networks that imitate each teacher; one has no variance, and is scored by error.
        width: factor of the published channels; 1 but for a quick look.
        backbone, layer: what the teachers are distilled from: timm's name, and the index of the
            feature map whose mean over positions is the target.
        teacher_epochs: passes over the pictures, one patch of each.
        teacher_batch, teacher_lr: patches in a step, and rate of Adam.
        teacher_keep: the teacher of the epoch of the smallest loss, or of the last one.
        rotation: largest rotation of a patch in the teacher's training, in degrees.
        dropout: of the teacher's embedding, by channel, and of its output, by entry.
        compactness, metric: weights of two losses beside the distillation; 1 and 1 in the paper.
        margin, shift, noise: of the metric loss: its margin, and the largest shift (pixels) and the
            noise of the second view of a patch.
        epochs: passes of the students over the pictures; 100 in the paper.
        batch: pictures in a step of the students.
        lr: of the students' Adam.
        weight_decay: of both.
        flip: mirror pictures and patches at random in training.
        descriptor: what students imitate: the decoder's output, or what is before it, as in the
            paper.
        calibration: which pictures the two maps are standardised on: those of the training, or a
            part that the students do not see, as in the paper.
        held_out: that part.
        input_size: side of the input, where the protocol leaves it to the method.
    """

    version: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "Bergmann, Fauser, Sattlegger, Steger: Uninformed Students: Student-Teacher Anomaly "
        "Detection with Discriminative Latent Embeddings. CVPR 2020, arXiv:1911.02357"
    )
    min_train: ClassVar[int] = 2

    patches: tuple[int, ...] = (17, 33, 65)
    students: int = 3
    width: float = 1.0
    backbone: str = "resnet18.tv_in1k"
    layer: int = 4
    teacher_epochs: int = 1000
    teacher_batch: int = 64
    teacher_lr: float = 2e-4
    teacher_keep: Literal["best", "last"] = "best"
    rotation: float = 180.0
    dropout: float = 0.2
    compactness: float = 1.0
    metric: float = 0.0
    margin: float = 1.0
    shift: int = 4
    noise: float = 0.02
    epochs: int = 15
    batch: int = 1
    lr: float = 1e-4
    weight_decay: float = 1e-5
    flip: bool = True
    descriptor: Literal["decoded", "embedding"] = "decoded"
    calibration: Literal["train", "split"] = "train"
    held_out: float = 0.1
    input_size: int = 256

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise MethodError(
                    f"uninformed_students: {name}={value!r}; {nearest(value, choices)}"
                )
        above = ("students", "width", "teacher_epochs", "teacher_batch", "teacher_lr")
        for name in (*above, "epochs", "batch", "lr", "input_size"):
            if getattr(self, name) <= 0:
                raise MethodError(
                    f"uninformed_students: {name}={getattr(self, name)} must be above 0"
                )
        others = ("rotation", "compactness", "metric", "margin", "shift", "noise", "weight_decay")
        for name in others:
            if getattr(self, name) < 0:
                raise MethodError(
                    f"uninformed_students: {name}={getattr(self, name)} must not be below 0"
                )
        if not 0 <= self.dropout < 1:
            raise MethodError(
                f"uninformed_students: dropout={self.dropout} must be from 0 to below 1"
            )
        if not 0 < self.held_out < 1:
            raise MethodError(
                f"uninformed_students: held_out={self.held_out} must be between 0 and 1"
            )
        unknown = [patch for patch in self.patches if patch not in LAYERS]
        if unknown or not self.patches or len(set(self.patches)) < len(self.patches):
            raise MethodError(
                f"uninformed_students: patches={tuple(self.patches)}; choose one or more of "
                f"{', '.join(map(str, LAYERS))}, each once"
            )

    def prepare(self, run: Run) -> None:
        """Load the network to distil; draw teachers and students."""
        height, width = run.image_size
        if max(self.patches) > min(height, width):
            raise MethodError(
                f"uninformed_students: patches of {max(self.patches)} pixels do not fit images of "
                f"{height}x{width}; choose larger images or fewer patches"
            )
        self.extractor = run.backbone(self.backbone, (self.layer,))
        outputs = self.extractor.channels[0]
        self.teachers = nn.ModuleList(
            self._network(patch, outputs, run, "teacher") for patch in self.patches
        )
        # The students of the first scale, then those of the next.
        self.learners = nn.ModuleList(
            self._network(patch, outputs, run, f"student {number}")
            for patch in self.patches
            for number in range(self.students)
        )
        length = outputs if self._is_decoded else self._teacher(0).embedding
        scales = len(self.patches)
        self.target_mean = torch.zeros(scales, length, device=run.device)
        self.target_deviation = torch.ones(scales, length, device=run.device)
        self.offset = torch.zeros(scales, 2, dtype=torch.float64)
        self.scale = torch.ones(scales, 2, dtype=torch.float64)
        self._to_calibrate: Images | None = None

    def fit(self, train: Images, run: Run) -> Iterator[Mapping[str, float]]:
        """Train the teachers, then all students; yield the students' losses after each epoch.

        Raises:
            MethodError: a loss that is not finite, or descriptors that do not vary.
        """
        seen = unseen = train
        if self.calibration == "split":
            seen, unseen = train.hold_out(self.held_out, "uninformed_students calibration")
        for index in range(len(self.patches)):
            self._teach(index, seen, run)
            self._standardise(index, seen)
        optimizers = [
            [self._adam(student, self.lr) for student in self._students(index)]
            for index in range(len(self.patches))
        ]
        for epoch in range(self.epochs):
            losses = self._epoch(seen, optimizers)
            bad = next((name for name, loss in losses.items() if not loss < float("inf")), None)
            if bad:
                raise MethodError(
                    f"uninformed_students: {bad} is {losses[bad]} in epoch {epoch + 1}; choose a "
                    f"smaller lr than {self.lr}"
                )
            self._to_calibrate = unseen
            if epoch == self.epochs - 1:
                self._calibrate()
            yield losses

    def predict(self, images: Tensor) -> Prediction:
        if self._to_calibrate is not None:
            self._calibrate()
        total = torch.zeros(len(images), *images.shape[-2:], device=images.device)
        for index, (errors, variances) in enumerate(self.raw(images)):
            total += self._standard(index, 0, errors)
            # One student agrees with itself.
            if self.students > 1:
                total += self._standard(index, 1, variances)
        maps = total / len(self.patches)
        return Prediction(maps, maps.amax((1, 2)))

    def raw(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(B, H, W) errors and variances of each scale."""
        pictures = to_half(images)
        found = []
        for index in range(len(self.patches)):
            target, students = self._target(index), self._students(index)
            # One picture at a time: the activations of a whole batch would fill the memory.
            maps = [error_and_variance(students, one[None], target) for one in pictures]
            errors, variances = zip(*maps, strict=True)
            found.append((torch.cat(errors), torch.cat(variances)))
        return found

    def state(self) -> dict[str, Tensor]:
        """As `Method.state`, once the maps are calibrated."""
        if self._to_calibrate is not None:
            self._calibrate()
        return super().state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Raises:
            MethodError: a state of other patches, students, widths or descriptors.
        """
        for name in ("target_mean", "target_deviation", "offset", "scale"):
            found, own = state.get(name), getattr(self, name)
            if found is None or found.shape != own.shape:
                shape = "missing" if found is None else tuple(found.shape)
                raise MethodError(
                    f"uninformed_students: {name} of the saved state is {shape}, expected "
                    f"{tuple(own.shape)}; it was saved by another method or with other settings"
                )
        super().load_state(state)

    @property
    def _is_decoded(self) -> bool:
        return self.descriptor == "decoded"

    def _network(self, patch: int, outputs: int, run: Run, role: str) -> PatchNetwork:
        channels = [max(1, round(layer.channels * self.width)) for layer in LAYERS[patch]]
        network = PatchNetwork(patch, channels, outputs)
        draw_network(network, run.generator(f"uninformed_students {role} {patch}"))
        return network.to(run.device)

    def _adam(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters(), lr, weight_decay=self.weight_decay)

    def _teach(self, index: int, train: Images, run: Run) -> None:
        """Train the teacher of one scale on patches of the normal pictures."""
        patch = self.patches[index]
        teacher = self._teacher(index)
        draws = run.generator(f"uninformed_students dropout {patch}")

        def masks(count: int, length: int) -> Tensor:
            kept = torch.rand(count, length, generator=draws) >= self.dropout
            return sent(kept / (1 - self.dropout), run.device)

        trainer = TeacherTrainer(
            network=teacher,
            target=lambda patches: self.extractor(patches)[0].mean((2, 3)),
            loss=TeacherLoss(self.compactness, self.metric, self.margin),
            masks=masks if self.dropout else None,
            is_decoded=self._is_decoded,
            optimizer=self._adam(teacher, self.teacher_lr),
        )
        sampler = PatchSampler(
            patch, self.flip, self.rotation, self.shift if self.metric else None, self.noise
        )
        epochs = (
            train.batches(self.teacher_batch, shuffle=True, augment=sampler)
            for _ in range(self.teacher_epochs)
        )
        train_teacher(trainer, epochs, self.teacher_keep)

    @torch.no_grad()
    def _standardise(self, index: int, train: Images) -> None:
        """Mean and deviation of the teacher's descriptors over the pixels of all pictures."""
        teacher = self._teacher(index)
        moments = Moments()
        for images in train.batches(1, shuffle=True, augment=self._augment()):
            for block in blocks(pixels(teacher.embed_densely(to_half(images)))):
                moments.add(describe(teacher, block, self._is_decoded))
        deviation = moments.variance.sqrt()
        if not (deviation > 0).all():
            raise MethodError(
                f"uninformed_students: {int((~(deviation > 0)).sum())} descriptors of the teacher "
                f"for patches of {self.patches[index]} pixels are the same everywhere; are the "
                "training images blank?"
            )
        self.target_mean[index] = moments.mean.float()
        self.target_deviation[index] = deviation.float()

    def _epoch(
        self, train: Images, optimizers: list[list[torch.optim.Optimizer]]
    ) -> dict[str, float]:
        """One pass; the teacher's embedding of a picture serves all students of a scale."""
        totals = [torch.zeros((), dtype=torch.float64, device=self.target_mean.device)] * len(
            self.patches
        )
        steps = 0
        for images in train.batches(self.batch, shuffle=True, augment=self._augment()):
            pictures = to_half(images)
            for index, own in enumerate(optimizers):
                target = self._target(index)
                with torch.no_grad():
                    taught = pixels(target.teacher.embed_densely(pictures))
                for student, optimizer in zip(self._students(index), own, strict=True):
                    loss = student_step(student, pictures, taught, target, optimizer)
                    totals[index] = totals[index] + loss
            steps += 1
        count = steps * self.students
        return {
            f"loss_{patch}": float(total) / count
            for patch, total in zip(self.patches, totals, strict=True)
        }

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Mean and deviation of both maps over the pixels of the pictures set aside for it.

        Done where an epoch is scored or saved: it costs as much as a third of an epoch.
        """
        images_set, self._to_calibrate = self._to_calibrate, None
        assert images_set is not None
        moments = [(Moments(), Moments()) for _ in self.patches]
        for images in images_set.batches(1):
            for both, maps in zip(moments, self.raw(images), strict=True):
                for moment, one in zip(both, maps, strict=True):
                    moment.add(one.flatten())
        self.offset = torch.stack([torch.stack([m.mean.cpu() for m in both]) for both in moments])
        variance = torch.stack([torch.stack([m.variance.cpu() for m in both]) for both in moments])
        self.scale = variance.sqrt()
        needed = self.scale if self.students > 1 else self.scale[:, :1]
        if not (needed > 0).all():
            raise MethodError(
                "uninformed_students: the students' errors are the same at all pixels of the "
                "normal images; are these images blank?"
            )

    def _standard(self, index: int, which: int, maps: Tensor) -> Tensor:
        return (maps - float(self.offset[index, which])) / float(self.scale[index, which])

    def _target(self, index: int) -> Target:
        return Target(
            self._teacher(index),
            self.target_mean[index],
            self.target_deviation[index],
            self._is_decoded,
        )

    def _students(self, index: int) -> list[PatchNetwork]:
        own = self.learners[index * self.students : (index + 1) * self.students]
        return [cast("PatchNetwork", student) for student in own]

    def _teacher(self, index: int) -> PatchNetwork:
        return cast("PatchNetwork", self.teachers[index])

    def _augment(self) -> Augment | None:
        return random_flips if self.flip else None


def random_flips(image: Tensor, generator: torch.Generator) -> Tensor:
    """(3, H, W), each axis mirrored with probability one half."""
    for axis in (-1, -2):
        if float(torch.rand((), generator=generator)) < 0.5:
            image = image.flip(axis)
    return image
