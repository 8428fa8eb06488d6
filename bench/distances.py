"""The distances stage against the bare forward passes that it needs, and its memory.

    python -m bench.distances [--images 128] [--batch 32] [--rounds 3] [--threads 1]
                              [--classifiers resnet18 densenet201 cnn26]

from the repository's root. Networks with fresh weights look at photographs of 32x32: a CIFAR
ResNet-18, tapped after its stem, each stage and at the logits; DenseNet-201 at 128 pixels, tapped
as in Yoon et al. 2019; and the 26-layer CNN, tapped after each convolution's
norm, its pools and at the logits, the extreme: many elements to compare beside the least
arithmetic. They meet three sets of random noise, which cost nothing to make, without and with a
narrow RED-Net.

The job's whole work (`run`: it opens files, loads networks, passes, compares, writes) takes turns
with bare passes on tensors in memory, as the job has them (eval mode, channels-last, equal
batches): of the clean images, of those with noise, and of what the denoiser makes of either, its
own passes among them. An image is counted once for each pass of the classifier.

Printed, medians over the rounds: passes a second of both ways in wall time, the ratio of the job's
seconds to those of the bare passes in wall and in CPU time, and what the job holds at most for a
quarter of the images and for all (Linux only), in runs that are not timed.
"""

import argparse
import functools
import os
import statistics
import tempfile
from pathlib import Path

from bench._clock import as_in_jobs, seconds

CONFIGURATION = """
scale: bench
seeds: [0]
batch: {batch}
datasets: {{patches: {{function: embedded.patches, settings: {{train: {crops}, test: 1}}}}}}
classifiers:
  resnet18: {{function: resnet.cifar_resnet18, training: &fresh
    {{function: plain.classify, epochs: 0, batch: 64, optimiser: {{name: adam, lr: 0.001}}}}}}
  densenet201:
    {{function: zoo.timm_model, settings: {{model: densenet201, size: 128}}, training: *fresh}}
  cnn26: {{function: convnets.elu_cnn, training: *fresh}}
attacks:
  noise:
    points:
      weak: {{function: noise.uniform, settings: {{epsilon: 2/255}}}}
      medium: {{function: noise.uniform, settings: {{epsilon: 4/255}}}}
      strong: {{function: noise.uniform, settings: {{epsilon: 8/255}}}}
denoisers:
  red:
    function: autoencoders.red_net
    settings: {{layers: 4, width: 16}}
    trained_on: [{{threat: clean, share: 1}}]
    training:
      {{function: plain.reconstruct, epochs: 0, batch: 64, optimiser: {{name: adam, lr: 0.001}}}}
purifiers: {{direct: {{function: basic.direct, denoiser: red}}}}
suites: {{met: {{threats: [clean, noise], purifiers: [none, direct]}}}}
distances:
  images: {images}
  taps:
    resnet18: [layers.conv1, layers.layer1, layers.layer2, layers.layer3, layers.layer4,
      layers.linear]
    densenet201: [layers.features.denseblock1, layers.features.transition1,
      layers.features.denseblock2, layers.features.transition2, layers.features.denseblock3,
      layers.features.transition3, layers.features.norm5, layers.classifier]
    cnn26: [layers.2, layers.5, layers.6, layers.10, layers.13, layers.14, layers.18, layers.21,
      layers.22, layers.25]
experiments: {{}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="The distances stage against bare passes.")
    parser.add_argument("--images", type=int, default=128)
    # A quarter of the images is to fill one, so that both peaks are of whole batches.
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--classifiers", nargs="+", default=["resnet18", "densenet201", "cnn26"])
    options = parser.parse_args()
    # Spinning threads would charge their waiting to the CPU time.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    as_in_jobs()

    import torch

    torch.set_num_threads(options.threads)
    head = ("classifier", "bare passes/s", "the job's", "wall", "CPU", "MB, a quarter", "MB, all")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with tempfile.TemporaryDirectory() as folder:
        made = Files(Path(folder), options)
        for name in options.classifiers:
            print(f"| {name} | {compare(made, name, options)} |", flush=True)


class Files:
    """What the stages before the distances give, made once."""

    def __init__(self, root: Path, options):
        import yaml

        from advdenoise.graph import configuration
        from advdenoise.graph.flow import Flow

        images, crops = options.images, -(-options.images // 8)
        text = CONFIGURATION.format(batch=options.batch, images=images, crops=crops)
        self.flow = Flow(configuration.read(yaml.safe_load(text)))
        self._root = root

    def options(self, rule: str, **names) -> dict:
        """A job's settings and inputs; these are made where they are absent."""
        job = self.flow.job(rule, names)
        return {"settings": job.settings} | {k: self._made(v) for k, v in job.inputs.items()}

    def _made(self, files):
        from advdenoise.stages import attack, images, training

        if isinstance(files, list):
            return [self._made(file) for file in files]
        path = self._root / files
        if path.exists():
            return path
        place, name = {"seed": "0", "dataset": "patches"}, path.stem
        resume = {"code": "", "resume": self._root / "resume"}
        weights = {"weights": path, "history": path.with_suffix(".parquet"), **resume}
        if "images" in path.parts:
            options = self.options("images", dataset="patches", split=name)
            images.run(**options, output=path)
        elif "classifiers" in path.parts:
            options = self.options("train_classifier", **place, classifier=name)
            training.train_classifier(**options, **weights)
        elif "denoisers" in path.parts:
            options = self.options("train_denoiser", **place, denoiser=name)
            training.train_denoiser(**options, **weights)
        else:
            options = self.options("attack", **place, threat=path.parent.name, split=name)
            attack.run(**options, output=path, **resume)
        return path


