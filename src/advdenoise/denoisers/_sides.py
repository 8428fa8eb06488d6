"""Image sides that a network restores after halving and doubling."""

from advdenoise.errors import BadInput


def check_sides(name: str, shape: tuple[int, int, int], halvings: int) -> None:
    """Raise BadInput unless `halvings` halvings divide both sides of images [C,H,W] evenly."""
    step = 2**halvings
    if shape[1] % step or shape[2] % step:
        raise BadInput(
            f"{name}: sides must be multiples of {step} for {halvings} halvings, got "
            f"{shape[1]}x{shape[2]}; choose another denoiser for this data set"
        )
