"""The number of steps of Kurakin et al. (2017). Does not import torch."""


def kurakin_steps(epsilon: float) -> int:
    """The steps for a budget `epsilon` in pixel units (Cho et al. 2020, section on attacks).

    With E = 255 epsilon: min(E + 2, 4 E) for epsilon <= 0.008, else min(E + 4, 1.24 E), rounded
    down.
    """
    epsilon = round(epsilon, 7)  # so that float32's 0.008 still counts as <= 0.008
    levels = 255 * epsilon
    return int(min(levels + 2, 4 * levels) if epsilon <= 0.008 else min(levels + 4, 1.24 * levels))
