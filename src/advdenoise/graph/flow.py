"""The graph: which files a job reads, which settings it gets, which code it depends on.

Rules ask a `Flow` for these; it knows stages and entries, no torch and no paper.
"""

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components, configuration, places, threats
from advdenoise.graph.combinations import combinations, fits, suite_purifiers, suite_threats
from advdenoise.graph.digests import code_digest
from advdenoise.graph.kinds import BUILT_IN_SPLITS, CROSSINGS, KIND_OF
from advdenoise.graph.sources import LIBRARY, REPOSITORY
from advdenoise.graph.threats import CLEAN, NO_PURIFIER, Threat
from advdenoise.io.digests import file_digest, settings_digest
from advdenoise.ops.files import why_no_file
from advdenoise.ops.system import refusal

STAGES = LIBRARY / "stages"
_MODULE = {"train_classifier": "training", "train_denoiser": "training"}
TABLE_FORMATS = ("csv", "md", "tex")
ROWS_FORMATS = ("parquet",)
SEED = "(0|[1-9][0-9]{0,9})"


class Job(NamedTuple):
    """What one job needs: input files by name, its settings, the components that it runs."""

    inputs: dict
    settings: dict
    components: list[tuple[str, dict]]


def prepare_environment() -> None:
    """Let `python` in a rule's shell mean this interpreter, with this library.

    The Snakefile is parsed again in every job, so this holds on a cluster's node as well.
    """
    for variable, folder in (("PATH", Path(sys.executable).parent), ("PYTHONPATH", LIBRARY.parent)):
        parts = os.environ.get(variable, "").split(os.pathsep)
        if str(folder) not in parts:
            os.environ[variable] = os.pathsep.join([str(folder), *filter(None, parts)])
    # Memory that a pass over a batch frees is needed by the next one: giving it back to the system
    # each time cost a tenth of a job's CPU time.
    for variable in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        os.environ.setdefault(variable, str(2**30))


@contextlib.contextmanager
def one_sentence():
    """End Snakemake with the sentence of a `BadInput`, or of what the system refuses, and no more.

    It would put places in its own files and in ours around any other exception's message.
    """
    try:
        yield
    except BadInput as mistake:
        raise SystemExit(str(mistake)) from None
    except OSError as error:
        if sentence := refusal(error):
            raise SystemExit(sentence) from None
        raise


