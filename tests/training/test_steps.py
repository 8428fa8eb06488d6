import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.noise import Noise
from advdenoise.training import adversarial, plain
from advdenoise.training._augment import augment
from advdenoise.training._steps import correct_share, frozen

BUDGET = {"epsilon": 0.1, "alpha": 0.04, "steps": 4}


class Recorder(nn.Module):
    """A classifier that records its mode, whether its weights require gradients, and its inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
        self.head = nn.Linear(4 * 36, 3)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.calls = []

    def forward(self, images):
        self.calls.append((self.training, self.head.weight.requires_grad, images.detach().clone()))
        return self.head(self.layers(images)) * self.frozen


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 1, 8, 8, generator=generator)
    return images, torch.arange(6) % 3


def noise() -> Noise:
    return Noise(0, range(6), "step")


def test_attack_in_eval_mode_and_update_in_train_mode(batch):
    model = Recorder().train()
    loss, metrics = adversarial.pgd(model, *batch, noise(), 0, **BUDGET)
    *attack, update = model.calls
    assert [call[:2] for call in attack] == [(False, False)] * BUDGET["steps"]
    assert update[:2] == (True, True)
    assert model.training and all(module.training for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert not model.frozen.requires_grad
    assert 0 <= metrics["accuracy"] <= 1


def test_running_statistics_are_updated_once(batch):
    model = Recorder().train()
    adversarial.pgd(model, *batch, noise(), 0, **BUDGET)
    assert model.layers[1].num_batches_tracked == 1


def test_adversarial_images_are_inside_the_ball_and_increase_the_loss(batch):
    images, labels = batch
    model = Recorder().train()
    adversarial.pgd(model, images, labels, noise(), 0, **BUDGET)
    attacked = model.calls[-1][2]
    assert (attacked - images).abs().max() <= BUDGET["epsilon"] + 1e-6
    assert attacked.min() >= 0 and attacked.max() <= 1
    model.eval()
    loss = functional.cross_entropy(model(images), labels)
    assert functional.cross_entropy(model(attacked), labels) > loss + 0.05


def test_a_random_start_is_optional(batch):
    images, labels = batch
    with_start, without = Recorder().eval(), Recorder().eval()
    adversarial.pgd(with_start, images, labels, noise(), 0, **BUDGET)
    adversarial.pgd(without, images, labels, noise(), 0, **BUDGET, random_start=False)
    assert torch.equal(without.calls[0][2], images)
    assert not torch.equal(with_start.calls[0][2], images)


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.25), (1, 0.5), (3, 1), (9, 1)])
def test_the_budget_grows_over_the_warmup(batch, monkeypatch, epoch, share):
    budgets = []
    pgd = adversarial.gradient.pgd

    def recorded(*inputs, **budget):
        budgets.append(budget)
        return pgd(*inputs, **budget)

    monkeypatch.setattr(adversarial.gradient, "pgd", recorded)
    model = Recorder().train()
    adversarial.pgd(model, *batch, noise(), epoch, **BUDGET, warmup=4)
    assert budgets == [{"epsilon": 0.1 * share, "alpha": 0.04 * share, "steps": 4}]
    assert (model.calls[-1][2] - batch[0]).abs().max() <= 0.1 * share + 1e-6
    adversarial.pgd(model, *batch, noise(), epoch, **BUDGET)
    assert budgets[1] == BUDGET


def test_held_out_images_are_attacked_without_gradient_and_not_augmented(batch):
    model = Recorder().eval()
    with torch.no_grad():
        loss, _ = adversarial.pgd(model, *batch, noise(), 0, **BUDGET, crop=4, flip=True)
    assert not model.training and not loss.requires_grad
    assert len(model.calls) == BUDGET["steps"] + 1
    assert (model.calls[-1][2] - batch[0]).abs().max() <= BUDGET["epsilon"] + 1e-6


def test_modes_and_gradients_are_restored():
    model = Recorder().train()
    model.layers[1].eval()
    with frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
        assert not any(module.training for module in model.modules())
    assert model.training
    assert not model.layers[1].training
    assert model.head.weight.requires_grad
    assert not model.frozen.requires_grad


def test_classify_augments_in_train_mode_only(batch):
    images, labels = batch
    model = Recorder().train()
    plain.classify(model, images, labels, noise(), shift=0.2, flip=True)
    assert torch.equal(model.calls[0][2], augment(images, noise(), shift=0.2, flip=True))
    model.eval()
    loss, metrics = plain.classify(model, images, labels, noise(), shift=0.2, flip=True)
    assert torch.equal(model.calls[1][2], images)
    assert loss == functional.cross_entropy(model(images), labels)
    expected = (model(images).argmax(1) == labels).float().mean()
    assert metrics["accuracy"] == expected


def test_reconstruct_is_the_mean_squared_error(batch):
    images, _ = batch
    loss, metrics = plain.reconstruct(nn.Identity(), images, images + 0.5)
    assert loss.item() == pytest.approx(0.25) and metrics["mse"] == loss


def test_the_loss_of_masks_is_the_mean_over_labelled_pixels():
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 2, 2, generator=generator)
    masks = torch.tensor([[[0, 255], [2, 1]], [[255, 255], [255, 0]]])
    loss, metrics = segment(logits, masks)
    losses = [
        -logits[n, :, y, x].log_softmax(0)[masks[n, y, x]]
        for n in range(2)
        for y in range(2)
        for x in range(2)
        if masks[n, y, x] != 255
    ]
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item())
    right = logits.argmax(1) == masks
    shares = [right[0][masks[0] != 255].float().mean(), right[1, 1, 1].float()]
    assert torch.allclose(correct_share(logits, masks), torch.stack(shares))
    assert metrics["accuracy"].item() == pytest.approx(sum(map(float, shares)) / 2)


class Constant(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits


def segment(logits, masks):
    return plain.segment(Constant(logits).eval(), torch.zeros(2, 3, 2, 2), masks, None)


def test_masks_without_labelled_pixels_give_no_gradient():
    logits = torch.randn(2, 3, 2, 2, requires_grad=True)
    loss, metrics = segment(logits, torch.full((2, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0 and metrics["accuracy"] == 0 and not logits.grad.any()


def test_segment_augments_in_train_mode_only():
    masks = torch.randint(0, 3, (6, 33, 33))
    recorded = []

    class Segmenter(nn.Module):
        def forward(self, images):
            recorded.append(images)
            return torch.zeros(len(images), 3, *images.shape[2:])

    images = (masks / 2)[:, None].expand(-1, 3, -1, -1)
    for model in (Segmenter().train(), Segmenter().eval()):
        plain.segment(model, images, masks, noise(), flip=True, scale=[0.5, 2.0])
    assert not torch.equal(recorded[0], images) and torch.equal(recorded[1], images)
