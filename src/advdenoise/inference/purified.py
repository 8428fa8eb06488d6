"""Classifiers behind purifiers, as adaptive attacks and evaluations see them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.outputs import finite_rows

Images = Callable[[Tensor], Tensor]
Purify = Callable[[Tensor, Noise], Tensor]


class PurifiedClassifier:
    """A classifier behind a purifier, for the images of one batch: images -> mean outputs.

    `predict` returns the outputs of images [N,C,H,W] with the noise of one draw; outputs are means
    over all of `noises`. Each image has a stream of random numbers per draw, which continues from
    call to call, so that outputs do not depend on which rows are passed together. `purify` is the
    purifier where `predict` has the identity's gradient in the place of its own.
    """

    def __init__(
        self,
        predict: Callable[[Tensor, Noise], Tensor],
        noises: Sequence[Noise],
        purify: Purify | None = None,
    ):
        self._predict, self._noises, self._purify = predict, noises, purify

    def __call__(self, images: Tensor) -> Tensor:
        outputs = [self._predict(images, noise) for noise in self._noises]
        mean = sum(outputs) / len(outputs)
        if len(outputs) == 1 or bool(mean.isfinite().all()):
            return mean
        # Where a draw leaves no finite output the mean is that of the others, NaN where none does.
        finite = [finite_rows(draw).view(-1, *[1] * (draw.ndim - 1)) for draw in outputs]
        pairs = zip(outputs, finite, strict=True)
        return sum(draw.where(is_finite, 0) for draw, is_finite in pairs) / sum(finite)

    def take(self, rows: Tensor) -> "PurifiedClassifier":
        """The same for some rows of the batch, with the same streams."""
        noises = [noise.take(rows) for noise in self._noises]
        return PurifiedClassifier(self._predict, noises, self._purify)

    @property
    def per_draw(self) -> list["PurifiedClassifier"]:
        """A classifier for each draw."""
        return [PurifiedClassifier(self._predict, [noise], self._purify) for noise in self._noises]

    def copy(self) -> "PurifiedClassifier":
        """The same, with streams that go on from here apart from these."""
        noises = [noise.copy() for noise in self._noises]
        return PurifiedClassifier(self._predict, noises, self._purify)

    def pull_back(self, images: Tensor, gradient: Tensor) -> Tensor:
        """From the gradient in the purified images of one draw to that in `images`.

        It is `gradient` where the purifier's gradient is already part of it. Raises BadInput for a
        purifier without a gradient.
        """
        if self._purify is None:
            return gradient
        (noise,) = self._noises
        with torch.enable_grad():
            inputs = images.detach().requires_grad_()
            purified = self._purify(inputs, noise)
            if not purified.requires_grad:
                raise BadInput(
                    "settings.graft: the purifier gives no gradient with regard to its images; "
                    "write `graft: false`"
                )
            return torch.autograd.grad(purified, inputs, gradient)[0]


def purified_classifier(
    purify: Purify,
    predict: Images,
    through: str,
    stand_in: Purify | None,
    *noises: Noise,
    forward: str = "stand_in",
    restart: bool = False,
) -> Images:
    """`predict` behind a purifier, with the gradient of an adaptive attack.

    Args:
        purify: images [N,C,H,W] in [0,1] and noise -> purified images.
        predict: images -> outputs.
        through: `full` differentiates the purifier; `identity` replaces its gradient by the
            identity (BPDA, Athalye et al. 2018); any other, such as `denoiser` (counter attack A),
            replaces the purifier by `stand_in`.
        stand_in: as `purify`; None where there is none.
        noises: the purifier's, one for each draw (expectation over transformation).
        forward: `stand_in`, or `purifier`, which has the stand-in's gradient alone:
            A(x) + stop(purify(x) - A(x)) for the stand-in A.
        restart: let each call begin with the first random numbers of `noises`.

    Raises:
        BadInput: there is no stand-in to replace the purifier by.
    """

    def full(images: Tensor, noise: Noise) -> Tensor:
        return predict(purify(images, noise))

    def identity(images: Tensor, noise: Noise) -> Tensor:
        with torch.no_grad():
            purified = purify(images, noise)
        return predict(images + (purified - images).detach())

    def replaced(images: Tensor, noise: Noise) -> Tensor:
        assert stand_in is not None
        result = stand_in(images, noise)
        if forward == "purifier":
            with torch.no_grad():
                gap = purify(images, noise) - result
            result = result + gap
        return predict(result)

    defended = {"full": full, "identity": identity}.get(through, replaced)
    if defended is replaced and stand_in is None:
        raise BadInput("through: the purifier uses no denoiser; write `through: full`")
    skipped = purify if defended is identity else None
    if not restart:
        return PurifiedClassifier(defended, noises, skipped)

    def from_start(function: Purify) -> Purify:
        return lambda images, noise: function(images, noise.restarted())

    return PurifiedClassifier(
        from_start(defended), noises, from_start(skipped) if skipped else None
    )


def probabilities(predict: Images) -> Images:
    """Softmax outputs in the place of logits."""
    return lambda images: predict(images).softmax(1)


def in_bfloat16(predict: Images) -> Images:
    """The network with passes in bfloat16 where autocast has them; outputs in float32."""

    def passed(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            outputs = predict(images)
        return outputs.float()

    return passed


def check_frozen(*networks: nn.Module | None) -> None:
    """Raises RuntimeError for a network in training mode or with weights that require gradients."""
    for network in filter(None, networks):
        if any(module.training for module in network.modules()):
            raise RuntimeError("a network under attack is in training mode")
        if any(weight.requires_grad for weight in network.parameters()):
            raise RuntimeError("a network under attack has weights that require gradients")