class Flow:
    """The graph of one effective configuration."""

    def __init__(self, config: dict):
        self.config = config
        self.root = f"results/{config['scale']}"
        self._jobs: dict = {}
        self._digests: dict[str, str] = {}

    # ------------------------------------------------------------ what rules ask for

    def names(self) -> dict[str, set[str]]:
        """The configured names that a wildcard of the rules stands for."""
        config = self.config
        own = [split for entry in config["datasets"].values() for split in entry["splits"]]
        tables = [pair for e in config["experiments"].values() for pair in e["tables"].items()]
        return {
            **{wildcard: set(config[kind]) for wildcard, kind in KIND_OF.items()},
            "split": {*BUILT_IN_SPLITS, *own},
            "entry": set(choices.choosing(config)),
            "paper": set(config["experiments"]),
            "table": {name for name, entry in tables if not _gives_rows(entry)},
            "rows": {name for name, entry in tables if _gives_rows(entry)},
        }

    def constraints(self) -> dict[str, str]:
        """Wildcard constraints: the configured names and nothing else."""
        name = {wildcard: _either(names) for wildcard, names in self.names().items()}
        attack = _either(self.config["attacks"])
        threat = f"{attack}@{name['classifier']}(\\+{name['purifier']})?"
        return {"seed": SEED, "threat": f"({CLEAN}|{threat})", **name}

    def inputs(self, rule: str):
        """The input function of a rule.

        Files that settings name are inputs by the name `of_settings`, whatever their age: `code`
        knows their contents. Raises BadInput for one that is not there.
        """

        def files(wildcards) -> dict:
            found = dict(self.job(rule, wildcards).inputs)
            if named := self._named_files(rule, wildcards):
                from snakemake.io import ancient

                for path, key in named.items():
                    if reason := why_no_file(Path(path)):
                        raise BadInput(f"{key}: {path} {reason}; give the path of a file")
                found["of_settings"] = ancient([*named])
            return found

        return one_sentence()(files)

    def settings(self, rule: str, **fixed):
        """The rule's settings as sorted JSON: one parameter, so that any change reruns the job.

        `fixed` are names that the rule holds itself, in place of wildcards.
        """

        def settings(wildcards) -> str:
            return json.dumps(self.whole_settings(rule, fixed or wildcards), sort_keys=True)

        return one_sentence()(settings)

    def whole_settings(self, rule: str, wildcards) -> dict:
        """A job's settings with its rule and, by name, the digests of what makes its inputs.

        A job compares them with what its inputs say of themselves, so that a file of another
        seed, split or entry is refused. They change only where an input is made anew.
        """
        job = self.job(rule, wildcards)
        digests = {
            name: [self.digest(path) for path in ([files] if isinstance(files, str) else files)]
            for name, files in job.inputs.items()
        }
        return job.settings | {"rule": rule, "input_digests": digests}

    def digest(self, path: str) -> str:
        """Of the whole settings of a file's job; empty where no job makes the file."""
        if path not in self._digests:
            maker = places.maker(path.removeprefix(f"{self.root}/"))
            self._digests[path] = settings_digest(self.whole_settings(*maker)) if maker else ""
        return self._digests[path]

    def code(self, rule: str, **fixed):
        """The digest of the rule's script and of just the components that this job runs.

        And of the contents of the files that their settings name.
        """

        def digest(wildcards) -> str:
            names = fixed or wildcards
            entries = self.job(rule, names).components
            files = {components.module_file(kind, entry) for kind, entry in entries}
            code = code_digest(STAGES / f"{_MODULE.get(rule, rule)}.py", *sorted(files))
            named = [path for path in self._named_files(rule, names) if not why_no_file(Path(path))]
            return "-".join([code, *(file_digest(Path(path)) for path in named)])

        return one_sentence()(digest)

    def _named_files(self, rule: str, wildcards) -> dict[str, str]:
        """The files that settings of this job's components name, and the key of each setting.

        A network's first weights are read by the job that trains it from them, and by no other.
        """
        job, files = self.job(rule, wildcards), {}
        trained = {"train_classifier": "classifiers", "train_denoiser": "denoisers"}.get(rule)
        for kind, entry in job.components:
            read = entry
            if kind in ("classifiers", "denoisers") and (kind != trained or "start" in job.inputs):
                read = components.without_first_weights(kind, entry)
            for setting, paths in components.named_files(kind, read).items():
                key = f"{self._key(kind, entry)}.settings.{setting}"
                files |= dict.fromkeys(paths, key)
        return files

    def _key(self, kind: str, entry: dict) -> str:
        """The place of an entry, of one of its points or of its training in the configuration."""
        for name, known in self.config.get(kind, {}).items():
            if known is entry or known.get("name", name) == entry.get("name"):
                return f"{kind}.{name}"
            for point, settings in known.get("points", {}).items():
                if settings is entry:
                    return f"{kind}.{name}" + f".points.{point}" * (len(known["points"]) > 1)
        return f"{kind}: {entry['function']}"

    def job(self, rule: str, wildcards) -> Job:
        """What a job of `rule` needs for these wildcards."""
        names = dict(wildcards.items())
        key = (rule, *sorted(names.items()))
        if key not in self._jobs:
            self._jobs[key] = getattr(self, f"_{rule}")(**names)
        return self._jobs[key]

    def targets(self, paper: str) -> list[str]:
        """The tables and figures of one experiment, without those that are made on demand."""
        experiment = self.config["experiments"].get(paper)
        if experiment is None:
            raise BadInput(
                f"experiments: {paper!r} is not configured; "
                f"{suggest(paper, self.config['experiments'])}"
            )
        tables = experiment["tables"]
        wanted = [path for name, path in self._tables(paper) if not tables[name].get("on_demand")]
        return wanted + list(self.figures(paper).values())

    def products(self, paper: str) -> list[str]:
        """All tables and figures of one experiment, also those that are made on demand."""
        return [path for _, path in self._tables(paper)] + list(self.figures(paper).values())

    def _tables(self, paper: str) -> list[tuple[str, str]]:
        """The files of an experiment's tables, each with the table's name."""
        return [
            (table, f"{self.root}/tables/{paper}/{table}.{suffix}")
            for table, entry in self.config["experiments"][paper]["tables"].items()
            for suffix in (ROWS_FORMATS if _gives_rows(entry) else TABLE_FORMATS)
        ]

    def check_table(self, key: str, paper: str, table: str) -> dict:
        """The table of that name; BadInput naming `key` where the experiment has none."""
        tables = self.config["experiments"][paper]["tables"]
        if table not in tables:
            raise BadInput(
                f"{key}: experiment {paper!r} has no table {table!r}; {suggest(table, tables)}"
            )
        return tables[table]

    def figures(self, paper: str) -> dict[str, str]:
        """The figures of one experiment: their files by name."""
        names = self.config["experiments"][paper]["figures"]
        return {name: f"{self.root}/figures/{paper}/{name}.svg" for name in names}

    def papers_with_figures(self) -> list[str]:
        return [name for name, entry in self.config["experiments"].items() if entry["figures"]]

    def start(self, jobs) -> None:
        """Before the first of `jobs` runs: their data are there, the configuration is written."""
        import yaml

        needed = {job.wildcards.dataset for job in jobs if job.rule.name == "images"}
        configuration.check_data_root(self.config, needed)
        path = Path(self.root) / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")
        part.replace(path)

    # ------------------------------------------------------------ paths

    def _images(self, dataset: str, split: str) -> Job:
        entry = self.config["datasets"][dataset]
        settings = {
            "dataset": dataset,
            "split": split,
            "entry": {
                "function": entry["function"],
                "settings": entry.get("settings", {}),
                "splits": self._split_chain(dataset, split),
            },
        }
        return Job({}, settings, [("datasets", entry)])

    def images(self, dataset: str, split: str) -> str:
        return f"{self.root}/images/{dataset}/{split}.h5"

    def _replicate(self, seed, dataset: str) -> str:
        return f"{self.root}/seed{seed}/{dataset}"

    def classifier(self, seed, dataset: str, name: str) -> str:
        return f"{self._replicate(seed, dataset)}/classifiers/{name}.safetensors"

    def denoiser(self, seed, dataset: str, name: str) -> str:
        return f"{self._replicate(seed, dataset)}/denoisers/{name}.safetensors"

    def calibration(self, seed, dataset: str, name: str) -> str:
        return f"{self._replicate(seed, dataset)}/denoisers/{name}.calibration.json"

    def adversarial(self, seed, dataset: str, threat: Threat, split: str) -> str:
        return f"{self._replicate(seed, dataset)}/adversarial/{threat}/{split}.h5"

    def result(self, stage: str, seed, dataset: str, **names) -> str:
        """The file of a stage that tables and figures read."""
        if stage == "calibration":
            return self.calibration(seed, dataset, names["denoiser"])
        place = "/".join(names[key] for key in CROSSINGS[stage])
        suffix = {"examples": "h5", "chosen": "json"}.get(stage, "parquet")
        return f"{self._replicate(seed, dataset)}/{stage}/{place}.{suffix}"

    # ------------------------------------------------------------ one method per rule

    def _train_classifier(self, seed: str, dataset: str, classifier: str) -> Job:
        entry = self.config["classifiers"][classifier]
        settings = {
            "seed": int(seed),
            "dataset": dataset,
            "classifier": self._named("classifiers", classifier),
        }
        used = [("classifiers", entry), ("training", entry["training"])]
        inputs = self._training_images(entry["training"].get("dataset", dataset), entry)
        if "dataset" in entry["training"]:
            inputs["classes"] = self.images(dataset, "test")
        if start := entry["training"].get("start"):
            inputs["start"] = self.classifier(seed, dataset, start)
            settings["start"] = self._named("classifiers", start)
        return Job(inputs, settings, used)

    def _train_denoiser(self, seed: str, dataset: str, denoiser: str) -> Job:
        entry = self.config["denoisers"][denoiser]
        split = entry["training"].get("split", "train")
        sources = [s["threat"] for s in entry["trained_on"] if s.get("threat", CLEAN) != CLEAN]
        made = [threats.parse(text) for text in dict.fromkeys(sources)]
        noises = self._noises(entry)
        settings = {
            "seed": int(seed),
            "dataset": dataset,
            "denoiser": self._named("denoisers", denoiser),
            "threats": [str(threat) for threat in made],
            "attacks": self._attack_entries(made),
            "noises": noises,
        }
        inputs = self._training_images(dataset, entry)
        inputs["adversarial"] = [self.adversarial(seed, dataset, t, split) for t in made]
        inputs |= self._chosen(seed, dataset, self._of_attacks(made))
        used = [("denoisers", entry), ("training", entry["training"])]
        used += [("attacks", p) for noise in noises.values() for p in noise["points"].values()]
        if network := entry["training"].get("network"):
            inputs["network"] = self.classifier(seed, dataset, network)
            settings["network"] = self._named("classifiers", network)
            used.append(("classifiers", self.config["classifiers"][network]))
        if start := entry["training"].get("start"):
            inputs["start"] = self.denoiser(seed, dataset, start)
            settings["start"] = self._named("denoisers", start)
        return Job(inputs, settings, used)

    def _calibrate(self, seed: str, dataset: str, denoiser: str) -> Job:
        entry = self.config["denoisers"][denoiser]
        inputs = {
            "images": self.images(dataset, self._held_out(dataset, f"denoisers.{denoiser}")),
            "denoiser": self.denoiser(seed, dataset, denoiser),
        }
        settings = self._common(seed, dataset) | {"denoiser": self._named("denoisers", denoiser)}
        return Job(inputs, settings, [("denoisers", entry)])

    def _attack(self, seed: str, dataset: str, threat: str, split: str) -> Job:
        parsed = threats.parse(threat)
        entry = self.config["attacks"][parsed.attack]
        purifier, denoiser = self._purifier(parsed.purifier)
        models = {"victim": parsed.victim}
        if "surrogate" in entry:
            models["surrogate"] = entry["surrogate"]
        inputs = {"images": self.images(dataset, split)}
        inputs |= {role: self.classifier(seed, dataset, name) for role, name in models.items()}
        inputs |= self._purifier_inputs(seed, dataset, purifier)
        used_here = [(entry, parsed.victim), *([(purifier, parsed.victim)] if purifier else [])]
        inputs |= self._chosen(seed, dataset, used_here)
        settings = self._common(seed, dataset) | {
            "split": split,
            "threat": threat,
            "attack": self._named("attacks", parsed.attack),
            "purifier": purifier,
            "denoiser": denoiser,
        }
        settings |= {role: self._named("classifiers", name) for role, name in models.items()}
        used = [("classifiers", self.config["classifiers"][name]) for name in models.values()]
        used += [("attacks", point) for point in entry["points"].values()]
        return Job(inputs, settings, used + _purifier_components(purifier, denoiser))

    def _choose(self, seed: str, dataset: str, entry: str, classifier: str) -> Job:
        """As an attack's job on images that no test looks at, with all candidates.

        What a purifier is tried on is made by the job itself, from as many images as it looks at.
        """
        kind = choices.choosing(self.config)[entry]
        mine = choices.own(entry, self.config[kind][entry])
        attack, split = entry, "train"
        if kind == "purifiers":
            attack = mine[0].block["by"]["attack"].partition(" ")[0]
            split = self._held_out(dataset, f"purifiers.{entry}")
        job = self._attack(seed, dataset, f"{attack}@{classifier}", split)
        told = choices.only(self._named(kind, entry), mine)
        settings = job.settings | {
            "entry": entry,
            "kind": kind,
            "choices": choices.as_settings(mine),
            "images": self.config["choose"]["images"],
        }
        inputs, used = job.inputs, job.components
        if kind == "attacks":
            inputs = {name: value for name, value in inputs.items() if name != "chosen"}
            settings |= {"attack": told}
        else:
            denoiser = self._purifier(entry)[1]
            inputs = inputs | self._purifier_inputs(seed, dataset, told)
            settings |= {"purifier": told, "denoiser": denoiser}
            used = used + _purifier_components(told, denoiser)
        return Job(inputs, settings, used)

    def _evaluate(
        self, seed: str, dataset: str, suite: str, purifier: str, classifier: str, split: str
    ) -> Job:
        met = suite_threats(self.config, suite, dataset, classifier, purifier)
        entry, denoiser = self._purifier(purifier)
        made = [threat for threat in met if not threat.is_clean]
        inputs = {
            "images": self.images(dataset, split),
            "classifier": self.classifier(seed, dataset, classifier),
            "adversarial": [self.adversarial(seed, dataset, t, split) for t in made],
        } | self._purifier_inputs(seed, dataset, entry)
        inputs |= self._chosen(seed, dataset, [*self._of_attacks(made), (entry, classifier)])
        settings = self._common(seed, dataset) | {
            "split": split,
            "suite": suite,
            "threats": [str(threat) for threat in met],
            "attacks": self._attack_entries(made),
            "purifier": entry,
            "denoiser": denoiser,
            "classifier": self._named("classifiers", classifier),
        }
        if denoiser and "network" in denoiser["training"]:
            # It is not needed here: tables say what the denoiser was trained to please.
            settings["network"] = self._named("classifiers", denoiser["training"]["network"])
        if denoiser and (noises := self._noises(denoiser)):
            settings["noises"] = noises  # likewise: what it was trained on
        used = [("classifiers", self.config["classifiers"][classifier])]
        return Job(inputs, settings, used + _purifier_components(entry, denoiser))

    def _distances(self, seed: str, dataset: str, suite: str, classifier: str, split: str) -> Job:
        taps = self._taps("distances", classifier)
        names = [NO_PURIFIER, *suite_purifiers(self.config, suite, dataset)]
        meetings = [
            [str(threat), name]  # a list, as it is read back from what a file was made with
            for name in dict.fromkeys(names)
            for threat in suite_threats(self.config, suite, dataset, classifier, name)
        ]
        made = [threats.parse(text) for text in dict.fromkeys(text for text, _ in meetings)]
        made = [threat for threat in made if not threat.is_clean]
        purifiers = [self._purifier(name) for name in dict.fromkeys(names)]
        inputs = {
            "images": self.images(dataset, split),
            "classifier": self.classifier(seed, dataset, classifier),
            "adversarial": [self.adversarial(seed, dataset, t, split) for t in made],
        }
        for role in ("denoiser", "calibration"):
            found = (
                self._purifier_inputs(seed, dataset, entry).get(role) for entry, _ in purifiers
            )
            inputs[role] = list(dict.fromkeys(filter(None, found)))
        purifying = [(entry, classifier) for entry, _ in purifiers]
        inputs |= self._chosen(seed, dataset, [*self._of_attacks(made), *purifying])
        settings = self._common(seed, dataset) | {
            "split": split,
            "suite": suite,
            "meetings": meetings,
            "threats": [str(threat) for threat in made],
            "attacks": self._attack_entries(made),
            "purifiers": [{**entry, "denoiser_entry": denoiser} for entry, denoiser in purifiers],
            "classifier": self._named("classifiers", classifier),
            "taps": taps,
            "post_relu": self.config["distances"].get("post_relu", True),
            "images": self.config["distances"]["images"],
        }
        used = [("classifiers", self.config["classifiers"][classifier])]
        for entry, denoiser in purifiers:
            used += _purifier_components(entry, denoiser)
        return Job(inputs, settings, used)

    def _iqr(
        self, seed: str, dataset: str, threat: str, attribution: str, classifier: str, split: str
    ) -> Job:
        parsed = threats.parse(threat)
        entry = self.config["attributions"][attribution]
        hidden = self.config["hidden"]
        inputs = {
            "images": self.images(dataset, split),
            "classifier": self.classifier(seed, dataset, classifier),
        }
        if not parsed.is_clean:
            inputs["adversarial"] = self.adversarial(seed, dataset, parsed, split)
        inputs |= self._chosen(seed, dataset, self._of_attacks([parsed]))
        settings = self._common(seed, dataset) | {
            "split": split,
            "threat": threat,
            "attacks": self._attack_entries([parsed]),
            "attribution": self._named("attributions", attribution),
            "classifier": self._named("classifiers", classifier),
            "taps": hidden["taps"].get(classifier, []),
            "per_layer": hidden["per_layer"],
        }
        used = [("classifiers", self.config["classifiers"][classifier])]
        used += [("attributions", point) for point in entry["points"].values()]
        return Job(inputs, settings, used)

    def _cost(self, seed: str, dataset: str, attribution: str, classifier: str, split: str) -> Job:
        entry, hidden = self.config["attributions"][attribution], self.config["hidden"]
        inputs = {
            "images": self.images(dataset, split),
            "classifier": self.classifier(seed, dataset, classifier),
        }
        settings = self._common(seed, dataset) | {
            "split": split,
            "attribution": self._named("attributions", attribution),
            "classifier": self._named("classifiers", classifier),
            "taps": hidden["taps"].get(classifier, []),
            "per_layer": hidden["per_layer"],
            **self.config["cost"],
        }
        used = [("classifiers", self.config["classifiers"][classifier])]
        used += [("attributions", point) for point in entry["points"].values()]
        return Job(inputs, settings, used)

    def _detect(
        self,
        seed: str,
        dataset: str,
        suite: str,
        detector: str,
        attribution: str,
        classifier: str,
        split: str,
    ) -> Job:
        entry = self.config["detectors"][detector]
        met = suite_threats(self.config, suite, dataset, classifier, NO_PURIFIER)
        made = [threat for threat in met if not threat.is_clean]
        place = {"attribution": attribution, "classifier": classifier, "split": split}
        features = [
            self.result("iqr", seed, dataset, threat=str(threat), **place)
            for threat in (CLEAN, *made)
        ]
        if "detection" not in self.config:
            raise BadInput("detection: the key is missing; say how detectors are judged")
        settings = self._common(seed, dataset) | {
            "split": split,
            "suite": suite,
            "threats": [str(threat) for threat in made],
            "attacks": self._attack_entries(made),
            "detector": self._named("detectors", detector),
            "attribution": self._named("attributions", attribution),
            "classifier": self._named("classifiers", classifier),
            "detection": self.config["detection"],
            "has_hidden": classifier in self.config["hidden"]["taps"],
        }
        used = [("detectors", point) for point in entry["points"].values()]
        inputs = {"features": features}
        inputs |= self._chosen(seed, dataset, self._of_attacks(made))
        return Job(inputs, settings, used)

    def _examples(
        self, seed: str, dataset: str, threat: str, purifier: str, classifier: str, split: str
    ) -> Job:
        parsed = threats.parse(threat)
        entry, denoiser = self._purifier(purifier)
        inputs = {
            "images": self.images(dataset, split),
            "classifier": self.classifier(seed, dataset, classifier),
        } | self._purifier_inputs(seed, dataset, entry)
        if not parsed.is_clean:
            inputs["adversarial"] = self.adversarial(seed, dataset, parsed, split)
        used_here = [*self._of_attacks([parsed]), (entry, classifier)]
        inputs |= self._chosen(seed, dataset, used_here)
        asked = self.config.get("examples", {})
        # Superpixels belong to the images as they are: of others nothing is shown.
        untouched = parsed.is_clean and purifier == NO_PURIFIER
        superpixels = {
            name: self._named("attributions", name)
            for name in (asked.get("superpixels", []) if untouched else [])
            if fits(self.config, "attributions", name, dataset)
        }
        settings = self._common(seed, dataset) | {
            "split": split,
            "threat": threat,
            "attacks": self._attack_entries([parsed]),
            "purifier": entry,
            "denoiser": denoiser,
            "classifier": self._named("classifiers", classifier),
            "images": asked.get("images", 8),
            "superpixels": superpixels,
            # Without an attack no channel is changed more than another.
            "maps": [] if parsed.is_clean else asked.get("maps", {}).get(classifier, []),
        }
        used = [("classifiers", self.config["classifiers"][classifier])]
        used += [("attributions", p) for s in superpixels.values() for p in s["points"].values()]
        return Job(inputs, settings, used + _purifier_components(entry, denoiser))

    def _export(self, seed: str, dataset: str, threat: str, split: str) -> Job:
        parsed = threats.parse(threat)
        inputs = {"images": self.images(dataset, split)}
        if not parsed.is_clean:
            inputs["adversarial"] = self.adversarial(seed, dataset, parsed, split)
        inputs |= self._chosen(seed, dataset, self._of_attacks([parsed]))
        settings = {
            "seed": int(seed),
            "dataset": dataset,
            "split": split,
            "threat": threat,
            "attacks": self._attack_entries([parsed]),
        }
        return Job(inputs, settings, [])

    def _table(self, paper: str, table: str) -> Job:
        entry = self.check_table(f"{self.root}/tables/{paper}", paper, table)
        inputs, left_out = self._product_inputs(paper, entry)
        settings = {
            "paper": paper,
            "table": table,
            "entry": _bare(entry),
            "left_out": left_out,
            "published": self._published(paper, table),
        }
        return Job(inputs, settings, [("tables", entry)])

    def _rows(self, paper: str, rows: str) -> Job:
        entry = self.check_table(f"{self.root}/tables/{paper}", paper, rows)
        inputs, left_out = self._product_inputs(paper, entry)
        settings = {"paper": paper, "table": rows, "entry": _bare(entry), "left_out": left_out}
        return Job(inputs, settings, [("tables", entry)])

    def _published(self, paper: str, table: str) -> dict[str, str]:
        """Digests of the paper's numbers: the table's own, or all that a table may compare with."""
        folder = REPOSITORY / "config" / "published"
        own = folder / f"{paper}_{table}.csv"
        files = [own] if own.exists() else sorted(folder.glob(f"{paper}_*.csv"))
        return {file.name: file_digest(file) for file in files}

    def _figures(self, paper: str) -> Job:
        figures = self.config["experiments"][paper]["figures"]
        made = {name: self._product_inputs(paper, entry) for name, entry in figures.items()}
        files = sorted({path for inputs, _ in made.values() for p in inputs.values() for path in p})
        settings = {
            "paper": paper,
            "figures": {name: _bare(entry) for name, entry in figures.items()},
            "inputs": {name: inputs for name, (inputs, _) in made.items()},
        }
        return Job({"files": files}, settings, [("figures", entry) for entry in figures.values()])

    # ------------------------------------------------------------ crossings

    def _product_inputs(self, paper: str, entry: dict) -> tuple[dict, list[str]]:
        """The files of each stage that a table or figure reads, and what was left out."""
        seeds = self.config["experiments"][paper]["seeds"]
        combined, left_out = combinations(self.config, entry)
        inputs = {
            stage: list(
                dict.fromkeys(
                    self.result(stage, seed, **names) for names in of_stage for seed in seeds
                )
            )
            for stage, of_stage in combined.items()
        }
        return inputs, left_out

    # ------------------------------------------------------------ entries

    def _common(self, seed: str, dataset: str) -> dict:
        batch = self.config["datasets"][dataset].get("batch", self.config["batch"])
        return {"seed": int(seed), "dataset": dataset, "batch": batch}

    def _named(self, kind: str, name: str) -> dict:
        """An entry as a job gets it, without the data sets it is for: one more reruns nothing."""
        entry = self.config[kind][name]
        return {"name": name} | {key: value for key, value in entry.items() if key != "datasets"}

    def _attack_entries(self, made) -> dict:
        names = sorted({threat.attack for threat in made if not threat.is_clean})
        return {name: self._named("attacks", name) for name in names}

    def _of_attacks(self, made) -> list[tuple[dict, str]]:
        """The attacks of threats, each with its victim."""
        return [(self.config["attacks"][t.attack], t.victim) for t in made if not t.is_clean]

    def _chosen(self, seed: str, dataset: str, used) -> dict:
        """What was chosen for the entries that a job uses, each on a classifier."""
        files = {
            self.result("chosen", seed, dataset, entry=name, classifier=classifier): None
            for entry, classifier in used
            for name in sorted(choices.choosers(entry))
        }
        return {"chosen": list(files)} if files else {}

    def _noises(self, denoiser: dict) -> dict:
        """The entries of the noises that a denoiser is trained on, by name."""
        sources = denoiser["trained_on"]
        return {s["noise"]: self._named("attacks", s["noise"]) for s in sources if "noise" in s}

    def _purifier(self, name: str | None) -> tuple[dict | None, dict | None]:
        """A purifier's entry and its denoiser's, each with its name."""
        if name is None:
            return None, None
        entry = self._named("purifiers", name)
        if "denoiser" not in entry:
            return entry, None
        return entry, self._named("denoisers", entry["denoiser"])

    def _purifier_inputs(self, seed: str, dataset: str, purifier: dict | None) -> dict:
        if purifier is None or "denoiser" not in purifier:
            return {}
        inputs = {"denoiser": self.denoiser(seed, dataset, purifier["denoiser"])}
        if "calibration" in _handed("purifiers", purifier["points"]):
            inputs["calibration"] = self.calibration(seed, dataset, purifier["denoiser"])
        return inputs

    def _training_images(self, dataset: str, entry: dict) -> dict:
        split = entry["training"].get("split", "train")
        inputs = {"images": self.images(dataset, split)}
        if "held_out" in self.config["datasets"][dataset]["splits"]:
            inputs["held_out"] = self.images(dataset, "held_out")
        return inputs

    def _held_out(self, dataset: str, asker: str) -> str:
        if "held_out" not in self.config["datasets"][dataset]["splits"]:
            raise BadInput(f"datasets.{dataset}.splits: {asker} needs the split held_out; add it")
        return "held_out"

    def _taps(self, part: str, classifier: str) -> list[str]:
        taps = self.config[part]["taps"]
        if classifier not in taps:
            raise BadInput(f"{part}.taps: {classifier!r} has no taps; name the modules to observe")
        return taps[classifier]

    def _split_chain(self, dataset: str, split: str) -> dict:
        """Just the splits that this one depends on: another one's size reruns nothing."""
        splits = self.config["datasets"][dataset]["splits"]
        chain = {}
        while split not in BUILT_IN_SPLITS:
            if split not in splits:
                raise BadInput(
                    f"datasets.{dataset}.splits: there is no split {split!r}; "
                    f"{suggest(split, {*splits, *BUILT_IN_SPLITS})}"
                )
            chain[split] = splits[split]
            split = splits[split]["of"]
        # What is held out is taken from the training part.
        roots = ("train", "held_out") if split == "train" else (split,)
        return chain | {root: splits[root] for root in roots if root in splits}


def _either(names) -> str:
    """A pattern for one of the names; one that matches nothing where there are none."""
    return f"({'|'.join(map(re.escape, sorted(names)))})" if names else "(?!)"


def _gives_rows(entry: dict) -> bool:
    """Whether a table's function gives rows for programs and no cells."""
    return components.signature("tables", "tables", entry["function"]).returns == "Rows"


def _handed(kind: str, points: dict) -> set[str]:
    names: set[str] = set()
    for point in points.values():
        names |= set(components.signature_of(kind, point).injected)
    return names


def _purifier_components(purifier: dict | None, denoiser: dict | None) -> list[tuple[str, dict]]:
    points = purifier["points"].values() if purifier else []
    return [("purifiers", point) for point in points] + (
        [("denoisers", denoiser)] if denoiser else []
    )


def _bare(entry: dict) -> dict:
    """A table's entry without its crossings: those show in its inputs."""
    return {key: value for key, value in entry.items() if key not in CROSSINGS}
