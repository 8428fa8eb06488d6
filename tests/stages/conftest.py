"""A tiny workflow on a handful of digits whose files are made by the stages themselves."""

import copy
import json
import re
from pathlib import Path

import yaml

from advdenoise.graph import configuration
from advdenoise.graph.flow import Flow
from advdenoise.stages import (
    attack,
    calibrate,
    choose,
    cost,
    detect,
    distances,
    evaluate,
    examples,
    export,
    images,
    iqr,
    probe,
    training,
)
from advdenoise.stages.command import with_choices

CONFIGURATION = """
scale: tiny
seeds: [0]
batch: 8
datasets:
  digits:
    function: embedded.digits
    splits:
      held_out: {size: 40}
      train: {size: 320}
      test: {size: 20}
      few: {of: test, size: 12}
      some: {of: train, size: 64}
classifiers:
  small: &small
    function: convnets.lenet
    settings: {channels: [4, 8], hidden: 16, mean: 0.2, std: 0.4}
    training:
      function: plain.classify
      epochs: 5
      batch: 32
      optimiser: {name: adam, lr: 0.01}
  other:
    <<: *small
    settings: {channels: [3, 6], hidden: 12}
  elu:
    function: convnets.elu_cnn
    settings: {width: 2, dropout: [0.1, 0.1, 0.1]}
    training:
      function: plain.classify
      epochs: 2
      batch: 32
      optimiser: {name: adam, lr: 0.01}
  early: &early
    <<: *small
    training: &learn
      function: plain.classify
      epochs: 9
      batch: 32
      optimiser: {name: adam, lr: 0.01}
      stop: {measured_on: held_out, accuracy: 0.5}
  late:
    <<: *early
    training:
      <<: *learn
      epochs: 1
      start: early
      stop: {measured_on: train, accuracy: 0.9}
      phases: [{epochs: 12, optimiser: {name: sgd, lr: 0.05, momentum: 0.9}}]
  untrained: # as it comes
    function: vgg.vgg16
    settings: {width: 2}
    training:
      function: plain.classify
      epochs: 0
      batch: 32
      optimiser: {name: adam, lr: 0.01}
attacks:
  fgsm: {function: gradient.fgsm, settings: {epsilon: 0.2}}
  predicted: {function: gradient.fgsm, settings: {epsilon: 0.2}, labels: predicted}
  targeted:
    function: gradient.bim
    settings: {epsilon: 0.2, alpha: 0.05, steps: 5}
    labels: random_target
  aimed:
    function: gradient.bim
    settings: {epsilon: 0.2, alpha: 0.05, steps: 10}
    labels: {target: 0}
  cycled:
    epsilons: {cycle: [0.05, 0.1, 0.15], every: 5}
    points:
      fgsm: {function: gradient.fgsm}
      pgd: {function: gradient.pgd, settings: {steps: 2, alpha_per_epsilon: 0.5}}
  softened: {function: gradient.fgsm, settings: {epsilon: 0.2}, output: probabilities}
  transferred: {function: gradient.fgsm, settings: {epsilon: 0.2}, surrogate: other}
  bim: {function: gradient.bim, settings: {epsilon: 0.2, alpha: 0.05, steps: 5}}
  bpda: {function: gradient.fgsm, settings: {epsilon: 0.2}, through: identity}
  counter: {function: gradient.fgsm, settings: {epsilon: 0.2}, through: denoiser}
  spared: # images that one step does not fool
    function: gradient.bim
    settings: {epsilon: 0.08, alpha: 0.02, steps: 5}
    spare: [weak]
  whole: {function: gradient.bim, settings: {epsilon: 0.08, alpha: 0.02, steps: 5}}
  weak: {function: gradient.fgsm, settings: {epsilon: 0.08}}
  rival: {function: gradient.fgsm, settings: {epsilon: 0.2}, through: adversarially}
  guided:
    function: gradient.fgsm
    settings: {epsilon: 0.2}
    through: adversarially
    forward: purifier
  random: {function: noise.uniform, settings: {epsilon: 0.2}}
  gaussian: {function: noise.gaussian, settings: {sigma: 0.1}}
  searched: {function: stopped.line_search, settings: {steps: 5, increment: 0.01}, surrogate: other}
  stepped:
    points:
      plain: {function: stopped.i_fgsm, settings: {steps: 2, alpha: 0.03}}
      momentum: {function: stopped.mi_fgsm, settings: {steps: 2, alpha: 0.03}}
  nearest: # as far as a given noise asks for
    points:
      plain:
        function: stopped.i_fgsm
        settings: {steps: {choose: [1, 2, 4, 8], by: {mse: 60}}, alpha: 0.03}
      momentum:
        function: stopped.mi_fgsm
        settings: {steps: 4, alpha: {choose: [0.001, 0.01, 0.1], by: {mse: 30}}}
denoisers:
  of_noise: &denoiser
    function: autoencoders.red_net
    settings: {layers: 4, width: 4}
    trained_on: [{threat: clean, share: 0.5}, {noise: gaussian, share: 0.5}]
    training: &reconstruct
      function: plain.reconstruct
      epochs: 2
      batch: 32
      optimiser: {name: adam, lr: 0.005}
  of_threats:
    <<: *denoiser
    trained_on: [{threat: fgsm@small, share: 0.25}, {threat: cycled@small, share: 0.75}]
    training: {<<: *reconstruct, split: some, epochs: 1}
  tuned: # its second phase in an entry of its own
    <<: *denoiser
    training: {<<: *reconstruct, start: of_noise, epochs: 1, optimiser: {name: adam, lr: 1.0e-7}}
  of_mixture: # the shares of attacks on two victims of Yoon et al. 2019
    <<: *denoiser
    trained_on:
      - {threat: fgsm@small, share: 0.05}
      - {threat: transferred@small, share: 0.30}
      - {threat: bim@small, share: 0.05}
      - {threat: fgsm@other, share: 0.30}
      - {threat: bim@other, share: 0.30}
    training: {<<: *reconstruct, split: some, batch: 20, epochs: 2}
  of_features:
    function: autoencoders.seven_layer
    trained_on: [{threat: fgsm@small, share: 1}]
    training: {<<: *reconstruct, function: features.reconstruct, network: untrained, split: some}
  of_logits:
    function: unet.hgd
    settings: {widths: [2, 3, 4], convolutions: 1}
    trained_on: [{noise: gaussian, share: 1}]
    training: {<<: *reconstruct, function: logits.guided, network: small, epochs: 3}
purifiers:
  direct: {function: basic.direct, denoiser: of_noise}
  adversarially: {function: basic.direct, denoiser: of_threats}
  tuned:
    denoiser: of_noise
    points:
      a:
        function: tests.own_purifiers:descent
        settings: {steps: 3, rate: {choose: [0.0001, 0.05, 5], by: {attack: bim}}}
      longer:
        function: tests.own_purifiers:descent
        settings: {steps: 6, rate: {chosen: tuned a}}
attributions:
  blocks:
    masking: 0.25
    points:
      n6: {function: superpixels.slic, settings: {n_segments: 6}}
      n12: {function: superpixels.slic, settings: {n_segments: 12}}
  inverted:
    function: superpixels.slic
    settings: {n_segments: 16}
    masking: image_mean
    quantile: inverted_cdf
detectors:
  shelf:
    points:
      forest: {function: trees.random_forest, settings: {trees: 5}}
      svc: {function: svm.svc}
suites:
  plain: {threats: [clean, fgsm, cycled], purifiers: [none, direct]}
  sparing: {threats: [clean, weak, spared, weak+, spared+], purifiers: [none, direct]}
  separate: {threats: [clean, weak, whole, weak+, whole+], purifiers: [none, direct]}
  adaptive: {threats: [clean, bim+], purifiers: [direct, adversarially]}
  chosen: {threats: [clean, nearest], purifiers: [none, tuned]}
choose: {images: 24}
distances:
  images: 12
  taps: {small: [layers.0, layers.6, layers.9]}
hidden:
  per_layer: 5
  taps: {small: [layers.3, layers.7]}
detection:
  representations: [predicted, probabilities, hidden]
  protocols: [paper, grouped]
  split_seeds: 2
examples:
  images: 5
  superpixels: [blocks, inverted]
  maps: {small: [layers.0, layers.2]}
cost: {images: 6, repetitions: 2}
experiments: {}
"""