def compare(made: Files, classifier: str, options) -> str:
    from advdenoise.stages import distances
    from advdenoise.stages.memory import peak_bytes
    from advdenoise.stages.models import device

    place = {"seed": "0", "dataset": "patches", "suite": "met", "split": "train"}
    given = made.options("distances", **place, classifier=classifier)
    with tempfile.TemporaryDirectory() as folder:
        given["output"] = Path(folder) / "distances.parquet"
        job = functools.partial(distances.run, **given)
        bare = Bare(given)
        rounds = [(seconds(bare), seconds(job)) for _ in range(options.rounds + 1)][1:]
        peaks = []
        for images in (options.images // 4, options.images):
            few = given | {"settings": given["settings"] | {"images": images}}
            peaks.append(peak_bytes(functools.partial(distances.run, **few), device()))
    rates = [
        bare.passes / statistics.median(way[0] for way in ways)
        for ways in zip(*rounds, strict=True)
    ]
    ratios = [statistics.median(job[i] / bare[i] for bare, job in rounds) for i in (0, 1)]
    cells = [f"{rate:.0f}" for rate in rates] + [f"{ratio:.2f}" for ratio in ratios]
    return " | ".join(cells + ["" if peak is None else f"{peak / 1e6:.0f}" for peak in peaks])


class Bare:
    """The passes of a job on tensors in memory."""

    def __init__(self, given: dict):
        from advdenoise.stages import models
        from advdenoise.stages.data import open_images
        from advdenoise.stages.threats import open_threats

        settings, device = given["settings"], models.device()
        with (
            open_images(given["images"]) as clean,
            open_threats(["clean", *settings["threats"]], given["adversarial"], clean) as threats,
        ):
            self._network = models.load_frozen(
                "classifiers", given["classifier"], settings["classifier"], clean
            )
            (entry,) = (p["denoiser_entry"] for p in settings["purifiers"] if "denoiser" in p)
            self._denoise = models.load_frozen("denoisers", *given["denoiser"], entry, clean)
            self._seen = []
            for batch in clean.batches(settings["batch"], device, settings["images"]):
                self._seen += [threat.images for threat in threats.iter_batches(batch)]
        self.passes = 2 * sum(map(len, self._seen))

    def __call__(self) -> None:
        import torch

        with torch.no_grad():
            for seen in self._seen:
                self._network(seen)
                self._network(self._denoise(seen).clamp(0, 1))


if __name__ == "__main__":
    main()
