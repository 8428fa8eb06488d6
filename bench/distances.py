"""The distances stage compared with the bare forward passes that it needs, and its memory.

    python -m bench.distances [--images 128] [--batch 32] [--rounds 3] [--threads 1]
                              [--classifiers resnet18 densenet201 cnn26]

from the repository's root. The classifiers are randomly initialised and get photographs of 32x32: a
CIFAR ResNet-18, tapped after its stem, each stage and at the logits; DenseNet-201 at 128 pixels,
tapped as in Yoon et al. 2019; and the 26-layer CNN, tapped after the norm of each convolution, the
pools and at the logits, an extreme case with many elements to compare and little arithmetic. There
are three sets of images with random noise, which cost little, without and with a narrow RED-Net.

The whole job (`run`: it opens files, loads networks, runs them, compares, writes) takes turns with
bare passes on tensors in memory, in the same mode and batches as the job's: of the clean images, of
those with noise, and of all of them denoised, including the passes of the denoiser. An image counts
once for each pass of the classifier.

Printed, medians over the rounds: passes per second of both in wall time, the ratio of the job's
seconds to those of the bare passes in wall and in CPU time, and the peak memory of the job for a
quarter of the images and for all (Linux only), in runs that are not timed.
"""

import argparse
import functools
import statistics
import tempfile
from pathlib import Path

from bench._clock import keep_freed_memory, seconds, use_threads

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
suites: {{all: {{threats: [clean, noise], purifiers: [none, direct]}}}}
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    # At most a quarter of the images, so that both peaks are those of full batches
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--classifiers", nargs="+", default=["resnet18", "densenet201", "cnn26"])
    options = parser.parse_args()
    use_threads(options.threads)
    keep_freed_memory()
    head = ("classifier", "bare passes/s", "the job's", "wall", "CPU", "MB, a quarter", "MB, all")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder), options)
        for name in options.classifiers:
            print(f"| {name} | {compare(files, name, options)} |", flush=True)


class Files:
    """The files that the distances stage reads, each created when it is first needed."""

    def __init__(self, root: Path, options):
        import yaml

        from advdenoise.graph import configuration
        from advdenoise.graph.flow import Flow

        images, crops = options.images, -(-options.images // 8)
        text = CONFIGURATION.format(batch=options.batch, images=images, crops=crops)
        self.flow = Flow(configuration.read(yaml.safe_load(text)))
        self._root = root

    def options(self, rule: str, **names) -> dict:
        """A job's settings and inputs; missing inputs are created."""
        job = self.flow.job(rule, names)
        return {"settings": job.settings} | {k: self._paths(v) for k, v in job.inputs.items()}

    def _paths(self, files):
        from advdenoise.stages import attack, images, training

        if isinstance(files, list):
            return [self._paths(file) for file in files]
        path = self._root / files
        if path.exists():
            return path
        common, name = {"seed": "0", "dataset": "patches"}, path.stem
        resume = {"code": "", "resume": self._root / "resume"}
        weights = {"weights": path, "history": path.with_suffix(".parquet"), **resume}
        if "images" in path.parts:
            options = self.options("images", dataset="patches", split=name)
            images.run(**options, output=path)
        elif "classifiers" in path.parts:
            options = self.options("train_classifier", **common, classifier=name)
            training.train_classifier(**options, **weights)
        elif "denoisers" in path.parts:
            options = self.options("train_denoiser", **common, denoiser=name)
            training.train_denoiser(**options, **weights)
        else:
            options = self.options("attack", **common, threat=path.parent.name, split=name)
            attack.run(**options, output=path, **resume)
        return path


def compare(files: Files, classifier: str, options) -> str:
    from advdenoise.stages import distances
    from advdenoise.stages.memory import peak_bytes
    from advdenoise.stages.models import device

    names = {"seed": "0", "dataset": "patches", "suite": "all", "split": "train"}
    job_options = files.options("distances", **names, classifier=classifier)
    with tempfile.TemporaryDirectory() as folder:
        job_options["output"] = Path(folder) / "distances.parquet"
        job = functools.partial(distances.run, **job_options)
        bare = BarePasses(job_options)
        rounds = [(seconds(bare), seconds(job)) for _ in range(options.rounds + 1)][1:]
        peaks = []
        for images in (options.images // 4, options.images):
            settings = job_options["settings"] | {"images": images}
            part = functools.partial(distances.run, **job_options | {"settings": settings})
            peaks.append(peak_bytes(part, device()))
    rates = [
        bare.passes / statistics.median(times.wall for times in column)
        for column in zip(*rounds, strict=True)
    ]
    ratios = [statistics.median(job[i] / bare[i] for bare, job in rounds) for i in (0, 1)]
    cells = [f"{rate:.0f}" for rate in rates] + [f"{ratio:.2f}" for ratio in ratios]
    return " | ".join(cells + ["" if peak is None else f"{peak / 1e6:.0f}" for peak in peaks])


class BarePasses:
    """The passes of a job on tensors in memory."""

    def __init__(self, job_options: dict):
        from advdenoise.stages import models
        from advdenoise.stages.data import open_images
        from advdenoise.stages.threats import open_threats

        settings, device = job_options["settings"], models.device()
        with (
            open_images(job_options["images"]) as clean,
            open_threats(
                ["clean", *settings["threats"]], job_options["adversarial"], clean
            ) as threats,
        ):
            self._network = models.load_frozen(
                "classifiers", job_options["classifier"], settings["classifier"], clean
            )
            (entry,) = (p["denoiser_entry"] for p in settings["purifiers"] if "denoiser" in p)
            self._denoise = models.load_frozen("denoisers", *job_options["denoiser"], entry, clean)
            self._batches = []
            for batch in clean.batches(settings["batch"], device, settings["images"]):
                self._batches += [threat.images for threat in threats.iter_batches(batch)]
        self.passes = 2 * sum(map(len, self._batches))

    def __call__(self) -> None:
        import torch

        with torch.no_grad():
            for images in self._batches:
                self._network(images)
                self._network(self._denoise(images).clamp(0, 1))


if __name__ == "__main__":
    main()
