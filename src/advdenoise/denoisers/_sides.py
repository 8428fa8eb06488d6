"""Sides that a network can halve and double back."""

from advdenoise.errors import BadInput


def check_sides(name: str, shape: tuple[int, int, int], halvings: int) -> None:
    """Raises BadInput for images [C,H,W] of sides that do not survive so many halvings."""
    step = 2**halvings
    if shape[1] % step or shape[2] % step:
        raise BadInput(
            f"{name} cannot give back images of {shape[1]}x{shape[2]}; with {halvings} halvings it "
            f"takes sides that {step} divides"
        )
