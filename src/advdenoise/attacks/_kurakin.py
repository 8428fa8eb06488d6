"""How many steps Kurakin et al. (2017) take for a budget, known without torch."""


def kurakin_steps(epsilon: float) -> int:
    """With E = 255 epsilon, min(E + 2, 4 E) for epsilon up to 0.008, else min(E + 4, 1.24 E).

    Rounded down; the form that DAPAS, section on attacks, uses.
    """
    epsilon = round(epsilon, 7)  # 0.008 that was stored as float32 is still "up to 0.008"
    levels = 255 * epsilon
    return int(min(levels + 2, 4 * levels) if epsilon <= 0.008 else min(levels + 4, 1.24 * levels))
