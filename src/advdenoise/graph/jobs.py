"""What a job needs: its input files, its settings, the components that it runs."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components
from advdenoise.graph.combinations import combinations
from advdenoise.graph.digests import closure
from advdenoise.graph.packages import SOURCES
from advdenoise.graph.sections.attacks import PATHS
from advdenoise.graph.sections.common import Kind
from advdenoise.graph.sections.datasets import BUILT_IN_SPLITS, Split, split_names
from advdenoise.graph.sources import existing, locate_object
from advdenoise.graph.stages import crossings, product_path
from advdenoise.graph.syntax import source_of
from advdenoise.graph.threats import Threat
from advdenoise.io.digests import file_digest

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration
    from advdenoise.graph.sections.experiments import Product

Entry = Mapping[str, Any]
Settings = dict[str, Any]
# Paths of input files by name.
Inputs = dict[str, str | list[str]]
_PUBLISHED = "advdenoise.io.published"


class Job(NamedTuple):
    """Input files by name, settings, and components, each with its kind and its entry.

    `module` is the module of the stages that runs it, where that is not its stage's own; `sources`
    are further files that decide its numbers.
    """

    inputs: Mapping[str, str | Sequence[str]]
    settings: Settings
    components: Sequence[tuple[str, Entry]]
    module: str | None = None
    sources: tuple[Path, ...] = ()


class Entries:
    """The entries of one configuration in effect, and the paths of what jobs make of them."""

    def __init__(self, config: "Configuration"):
        self.config = config
        self.root = f"results/{config['scale']}"

    # ------------------------------------------------------------ entries

    def of(self, kind: Kind, name: str) -> Entry:
        """An entry as the configuration has it."""
        entries: Mapping[str, Entry] = self.config[kind]
        return entries[name]

    def named(self, kind: Kind, name: str) -> Settings:
        """An entry as a job gets it, without its data sets: one more of them reruns nothing."""
        entry = self.of(kind, name)
        return {"name": name} | {key: value for key, value in entry.items() if key != "datasets"}

    def common(self, seed: str, dataset: str) -> Settings:
        """Settings of every job that reads images of one replicate."""
        batch = self.config["datasets"][dataset].get("batch", self.config["batch"])
        return {"seed": int(seed), "dataset": dataset, "batch": batch}

    def attacks(self, threats: Iterable[Threat]) -> Settings:
        """The entries of threats' attacks, by name."""
        names = sorted({threat.attack for threat in threats if not threat.is_clean})
        return {name: self.named("attacks", name) for name in names}

    def attacks_with_victims(self, threats: Iterable[Threat]) -> list[tuple[Entry, str]]:
        """The attacks of threats as paths name them, each with its victim."""
        attacks = [(threat.attack, threat.victim) for threat in threats if not threat.is_clean]
        return [(self.of("attacks", attack), str(victim)) for attack, victim in attacks]

    def noises(self, denoiser: Entry) -> Settings:
        """The entries of the noises that a denoiser is trained on, by name."""
        sources = denoiser.get("trained_on", [])
        return {s["noise"]: self.named("attacks", s["noise"]) for s in sources if "noise" in s}

    def purifier(self, name: str) -> tuple[Settings, Settings | None]:
        """A purifier's entry and its denoiser's, each with its name; None where it uses none."""
        entry = self.named("purifiers", name)
        if "denoiser" not in entry:
            return entry, None
        return entry, self.named("denoisers", entry["denoiser"])

    def purifier_through(self, attack: Entry) -> tuple[Settings | None, Settings | None]:
        """The purifier whose gradient an attack takes in the known one's place; None without it."""
        through = attack.get("through", "full")
        return (None, None) if through in PATHS else self.purifier(through)

    def purifier_components(
        self, purifier: Entry | None, denoiser: Entry | None
    ) -> list[tuple[str, Entry]]:
        """The components of a purifier and of its denoiser."""
        points = purifier["points"].values() if purifier else ()
        components = [("purifiers", point) for point in points]
        return components + ([("denoisers", denoiser)] if denoiser else [])

    def taps(self, part: Literal["distances", "hidden"], classifier: str) -> list[str]:
        """The modules of a classifier that are observed. Raises BadInput where none are named."""
        taps = self.config[part]["taps"]
        if classifier not in taps:
            raise BadInput(f"{part}.taps: {classifier!r} has no taps; name the modules to observe")
        return taps[classifier]

    def hidden(self, classifier: str) -> Settings:
        """Settings of the hidden nodes that leave-one-out attributions are computed for."""
        hidden = self.config["hidden"]
        return {"taps": hidden["taps"].get(classifier, []), "per_layer": hidden["per_layer"]}

    def held_out(self, dataset: str, user: str) -> str:
        """The split that is held out. Raises BadInput, naming its `user`, where there is none."""
        if "held_out" not in self.config["datasets"][dataset]["splits"]:
            raise BadInput(f"datasets.{dataset}.splits: {user} needs the split held_out; add it")
        return "held_out"

    def split_chain(self, dataset: str, split: str) -> dict[str, Split]:
        """Just the splits that this one depends on: another one's size reruns nothing."""
        splits = self.config["datasets"][dataset]["splits"]
        chain: dict[str, Split] = {}
        while split not in BUILT_IN_SPLITS:
            if split not in splits:
                names = split_names(self.config["datasets"][dataset])
                raise BadInput(
                    f"datasets.{dataset}.splits: there is no split {split!r}; "
                    f"{suggest(split, names)}"
                )
            chain[split] = splits[split]
            split = splits[split]["of"]
        # What is held out is taken from the training part.
        origins = ("train", "held_out") if split == "train" else (split,)
        return chain | {origin: splits[origin] for origin in origins if origin in splits}

    # ------------------------------------------------------------ paths

    def images(self, dataset: str, split: str) -> str:
        return f"{self.root}/images/{dataset}/{split}.h5"

    def classifier(self, seed: str, dataset: str, name: str) -> str:
        return f"{self.root}/seed{seed}/{dataset}/classifiers/{name}.safetensors"

    def denoiser(self, seed: str, dataset: str, name: str) -> str:
        return f"{self.root}/seed{seed}/{dataset}/denoisers/{name}.safetensors"

    def adversarial(self, seed: str, dataset: str, threat: Threat, split: str) -> str:
        return f"{self.root}/seed{seed}/{dataset}/adversarial/{threat}/{split}.h5"

    def adversarial_sets(
        self, seed: str, dataset: str, threats: Iterable[Threat], split: str
    ) -> list[str]:
        return [self.adversarial(seed, dataset, threat, split) for threat in threats]

    def product(self, product: str, seed: str | int, dataset: str, **names: str) -> str:
        """The file of a stage that tables and figures read."""
        return f"{self.root}/" + product_path(product).format(seed=seed, dataset=dataset, **names)

    # ------------------------------------------------------------ inputs

    def training_images(self, dataset: str, entry: Entry) -> Inputs:
        """The images of a training, and those held out where the data set has any."""
        inputs: Inputs = {"images": self.images(dataset, entry["training"].get("split", "train"))}
        if "held_out" in self.config["datasets"][dataset]["splits"]:
            inputs["held_out"] = self.images(dataset, "held_out")
        return inputs

    def weights_job(self, kind: Kind, dataset: str, entry: Entry, settings: Settings) -> Job:
        """A job that reads an entry's weights from the file that it names."""
        inputs: Inputs = {"images": self.images(dataset, "test")}
        return Job(inputs, settings, [(kind, entry)], module="weights")

    def purifier_inputs(self, seed: str, dataset: str, purifier: Entry | None) -> Inputs:
        """The weights of a purifier's denoiser, and its calibration where it is injected."""
        if purifier is None or "denoiser" not in purifier:
            return {}
        denoiser = purifier["denoiser"]
        inputs: Inputs = {"denoiser": self.denoiser(seed, dataset, denoiser)}
        points = purifier["points"].values()
        if any("calibration" in components.signature_of("purifiers", p).injected for p in points):
            inputs["calibration"] = self.product("calibration", seed, dataset, denoiser=denoiser)
        return inputs

    def chosen(self, seed: str, dataset: str, used: Iterable[tuple[Entry | None, str]]) -> Inputs:
        """What was chosen for the entries that a job uses, each on a classifier."""
        files = {
            self.product("chosen", seed, dataset, entry=name, classifier=classifier): None
            for entry, classifier in used
            if entry is not None
            for name in sorted(choices.choosers(entry))
        }
        return {"chosen": list(files)} if files else {}

    # ------------------------------------------------------------ experiments

    def table(self, experiment: str, table: str, key: str = "") -> "Product":
        """A table's entry. Raises BadInput, naming `key`, where there is no such table."""
        tables = self.config["experiments"][experiment]["tables"]
        if table not in tables:
            raise BadInput(
                f"{key or 'experiments'}: experiment {experiment!r} has no table {table!r}; "
                f"{suggest(table, tables)}"
            )
        return tables[table]

    def product_inputs(
        self, experiment: str, entry: "Product"
    ) -> tuple[dict[str, list[str]], list[str]]:
        """The files that a table or figure reads by product, and why others are left out."""
        seeds = self.config["experiments"][experiment]["seeds"]
        combined, left_out = combinations(self.config, entry)
        inputs = {
            product: list(
                dict.fromkeys(
                    self.product(product, seed, **names) for names in of_product for seed in seeds
                )
            )
            for product, of_product in combined.items()
        }
        return inputs, left_out

    def without_crossings(self, entry: "Product") -> Settings:
        """A table's entry without its crossings: those show in its inputs."""
        return {key: value for key, value in entry.items() if key not in crossings()}

    def labels(self, experiment: str) -> tuple[Settings, tuple[Path, ...]]:
        """The labels of an experiment as settings, and their source; nothing without labels."""
        text = self.config["experiments"][experiment].get("labels")
        if text is None:
            return {}, ()
        return {"labels": text}, (locate_object(f"experiments.{experiment}.labels", text),)

    def published(
        self, experiment: str, used: Iterable[tuple[str, Entry]], table: str | None = None
    ) -> Settings:
        """The folder of published numbers, and digests of those that stand in a table or figures.

        They are the table's own, or else all of them where the code of `used` reads any. No
        settings where there are none.
        """
        folder = self.config["experiments"][experiment].get("published")
        if folder is None:
            return {}
        place = existing(folder)
        files = [place / f"{table}.csv"] if table and (place / f"{table}.csv").exists() else []
        if not files and any(_reads_published(*one) for one in used):
            files = sorted(place.glob("*.csv"))
        digests = {file.name: file_digest(file) for file in files}
        return {"published": {"folder": folder, "digests": digests}} if digests else {}


def _reads_published(kind: str, entry: Entry) -> bool:
    """Whether the experiment's code that an entry runs imports `io.published`."""
    covered, _ = closure((components.module_file(kind, entry),))
    own = (root / source for source, root in covered if root != SOURCES)
    return any((_PUBLISHED, 0) in source_of(file).imports for file in own)
