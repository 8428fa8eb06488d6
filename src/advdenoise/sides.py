"""Sides of images that networks of five halvings and doublings give back."""

from collections.abc import Sequence

from advdenoise.errors import BadInput

STEP = 32
# A side beyond it is a mistake: one image would take 50 MB.
LONGEST = 128 * STEP + 1


def check_sides(where: str, height: int, width: int) -> None:
    """Raises BadInput, which begins with `where`, unless both sides are 32k+1, at most LONGEST."""
    if max(height, width) > LONGEST:
        raise BadInput(f"{where}: images of {height}x{width}; sides are at most {LONGEST}")
    if any(side <= STEP or side % STEP != 1 for side in (height, width)):
        raise BadInput(
            f"{where}: images of {height}x{width}; sides are 32k+1, such as 513, 353 and 481 or "
            "129: with others the skips do not close"
        )


def both(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of a size, which is one side for both or the two."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
