"""Sides of images that a network of five poolings and upsamplings restores."""

from collections.abc import Sequence

from advdenoise.errors import BadInput

STEP = 32
# The longest side that a setting may ask for; one image takes 50 MB.
LONGEST = 128 * STEP + 1


def check_sides(where: str, height: int, width: int) -> None:
    """Raise BadInput, beginning with `where`, unless both sides are 32k+1 and at most LONGEST."""
    if max(height, width) > LONGEST:
        raise BadInput(f"{where}: sides must be at most {LONGEST}, got {height}x{width}")
    if any(side <= STEP or side % STEP != 1 for side in (height, width)):
        raise BadInput(
            f"{where}: sides must be 32k+1, such as 129, 353, 481 and 513, got {height}x{width}; "
            "with others the shapes of skip connections do not match"
        )


def both(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of a size, which is one number for both or a pair."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
