"""The calibrate stage: the reconstruction error of a denoiser on clean held-out images."""

from advdenoise.graph.jobs import Entries, Inputs, Job

OUTPUTS = ("seed{seed}/{dataset}/denoisers/{denoiser}.calibration.json",)
PRODUCT = "calibration"
FORMAT = 1


def job(entries: Entries, seed: str, dataset: str, denoiser: str) -> Job:
    """A denoiser and the images that are held out."""
    split = entries.held_out(dataset, f"denoisers.{denoiser}")
    inputs: Inputs = {
        "images": entries.images(dataset, split),
        "denoiser": entries.denoiser(seed, dataset, denoiser),
    }
    settings = entries.common(seed, dataset) | {"denoiser": entries.named("denoisers", denoiser)}
    return Job(inputs, settings, [("denoisers", entries.of("denoisers", denoiser))])