# What makes a file: the rule, its stage, and the file's place under results/{scale}/.
STAGES = {
    "images": (images.run, "images/{dataset}/{split}.h5"),
    "train_classifier": (
        training.train_classifier,
        "seed{seed}/{dataset}/classifiers/{classifier}.safetensors",
    ),
    "train_denoiser": (
        training.train_denoiser,
        "seed{seed}/{dataset}/denoisers/{denoiser}.safetensors",
    ),
    "calibrate": (calibrate.run, "seed{seed}/{dataset}/denoisers/{denoiser}.calibration.json"),
    "attack": (attack.run, "seed{seed}/{dataset}/adversarial/{threat}/{split}.h5"),
    "choose": (choose.run, "seed{seed}/{dataset}/chosen/{entry}/{classifier}.json"),
    "evaluate": (
        evaluate.run,
        "seed{seed}/{dataset}/predictions/{suite}/{purifier}/{classifier}/{split}.parquet",
    ),
    "distances": (
        distances.run,
        "seed{seed}/{dataset}/distances/{suite}/{classifier}/{split}.parquet",
    ),
    "iqr": (
        iqr.run,
        "seed{seed}/{dataset}/iqr/{threat}/{attribution}/{classifier}/{split}.parquet",
    ),
    "probe": (probe.run, "seed{seed}/{dataset}/probes/{purifier}/{classifier}/{split}.json"),
    "cost": (cost.run, "seed{seed}/{dataset}/cost/{attribution}/{classifier}/{split}.parquet"),
    "detect": (
        detect.run,
        "seed{seed}/{dataset}/detection/{suite}/{detector}/{attribution}/{classifier}/{split}.parquet",
    ),
    "examples": (
        examples.run,
        "seed{seed}/{dataset}/examples/{threat}/{purifier}/{classifier}/{split}.h5",
    ),
    "export": (export.run, "seed{seed}/{dataset}/exported/{threat}/{split}.h5"),
}


