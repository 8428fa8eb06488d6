"""The gradient attacks of AutoAttack (Croce & Hein 2020b): APGD and its targeted form.

Each returns the perturbation: images + perturbation is the adversarial image, inside [0,1] and
inside the ball after every step. The step size is chosen for each image by its own losses, so that
images do not influence each other. Images that the network misclassifies (in all draws of one that
draws random numbers) are not attacked, their perturbation is 0.

Arguments and settings that both take:

    images: float [N,C,H,W] in [0,1].
    labels: int64 [N], the true classes. BadInput for masks.
    predict: images -> logits [N,K], differentiable, in eval mode, for any rows of the batch (by
        `take` if it draws random numbers). Losses, shares of draws that are fooled and gradients
        are means over its draws, new ones at each step.
    noise: one random stream per image.
    facts, select: see `_facts` and `_predict`. Steps are counted over all runs.
    epsilon: radius of the ball in pixel units, a number or [N,1,1,1].
    steps: steps of each run.
    norm: of the ball, linf or l2.
    restarts: runs from different random starting points, of the images that are not fooled yet
        (in all draws).
    rho: the step size is halved where the loss rose in at most this share of the steps since the
        last check.
    returns: `fooled`, the last perturbation that fools the network, or else the one with the
        highest loss; `best`, the latter; `last`. Behind random numbers see `_iterates`.
    unfooled: what to return where no perturbation fools the network (more than half of the draws):
        what `returns` says (`best`), or 0 as in AutoAttack (`clean`).
    first: the loss that the first step has to exceed to count as a rise, `zero` as in AutoAttack's
        code, or that of the starting point (`start`). It makes no difference for losses above 0.
    drop: end an image's run when it is fooled, which leaves accuracies as they are and makes the
        perturbations weaker against other networks. Without effect behind random numbers.

An image whose gradient is not finite does not move in that step.
"""

from typing import Literal

import torch
from torch import Tensor

from advdenoise.attacks._apgd import TINY, Search, Settings
from advdenoise.attacks._ascent import cross_entropies
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._iterates import Iterates
from advdenoise.attacks._predict import Predict, competitors, refuse_masks
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.ranges import Epsilon, PositiveInt, Returns, Share


def apgd(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt = 100,
    loss: Literal["ce", "dlr", "margin"] = "ce",
    norm: Literal["linf", "l2"] = "linf",
    restarts: PositiveInt = 1,
    rho: Share = 0.75,
    returns: Returns = "fooled",
    unfooled: Literal["best", "clean"] = "best",
    first: Literal["zero", "start"] = "zero",
    drop: bool = False,
) -> Tensor:
    """APGD: ascent with momentum and a step size that halves itself (algorithm 1).

    Steps start with a length of 2 epsilon. After a decreasing number of steps each image is
    checked: its step size is halved, and its search goes on at its best point, where the loss rose
    too rarely, or where neither the step size nor the highest loss has changed since the last
    check. Checks are those of AutoAttack's code.

    Args:
        targeted: lower the loss of `labels`, the targets, instead of raising it.
        loss: `ce`, the cross-entropy; `margin`, max_{j != y} z_j - z_y; `dlr`, the margin divided
            by the difference of the largest and the third largest logit, which does not depend on
            the scale of the logits.

    Raises:
        BadInput: masks, or `dlr` with fewer than 3 classes.
    """
    refuse_masks(labels, "auto.apgd")
    losses = {"ce": cross_entropies, "dlr": _dlr, "margin": _lead}[loss]

    def raised(outputs: Tensor, rows: Tensor) -> Tensor:
        values = losses(outputs, labels[rows])
        return -values if targeted else values

    settings = Settings(steps, norm, rho, first, drop)
    iterates = Iterates(images, returns, False, facts, select)
    search = Search(images, labels, targeted, predict, noise, iterates, epsilon, settings, restarts)
    search.leave_out_misclassified(raised)
    for _ in range(restarts):
        search.run(raised, raised)
    return search.result(raised, unfooled)


def apgd_t(
    images: Tensor,
    labels: Tensor,
    predict: Predict,
    noise: Noise,
    facts: Facts | None = None,
    select: Predict | None = None,
    *,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt = 100,
    targets: PositiveInt = 9,
    loss: Literal["dlr", "margin"] = "dlr",
    norm: Literal["linf", "l2"] = "linf",
    restarts: PositiveInt = 1,
    rho: Share = 0.75,
    returns: Returns = "fooled",
    unfooled: Literal["best", "clean"] = "best",
    first: Literal["zero", "start"] = "zero",
    drop: bool = False,
) -> Tensor:
    """APGD to each of several classes in turn, for images that are not fooled yet (APGD-T).

    Targets are the classes with the largest logits of the clean image other than its label. An
    image is fooled by any class but its label. Which perturbation is the `best` is decided by the
    margin, which all targets share.

    Args:
        targets: number of classes, at most all others.
        loss: `dlr`, (z_t - z_y) divided by the difference of the largest logit and the mean of the
            third and fourth largest; `margin`, z_t - z_y, which also replaces `dlr` where there are
            fewer than 4 classes.

    Raises:
        BadInput: masks.
    """
    refuse_masks(labels, "auto.apgd_t")
    with torch.no_grad():
        classes = competitors(predict(images), labels, targets + 1)
    settings = Settings(steps, norm, rho, first, drop)
    iterates = Iterates(images, returns, False, facts, select)
    runs = restarts * classes.shape[1]
    search = Search(images, labels, False, predict, noise, iterates, epsilon, settings, runs)

    def tracked(outputs: Tensor, rows: Tensor) -> Tensor:
        return _lead(outputs, labels[rows])

    search.leave_out_misclassified(tracked)
    for goals in classes.T:

        def raised(outputs: Tensor, rows: Tensor, goals: Tensor = goals) -> Tensor:
            return _lead_of_target(outputs, labels[rows], goals[rows], loss)

        for _ in range(restarts):
            search.run(raised, tracked)
    return search.result(tracked, unfooled)


def _lead(outputs: Tensor, labels: Tensor) -> Tensor:
    """The largest other output minus the label's: [N]."""
    label = labels[:, None]
    others = outputs.scatter(1, label, -torch.inf).amax(1)
    return others - outputs.gather(1, label)[:, 0]


def _dlr(outputs: Tensor, labels: Tensor) -> Tensor:
    """The difference of logits ratio (equation 6): [N]."""
    if outputs.shape[1] < 3:
        raise BadInput(
            f"settings.loss: dlr needs at least 3 classes, but the network has {outputs.shape[1]}; "
            "write loss: margin"
        )
    largest = outputs.topk(3, 1).values
    return _lead(outputs, labels) / (largest[:, 0] - largest[:, 2] + TINY)


def _lead_of_target(outputs: Tensor, labels: Tensor, goals: Tensor, loss: str) -> Tensor:
    """The target's output minus the label's, for `dlr` with its denominator (equation 7): [N]."""
    pair = outputs.gather(1, torch.stack([goals, labels], 1))
    lead = pair[:, 0] - pair[:, 1]
    if loss == "margin" or outputs.shape[1] < 4:
        return lead
    largest = outputs.topk(4, 1).values
    return lead / (largest[:, 0] - largest[:, 2:].mean(1) + TINY)
