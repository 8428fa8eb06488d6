"""Our attacks compared with foolbox, torchattacks, ART and pyautoattack.

    python -m bench.attacks [--networks elu_cnn lenet] [--attacks fgsm bim] [--images 128]
                            [--rounds 9] [--pgd-steps 40] [--search-steps 20] [--queries 300]
                            [--fab-steps 20] [--apgd-steps 20] [--threads 2]
                            [--output FILE.md]

from the repository's root, in the benchmark environment. Each library runs in its own process, on
the same images with the same settings. The processes take turns (A B C D A B C D ...), so that a
change of the machine's load affects all of them. Networks are trained briefly first, on CIFAR-10
in the folder ADVDENOISE_DATA, or on the embedded patches if that is not set.

All libraries get the same fast setup: frozen weights, eval mode, channels_last, labels, no success
check after the attack, the same number of threads. `ours` attacks the network rewritten for
inference, `unfolded` the same network as the other libraries, and `counted` as `ours` with the
counting of passes and the facts of jobs. `bare` are as many forward and input-backward passes of
the rewritten network as the attack has steps.

DeepFool (l2 and linf) and C&W (l2, 9 searches of --search-steps) are compared only with foolbox, on
the first quarter of the images and in a third of the rounds: torchattacks and ART attack images one
by one or search differently. `loaded` is foolbox with the network as loaded from its file, with
weights that require gradients and in NCHW. `stopping` is the same with foolbox's default, to stop a
search that stalls, while all others take all steps. For C&W, `bare` are the passes of the
correctly classified images.

APGD is one run of --apgd-steps steps on the cross-entropy. pyautoattack and torchattacks take one
gradient more, torchattacks attacks misclassified images too; `bare` are the passes of the correctly
classified images, with a forward pass of all of them before and after.

FAB is one run of --fab-steps steps towards the class of the second largest output, as a targeted
run of pyautoattack and torchattacks; `bare` are two forward and one input-backward pass a step.

Printed for each attack, medians over the rounds: images/s of wall time, CPU seconds, CPU time as a
multiple of ours in the same round, the largest memory of a round above that before it (MB, on Linux
alone), success rate over correctly classified images, mean L2 and Linf of the perturbation.
foolbox's MI-FGSM accumulates signs instead of L1-normalised gradients, so that its norms differ.
"""

import argparse
import contextlib
import copy
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

EPSILON, ALPHA = 8 / 255, 2 / 255
LONG = ("deepfool_l2", "deepfool_linf", "cw", "square", "fab")
ATTACKS = ("fgsm", "bim", "pgd", "mi_fgsm", "apgd", *LONG)
SEARCHES = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--attacks", nargs="+", default=ATTACKS, choices=ATTACKS)
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=LIBRARIES)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pgd-steps", type=int, default=40)
    parser.add_argument("--search-steps", type=int, default=20)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--fab-steps", type=int, default=20)
    parser.add_argument("--apgd-steps", type=int, default=20)
    parser.add_argument("--training-steps", type=int, default=450)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, help="Markdown file to write the table to")
    options = parser.parse_args()
    # The waiting of spinning threads would count as CPU time.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder) / "networks.pt"
        run_in_process(prepare, path, options)
        workers = {name: Worker(name, path, options) for name in options.libraries}
        for worker in workers.values():
            stack.callback(worker.stop)
        text = "\n".join(report(workers, options))
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")


def run_in_process(function, *arguments) -> None:
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


class Worker:
    """One library in its own process."""

    def __init__(self, library: str, path: Path, options: argparse.Namespace):
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, library, path, options))
        self._process.start()
        other.close()
        self.attacks = self._pipe.recv()

    def attack(self, network: str, attack: str) -> dict:
        self._pipe.send((network, attack))
        return self._pipe.recv()

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join()