class World:
    """The files of one configuration below one folder, made when they are first asked for."""

    def __init__(self, root: Path):
        self.root = root
        self.flow = Flow(configuration.read(yaml.safe_load(CONFIGURATION)))

    def path(self, name: str) -> Path:
        return self.root / name

    def job(self, file: str):
        """The rule of a file, its job, and the settings as a command line would give them."""
        for rule, (_, place) in STAGES.items():
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(place))
            match = re.fullmatch(f"{self.flow.root}/{pattern}", file)
            if match:
                job = self.flow.job(rule, match.groupdict())
                return rule, job, json.loads(json.dumps(job.settings))
        raise ValueError(f"no stage makes {file}")

    def make(self, file: str) -> Path:
        """A file named from below results/tiny/; an absent one is made, its inputs first."""
        path = self.path(f"{self.flow.root}/{file}")
        if not path.exists():
            self.run(file, path)
        return path

    def run(self, file: str, output: Path, changes: dict | None = None, **others) -> Path:
        """Run the job that makes `file`, to `output`, with changed settings or other inputs."""
        rule, options = self.options(file, output, changes)
        STAGES[rule][0](**options | others)
        return output

    def options(self, file: str, output: Path, changes: dict | None = None) -> tuple[str, dict]:
        """The rule of a file and the options of its job, whose inputs are made first."""
        rule, job, settings = self.job(f"{self.flow.root}/{file}")
        options = {name: self._made(files) for name, files in job.inputs.items()}
        settings = with_choices(settings, options.pop("chosen", []))
        options["settings"] = settings | (changes or {})
        if rule == "detect":
            options["threads"] = 1
        if rule == "attack" or rule.startswith("train_"):
            options |= {"code": "code", "resume": self.root / "resume"}
        if rule.startswith("train_"):
            options |= {"weights": output, "history": history_of(output)}
        else:
            options["output"] = output
        return rule, options

    def _made(self, files):
        if isinstance(files, list):
            return [self._made(file) for file in files]
        return self.make(files.removeprefix(f"{self.flow.root}/"))

    def settings(self, file: str) -> dict:
        return copy.deepcopy(self.job(f"{self.flow.root}/{file}")[2])


def history_of(weights: Path) -> Path:
    return weights.with_name(weights.name.replace(".safetensors", ".history.parquet"))
