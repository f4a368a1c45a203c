"""FLOPs of the methods' training and prediction at their default settings, counted on one step.

What a search, a selection or a covariance multiplies is added by its formula.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from meta import META, Cost, MetaRun, flops, images, inference, prepared, step

from bench.blocks.gaussian import low_rank_factor
from bench.plugins.methods.ae_ssim import AeSsim
from bench.plugins.methods.anogan import AnoGAN, dcgan
from bench.plugins.methods.anogan.search import Search
from bench.plugins.methods.cflow import Cflow
from bench.plugins.methods.cflow.likelihood import log_likelihoods
from bench.plugins.methods.csflow import CSFlow
from bench.plugins.methods.csflow.flow import flow_loss
from bench.plugins.methods.cutpaste import CutPaste
from bench.plugins.methods.dfr import DFR
from bench.plugins.methods.differnet import DifferNet
from bench.plugins.methods.differnet.flow import negative_log_likelihoods
from bench.plugins.methods.draem import Draem
from bench.plugins.methods.patchcore import PatchCore
from bench.plugins.methods.patchsvdd import PatchSVDD
from bench.plugins.methods.patchsvdd.network import LARGE, SMALL, PositionClassifier
from bench.plugins.methods.patchsvdd.sampling import Pairs
from bench.plugins.methods.patchsvdd.training import losses
from bench.plugins.methods.pyramidflow import PyramidFlow
from bench.plugins.methods.spade import SPADE
from bench.plugins.methods.stfpm import STFPM, level_distances, unit_features
from bench.plugins.methods.uninformed_students import UninformedStudents
from bench.plugins.methods.uninformed_students.students import pixels, student_step
from bench.plugins.methods.uninformed_students.teacher import TeacherLoss, TeacherTrainer
from bench.plugins.methods.vae import Vae
from bench.plugins.methods.vtadl import VtAdl

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

DFR_LATENT = 100
"""What the training images decide; the network of a training step grows with it."""


def padim(train: int) -> Cost:
    """As published for the large network: preset padim-paper."""
    dimensions, side = 550, 224
    encoder = MetaRun(side).backbone("wide_resnet50_2.tv_in1k", (1, 2, 3))
    features = inference(lambda: encoder(images(1, side)))
    positions = (side // 4) ** 2
    kept = torch.empty(positions, train, dimensions, device=META)
    fit = inference(lambda: low_rank_factor(kept, 0.01))
    # Cholesky and triangular solve, which the counter does not know.
    fit += positions * (train**3 // 3 + train**2 * dimensions)
    distance = 2 * positions * dimensions * min(train - 1, dimensions)
    return Cost(
        "WideResNet50, 224, 550 of 1792 channels", train * features + fit, features + distance
    )


def patchcore(train: int) -> Cost:
    method = PatchCore()
    side = prepared(method)
    embed = inference(lambda: method._embed(images(1, side)))
    cells = method._cells
    kept = int(train * cells * method.coreset)
    projected = 2 * train * cells * method.dimensions * method.projection
    selected = 2 * kept * train * cells * method.projection
    search = 2 * cells * kept * method.dimensions
    words = f"WideResNet50, {side}, coreset {method.coreset:.0%}"
    return Cost(words, train * embed + projected + selected, embed + search)


def spade(train: int) -> Cost:
    method = SPADE()
    side = prepared(method)
    features = inference(lambda: method.extractor(images(1, side)))
    search = sum(2 * method.neighbours * s.cells**2 * s.channels for s in method._shapes)
    words = f"WideResNet50, {side}, {method.neighbours} neighbours"
    return Cost(words, train * features, features + search)


def dfr(train: int) -> Cost:
    method = DFR(latent=DFR_LATENT)
    side = prepared(method)
    features = inference(lambda: method.features(images(1, side)))
    method.autoencoder.train()
    found = method.features(images(method.batch, side))
    update = step(lambda: (method.autoencoder(found) - found).square().mean())
    method.autoencoder.eval()
    steps = method.epochs * math.ceil(train / method.batch)
    image = inference(lambda: method.raw(images(1, side)))
    words = f"VGG19, {side}, d = {DFR_LATENT}, {method.epochs} epochs"
    return Cost(words, train * features + steps * update, image)


def stfpm(train: int) -> Cost:
    method = STFPM()
    side = prepared(method)
    batch = images(method.batch, side)
    teacher = inference(lambda: unit_features(method.teacher, batch))
    targets = unit_features(method.teacher, batch)
    student = inference(lambda: level_distances(method.student, batch, targets))
    method.student.train().requires_grad_(True)
    update = step(
        lambda: torch.cat([d.mean()[None] for d in level_distances(method.student, batch, targets)])
    )
    seen = train - round(method.validation * train)
    passes = method.epochs * (seen * update + (train - seen) * student) + train * teacher
    words = f"ResNet18, {side}, {method.epochs} epochs"
    return Cost(words, passes / method.batch, (teacher + student) / method.batch)


def uninformed_students(train: int) -> Cost:
    method = UninformedStudents()
    side = prepared(method)
    training, image = 0.0, 0.0
    for index in range(len(method.patches)):
        taught, embedded, described, learnt = _scale(method, index, images(1, side))
        scored = (1 + method.students) * described
        epochs = method.epochs * (embedded + method.students * learnt)
        training += train * (method.teacher_epochs * taught + described + epochs + scored)
        image += scored
    words = f"patches 17, 33, 65, {side}, {method.teacher_epochs} and {method.epochs} epochs"
    return Cost(words, training, image)


def _scale(
    method: UninformedStudents, index: int, one: Tensor
) -> tuple[float, float, float, float]:
    """A patch that a teacher learns; an image embedded, and described; and learnt by a student."""
    teacher, student = method._teacher(index), method._students(index)[0]
    trainer = TeacherTrainer(
        teacher,
        lambda patches: method.extractor(patches)[0].mean((2, 3)),
        TeacherLoss(method.compactness, method.metric, method.margin),
        None,
        method._is_decoded,
        torch.optim.SGD(teacher.parameters()),
    )
    patches = images(method.teacher_batch, method.patches[index])
    known, optimizer = pixels(teacher.embed_densely(one)), torch.optim.SGD(student.parameters())
    return (
        flops(lambda: trainer.step(patches)) / method.teacher_batch,
        inference(lambda: teacher.embed_densely(one)),
        inference(lambda: teacher.decoded(pixels(teacher.embed_densely(one)))),
        flops(lambda: student_step(student, one, known, method._target(index), optimizer)),
    )


def patchsvdd(train: int) -> Cost:
    method = PatchSVDD()
    side = prepared(method)
    classifiers = {k: PositionClassifier(method.embedding).to(META) for k in (LARGE, SMALL)}
    labels = torch.empty(method.batch, dtype=torch.long, device=META)

    def pairs(patch: int) -> Pairs:
        first, second, near, other = (images(method.batch, patch) for _ in range(4))
        return Pairs(first, second, labels, near, other)

    drawn = {patch: pairs(patch) for patch in (LARGE, SMALL)}
    update = step(lambda: losses(method.encoder, classifiers, drawn, method.lambda_svdd).total)
    embed = inference(lambda: method.encoder.embed_densely(images(1, side), method.strides))
    steps = method.epochs * math.ceil(method.repeats * train / method.batch)
    search = 0
    for patch, stride in zip((LARGE, SMALL), method.strides, strict=True):
        cells = ((side - patch) // stride + 1) ** 2
        search += 2 * cells * cells * train * method.embedding
    words = f"{side}, {method.epochs} epochs of {method.repeats} visits"
    return Cost(words, steps * update + method.epochs * train * embed, embed + search)


def csflow(train: int) -> Cost:
    method = CSFlow()
    side = prepared(method)
    features = inference(lambda: method.features(images(1, side)))
    with torch.no_grad():
        found = method.features(images(1, side))
    method.flow.train()
    update = step(lambda: flow_loss(*method.flow(found, save_memory=method.save_memory)))
    method.flow.eval()
    epochs = method.meta_epochs * method.sub_epochs
    words = f"EfficientNet-B5, {side}, {epochs} epochs, recomputing activations"
    image = inference(lambda: method.raw(images(1, side)))
    return Cost(words, train * (features + epochs * update), image)


def differnet(train: int) -> Cost:
    method = DifferNet()
    side = prepared(method)
    vectors = inference(lambda: method.vectors(images(method.chunk, side)))
    with torch.no_grad():
        known = method.vectors(images(method.chunk, side))
    update = step(lambda: negative_log_likelihoods(*method.flow(known)).mean())
    copies = train * method.rotations * method.meta_epochs * method.sub_epochs
    explained = flops(lambda: method.gradients(images(method.chunk, side), method.test_rotations))
    words = (
        f"AlexNet, {side}, {method.meta_epochs * method.sub_epochs} epochs of {method.rotations} "
        f"copies, maps of {method.test_rotations}"
    )
    training = copies * (vectors + update) / method.chunk
    return Cost(words, training, explained * method.test_rotations / method.chunk)


def draem(train: int) -> Cost:
    method = Draem()
    side = prepared(method)
    method.reconstruction.train()
    method.discrimination.train()

    def both() -> Tensor:
        altered = images(1, side)
        redrawn = method.reconstruction(altered)
        logits = method.discrimination(torch.cat([redrawn, altered], 1))
        return torch.cat([redrawn, logits], 1)

    update = step(both)
    words = f"{side}, {method.epochs} epochs, without the losses"
    return Cost(words, train * method.epochs * update, inference(both))


def cutpaste(train: int) -> Cost:
    method = CutPaste()
    side = prepared(method)
    method.classifier.train().requires_grad_(True)
    shown = 3 * method.batch  # a picture and its two altered copies
    update = step(lambda: method.classifier(images(shown, side))[0])
    method.classifier.eval()
    features = inference(lambda: method.classifier.features(images(1, side)))
    words = f"ResNet18, {side}, {method.steps} steps of 3 x {method.batch} pictures"
    return Cost(words, method.steps * update + method.epochs * train * features, features)


def ae_ssim(train: int) -> Cost:
    method = AeSsim()
    side = prepared(method)
    return of_patches(method, side, lambda: method.patch_loss(images(method.batch, method.patch)))


def vae(train: int) -> Cost:
    method = Vae()
    side = prepared(method)
    noise = torch.empty(method.batch, method.latent, device=META)
    patches = images(method.batch, method.patch)
    return of_patches(method, side, lambda: method.patch_loss(patches, noise))


def of_patches(method: AeSsim | Vae, side: int, loss: Callable[[], Tensor]) -> Cost:
    """Of an auto-encoder that trains on batches of patches."""
    update = step(loss) / method.batch
    image = inference(lambda: method.raw(images(1, side)))
    words = f"{method.epochs} x {method.patches_per_epoch} patches of {method.patch}, tests {side}"
    return Cost(words, method.epochs * method.patches_per_epoch * update, image)


def anogan(train: int) -> Cost:
    method = AnoGAN()
    side = prepared(method)
    batch = images(method.batch, method.size)
    z = torch.empty(method.batch, method.latent, device=META)
    trainer = dcgan.Trainer(method.generator, method.discriminator, 1e-4, 1e-4, (0.5, 0.9))
    for network in method.modules():
        network.train()
    update = flops(lambda: trainer.update(batch, z, z)) / method.batch
    method.freeze()
    search = Search(method.generator, method.discriminator.features, 0.1, 0.02)
    none, one = (flops(partial(search.run, batch[:1], z[:1], count)) for count in (0, 1))
    words = f"{side}, {method.gan_epochs} epochs, {method.search_steps} search steps"
    image = none + method.search_steps * (one - none)
    return Cost(words, train * method.gan_epochs * update, image)


def vtadl(train: int) -> Cost:
    method = VtAdl()
    side = prepared(method)
    noise = torch.empty(1, (side // method.patch) ** 2, method.dim, device=META)
    optimizer = torch.optim.SGD(method.autoencoder.parameters())
    update = flops(lambda: method.update(optimizer, images(1, side), noise))
    image = inference(lambda: method.predict(images(1, side)))
    words = f"{side}, {method.epochs} epochs, {method.gaussians} components"
    return Cost(words, train * method.epochs * update, image)


def pyramidflow(train: int) -> Cost:
    method = PyramidFlow()
    side = prepared(method)
    method.training_mode(True)
    pair = images(method.batch, side)
    update = step(lambda: method.loss(method.flow(method.pyramid(pair), method.save_memory)))
    method.training_mode(False)
    image = inference(lambda: method.latents(images(1, side)))
    steps = method.epochs * (train // method.batch)
    words = f"without a network, {side}, {method.epochs} epochs, recomputing activations"
    return Cost(words, steps * update + train * image, image)


def cflow(train: int) -> Cost:
    method = Cflow()
    side = prepared(method)
    encoder = inference(lambda: method.encoder(images(1, side)))
    trained, scored = 0.0, 0.0
    for decoder, feature in zip(method.decoders, method.encoder(images(1, side)), strict=True):
        positions = feature.shape[-2] * feature.shape[-1]
        fibers = torch.empty(method.fibers, feature.shape[1], device=META)
        codes = torch.empty(positions, method.condition, device=META)
        places = torch.empty(method.fibers, dtype=torch.long, device=META)
        likelihoods = partial(log_likelihoods, decoder, fibers, codes, places)
        trained += positions * step(likelihoods) / method.fibers
        scored += positions * inference(likelihoods) / method.fibers
    seen = train // method.batch * method.batch  # an incomplete batch is dropped
    epochs = method.meta_epochs * method.sub_epochs
    training = epochs * seen * (encoder + trained) + method.meta_epochs * train * (encoder + scored)
    words = f"WideResNet50, {side}, {method.meta_epochs} x {method.sub_epochs} epochs"
    return Cost(words, training, encoder + scored)


COUNTS: dict[str, Callable[[int], Cost]] = {
    "pyramidflow": pyramidflow,
    "cflow": cflow,
    "padim": padim,
    "patchcore": patchcore,
    "spade": spade,
    "dfr": dfr,
    "stfpm": stfpm,
    "uninformed_students": uninformed_students,
    "patchsvdd": patchsvdd,
    "csflow": csflow,
    "differnet": differnet,
    "draem": draem,
    "cutpaste": cutpaste,
    "ae_ssim": ae_ssim,
    "vae": vae,
    "anogan": anogan,
    "vtadl": vtadl,
}
"""By method: the cost of a class with so many training images."""
