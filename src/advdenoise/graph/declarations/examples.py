"""The examples stage: a few images with their perturbed and purified versions, for figures."""

from advdenoise.graph import threats
from advdenoise.graph.combinations import fits
from advdenoise.graph.jobs import Entries, Inputs, Job
from advdenoise.graph.threats import NO_PURIFIER

OUTPUTS = ("seed{seed}/{dataset}/examples/{threat}/{purifier}/{classifier}/{split}.h5",)
PRODUCT = "examples"
FORMAT = 1


def job(
    entries: Entries,
    seed: str,
    dataset: str,
    threat: str,
    purifier: str,
    classifier: str,
    split: str,
) -> Job:
    """A classifier behind a purifier on some images of one threat, with maps and superpixels."""
    config = entries.config
    parsed = threats.parse(threat)
    entry, denoiser = entries.purifier(purifier)
    inputs: Inputs = {
        "images": entries.images(dataset, split),
        "classifier": entries.classifier(seed, dataset, classifier),
    }
    inputs |= entries.purifier_inputs(seed, dataset, entry)
    if not parsed.is_clean:
        inputs["adversarial"] = entries.adversarial(seed, dataset, parsed, split)
    choosing = [*entries.attacks_with_victims([parsed]), (entry, classifier)]
    inputs |= entries.chosen(seed, dataset, choosing)
    options = config.get("examples", {})
    # Superpixels are computed on images as they are.
    is_original = parsed.is_clean and purifier == NO_PURIFIER
    superpixels = {
        name: entries.named("attributions", name)
        for name in (options.get("superpixels", []) if is_original else [])
        if fits(config, "attributions", name, dataset)
    }
    settings = entries.common(seed, dataset) | {
        "split": split,
        "threat": threat,
        "attacks": entries.attacks([parsed]),
        "purifier": entry,
        "denoiser": denoiser,
        "classifier": entries.named("classifiers", classifier),
        "images": options.get("images", 8),
        "superpixels": superpixels,
        # Without an attack no channel changes more than another.
        "maps": [] if parsed.is_clean else options.get("maps", {}).get(classifier, []),
    }
    used = [("classifiers", entries.of("classifiers", classifier))]
    used += [("attributions", p) for s in superpixels.values() for p in s["points"].values()]
    return Job(inputs, settings, used + entries.purifier_components(entry, denoiser))