def serve(pipe, library: str, path: Path, options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(options.threads)
    saved = torch.load(path, weights_only=True)
    images = saved["images"].contiguous(memory_format=torch.channels_last)
    labels = saved["labels"]
    models, attacks = {}, {}
    for name in options.networks:
        model = build(name, saved["classes"], saved[name])
        models[name] = model
        attacks[name] = LIBRARIES[library](model, images, labels, options)
    pipe.send({name: list(functions) for name, functions in attacks.items()})
    while (task := pipe.recv()) is not None:
        network, attack = task
        before = reset_peak_memory()
        wall, cpu = time.perf_counter(), time.process_time()
        adversarial = attacks[network][attack]()
        costs = {
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - wall,
            "memory": memory("VmHWM") - before,
        }
        pipe.send(costs | measure(models[network], images, labels, adversarial))


def reset_peak_memory() -> float:
    """Let the peak of this process begin anew; return its memory in MB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(field: str) -> float:
    """A field of this process's status in MB; NaN where the system has no such file."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    return float("nan")


def measure(model, images, labels, adversarial) -> dict:
    import torch

    count = len(adversarial)
    images, labels = images[:count], labels[:count]
    with torch.no_grad():
        correct = model(images).argmax(1) == labels
        misclassified = model(adversarial).argmax(1) != labels
    change = (adversarial - images).flatten(1)
    return {
        "images": count,
        "accuracy": correct.float().mean().item(),
        "success": misclassified[correct].float().mean().item(),
        "l2": change.norm(2, 1).mean().item(),
        "linf": change.norm(float("inf"), 1).mean().item(),
    }


def report(workers: dict[str, Worker], options: argparse.Namespace):
    """Print the lines of the table as they are measured, and yield them."""
    columns = "network,attack,library,images/s,CPU s,CPU / ours,MB,success %,mean L2,mean Linf"
    head = columns.split(",")
    yield show(head)
    yield show(["---"] * len(head))
    for network in options.networks:
        for attack in options.attacks:
            count = max(1, options.rounds // 3) if attack in LONG else options.rounds
            rounds = [run_round(workers, network, attack) for _ in range(count + 1)]
            for library in rounds[0]:
                # The first round warms up; it alone takes memory that later ones take again.
                peak = max(by_library[library]["memory"] for by_library in rounds)
                yield show(row(network, attack, library, rounds[1:], peak))


def run_round(workers: dict[str, Worker], network: str, attack: str) -> dict[str, dict]:
    return {
        name: worker.attack(network, attack)
        for name, worker in workers.items()
        if attack in worker.attacks[network]
    }


def row(network: str, attack: str, library: str, rounds: list[dict], peak: float) -> list[str]:
    results = [by_library[library] for by_library in rounds]
    reference = "ours" if "ours" in rounds[0] else library
    ratios = [by_library[library]["cpu"] / by_library[reference]["cpu"] for by_library in rounds]
    rate = results[0]["images"] / statistics.median(result["wall"] for result in results)
    cpu = statistics.median(result["cpu"] for result in results)
    cells = [f"{rate:.1f}", f"{cpu:.3f}", f"{statistics.median(ratios):.3f}", f"{peak:.0f}"]
    if library != "bare":
        last = results[-1]
        cells += [f"{100 * last['success']:.2f}", f"{last['l2']:.4f}", f"{last['linf']:.5f}"]
    return [network, attack, library, *cells]


def show(cells: list[str]) -> str:
    line = "| " + " | ".join(cells) + " |"
    print(line, flush=True)
    return line


def prepare(path: Path, options: argparse.Namespace) -> None:
    """Train the networks briefly and save them with the images to attack."""
    import torch

    from advdenoise.inference.elu import use_fast_elu

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    source = read_source()
    count = len(source.train_labels)
    test = torch.randperm(len(source.test_labels))[: options.images].numpy() + count
    saved = {
        "classes": len(source.classes),
        "images": as_pixels(source.read(test)),
        "labels": torch.from_numpy(source.labels(test)),
    }
    for name in options.networks:
        model = NETWORKS[name](saved["classes"]).to(memory_format=torch.channels_last).train()
        train(use_fast_elu(model), source, options.training_steps)
        saved[name] = model.state_dict()
        with torch.no_grad():
            predictions = model.eval()(saved["images"]).argmax(1)
        accuracy = (predictions == saved["labels"]).float().mean()
        print(f"{name}: {100 * accuracy:.1f} % of {len(test)} images correct", flush=True)
    torch.save(saved, path)


def read_source():
    if root := os.environ.get("ADVDENOISE_DATA"):
        from advdenoise.datasets.archives import cifar10

        return cifar10(Path(root))
    from advdenoise.datasets.embedded import patches

    return patches()


def as_pixels(images):
    import torch

    return torch.from_numpy(images).float().div_(255)


def train(model, source, steps: int) -> None:
    import torch

    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        ids = torch.randint(len(source.train_labels), (64,)).numpy()
        logits = model(as_pixels(source.read(ids)))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(source.labels(ids)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def build(name: str, classes: int, weights: dict):
    import torch

    model = NETWORKS[name](classes)
    model.load_state_dict(weights)
    model.eval().requires_grad_(False)
    return model.to(memory_format=torch.channels_last)


def elu_cnn(classes: int):
    from advdenoise.classifiers.convnets import elu_cnn

    return elu_cnn((3, 32, 32), classes)


def lenet(classes: int):
    from advdenoise.classifiers.convnets import lenet

    return lenet((3, 32, 32), classes)


def resnet18(classes: int):
    from advdenoise.classifiers.resnet import cifar_resnet18

    return cifar_resnet18((3, 32, 32), classes, width=16)


NETWORKS = {"elu_cnn": elu_cnn, "lenet": lenet, "resnet18": resnet18}


def first_quarter(images, labels):
    """The images for slow attacks."""
    count = max(1, len(images) // 4)
    return images[:count], labels[:count]


def ours(model, images, labels, options) -> dict:
    from advdenoise.inference.fold import fold

    return unfolded(fold(model), images, labels, options)


def unfolded(model, images, labels, options) -> dict:
    from advdenoise.attacks import auto, blackbox, gradient, minimal
    from advdenoise.noise import Noise

    inputs = {"images": images, "labels": labels, "targeted": False, "predict": model}
    size = {"epsilon": EPSILON, "alpha": ALPHA}
    first, first_labels = first_quarter(images, labels)

    def pgd():
        noise = Noise(0, range(len(images)), "bench")
        return images + gradient.pgd(**inputs, noise=noise, **size, steps=options.pgd_steps)

    def apgd():
        noise = Noise(0, range(len(images)), "bench")
        size = {"epsilon": EPSILON, "steps": options.apgd_steps}
        return images + auto.apgd(**inputs, noise=noise, **size)

    def cw():
        # Images on which no step succeeds turn black, as in foolbox.
        search = {"binary_search_steps": SEARCHES, "steps": options.search_steps, "fill": 0.0}
        return first + minimal.carlini_wagner(first, first_labels, False, model, **search)

    def square():
        noise = Noise(0, range(len(first)), "bench")
        size = {"epsilon": EPSILON, "queries": options.queries}
        return first + blackbox.square(first, first_labels, False, model, noise, **size)

    def fab():
        noise = Noise(0, range(len(images)), "bench")
        settings = {"targets": 1, "steps": options.fab_steps}
        return images + minimal.fab_t(images, labels, model, noise, **settings)

    return {
        "fab": fab,
        "fgsm": lambda: images + gradient.fgsm(**inputs, epsilon=EPSILON),
        "bim": lambda: images + gradient.bim(**inputs, **size, steps=10),
        "pgd": pgd,
        "mi_fgsm": lambda: images + gradient.mi_fgsm(**inputs, **size, steps=10),
        "deepfool_l2": lambda: first + minimal.deepfool(first, first_labels, model, norm="l2"),
        "deepfool_linf": lambda: first + minimal.deepfool(first, first_labels, model, norm="linf"),
        "apgd": apgd,
        "cw": cw,
        "square": square,
    }


def counted(model, images, labels, options) -> dict:
    from advdenoise.attacks import auto, gradient
    from advdenoise.attacks._facts import Facts
    from advdenoise.inference.fold import fold
    from advdenoise.noise import Noise
    from advdenoise.stages.gradients import GradientMonitor, Passes

    network, count = fold(model), len(images)

    def run(function, *noise, **settings):
        predict = GradientMonitor(network, Passes(count))
        settings |= {"epsilon": EPSILON, "facts": Facts(count)}
        return images + function(images, labels, False, predict, *noise, **settings)

    def noise():
        return Noise(0, range(count), "bench")

    size, pgd_size = {"alpha": ALPHA, "steps": 10}, {"alpha": ALPHA, "steps": options.pgd_steps}
    return {
        "bim": lambda: run(gradient.bim, **size),
        "pgd": lambda: run(gradient.pgd, noise(), **pgd_size),
        "mi_fgsm": lambda: run(gradient.mi_fgsm, **size),
        "apgd": lambda: run(auto.apgd, noise(), steps=options.apgd_steps),
    }


def bare(model, images, labels, options) -> dict:
    import torch
    from torch.nn import functional

    from advdenoise.inference.fold import fold

    network = fold(model)

    def passes(images, labels, count: int):
        for _ in range(count):
            leaf = images.detach().requires_grad_()
            loss = functional.cross_entropy(network(leaf), labels, reduction="sum")
            torch.autograd.grad(loss, leaf)
        return images

    first, first_labels = first_quarter(images, labels)
    with torch.no_grad():
        correct = network(first).argmax(1) == first_labels

    def forward_passes():
        with torch.no_grad():
            for _ in range(options.queries):
                network(first[correct])
        return images

    def fab():
        with torch.no_grad():
            rows = network(images).argmax(1) == labels
            for _ in range(options.fab_steps):
                network(images[rows])
        passes(images[rows], labels[rows], options.fab_steps)
        return images

    def apgd():
        with torch.no_grad():
            rows = network(images).argmax(1) == labels
            network(images[rows])
        passes(images[rows], labels[rows], options.apgd_steps)
        return images

    counts = {"fgsm": 1, "bim": 10, "pgd": options.pgd_steps, "mi_fgsm": 10}
    search_steps = SEARCHES * options.search_steps
    return {
        name: lambda count=count: passes(images, labels, count) for name, count in counts.items()
    } | {
        "cw": lambda: passes(first[correct], first_labels[correct], search_steps),
        "square": forward_passes,
        "fab": fab,
        "apgd": apgd,
    }


def foolbox(model, images, labels, options) -> dict:
    from foolbox import PyTorchModel, attacks
    from foolbox.criteria import Misclassification

    wrapped, criterion = PyTorchModel(model, bounds=(0, 1)), Misclassification(labels)
    size = {"abs_stepsize": ALPHA, "random_start": False}
    linf = {
        "fgsm": attacks.LinfFastGradientAttack(),
        "bim": attacks.LinfBasicIterativeAttack(**size, steps=10),
        "pgd": attacks.LinfProjectedGradientDescentAttack(
            abs_stepsize=ALPHA, steps=options.pgd_steps
        ),
        "mi_fgsm": attacks.LinfMomentumIterativeFastGradientMethod(**size, steps=10),
    }
    first, first_labels = first_quarter(images, labels)
    minimal = {
        "deepfool_l2": attacks.L2DeepFoolAttack(),
        "deepfool_linf": attacks.LinfDeepFoolAttack(),
        "cw": attacks.L2CarliniWagnerAttack(SEARCHES, options.search_steps, abort_early=False),
    }
    return {
        name: lambda attack=attack: attack.run(wrapped, images, criterion, epsilon=EPSILON)
        for name, attack in linf.items()
    } | {
        name: lambda attack=attack: attack.run(wrapped, first, Misclassification(first_labels))
        for name, attack in minimal.items()
    }


def loaded(model, images, labels, options) -> dict:
    return foolbox(from_file(model), images.contiguous(), labels, options)


def stopping(model, images, labels, options) -> dict:
    from foolbox import PyTorchModel, attacks
    from foolbox.criteria import Misclassification

    first, first_labels = first_quarter(images.contiguous(), labels)
    wrapped = PyTorchModel(from_file(model), bounds=(0, 1))
    attack = attacks.L2CarliniWagnerAttack(SEARCHES, options.search_steps)
    return {"cw": lambda: attack.run(wrapped, first, Misclassification(first_labels))}


def from_file(model):
    """The network as loaded from its file: weights that require gradients, NCHW."""
    import torch

    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    return model.requires_grad_(True)


def torchattacks(model, images, labels, options) -> dict:
    import torch
    from torchattacks import APGD, BIM, FAB, FGSM, MIFGSM, PGD, Square

    linf = {
        "fgsm": FGSM(model, eps=EPSILON),
        "bim": BIM(model, eps=EPSILON, alpha=ALPHA, steps=10),
        "pgd": PGD(model, eps=EPSILON, alpha=ALPHA, steps=options.pgd_steps, random_start=True),
        "mi_fgsm": MIFGSM(model, eps=EPSILON, alpha=ALPHA, steps=10, decay=1.0),
        "apgd": APGD(model, eps=EPSILON, steps=options.apgd_steps),
    }
    first, first_labels = first_quarter(images, labels)
    square = Square(model, eps=EPSILON, n_queries=options.queries, seed=0)
    # Its views of gradients fail in channels_last.
    network = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    fab = FAB(network, eps=EPSILON, steps=options.fab_steps, multi_targeted=True)
    fab.target_class = 2
    return {name: lambda attack=attack: attack(images, labels) for name, attack in linf.items()} | {
        "square": lambda: square(first, first_labels),
        "fab": lambda: fab.attack_single_run_targeted(images.contiguous(), labels),
    }


def pyautoattack(model, images, labels, options) -> dict:
    from pyautoattack.autopgd_base import APGDAttack
    from pyautoattack.fab_pt import FABAttack_PT

    size = {"n_iter": options.apgd_steps, "eps": EPSILON, "norm": "Linf", "n_restarts": 1}
    apgd = APGDAttack(model, loss="ce", seed=0, device="cpu", **size)
    fab = FABAttack_PT(model, n_iter=options.fab_steps, eps=EPSILON, targeted=True, device="cpu")
    fab.target_class = 2
    return {
        "apgd": lambda: apgd.perturb(images, labels).detach(),
        "fab": lambda: fab.attack_single_run(images, labels, is_targeted=True),
    }


def art(model, images, labels, options) -> dict:
    import torch
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    classes = model(images[:1]).shape[1]
    classifier = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=classes,
        clip_values=(0, 1),
        device_type="cpu",
    )
    size = {"eps": EPSILON, "batch_size": len(images)}
    iterative = size | {"eps_step": ALPHA, "verbose": False}
    linf = {
        "fgsm": evasion.FastGradientMethod(classifier, **size),
        "bim": evasion.BasicIterativeMethod(classifier, **iterative, max_iter=10),
        "pgd": evasion.ProjectedGradientDescent(
            classifier, **iterative, max_iter=options.pgd_steps, num_random_init=1
        ),
        "mi_fgsm": evasion.MomentumIterativeMethod(classifier, **iterative, max_iter=10),
    }
    pixels, targets = images.contiguous().numpy(), labels.numpy()
    first, first_labels = (part.contiguous().numpy() for part in first_quarter(images, labels))
    square = evasion.SquareAttack(
        classifier, eps=EPSILON, max_iter=options.queries, batch_size=len(first), verbose=False
    )
    return {
        name: lambda attack=attack: torch.from_numpy(attack.generate(pixels, targets))
        for name, attack in linf.items()
    } | {"square": lambda: torch.from_numpy(square.generate(first, first_labels))}


LIBRARIES = {
    "ours": ours,
    "unfolded": unfolded,
    "counted": counted,
    "bare": bare,
    "foolbox": foolbox,
    "loaded": loaded,
    "stopping": stopping,
    "torchattacks": torchattacks,
    "art": art,
    "pyautoattack": pyautoattack,
}

if __name__ == "__main__":
    main()
