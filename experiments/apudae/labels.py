"""Printed names of "APuDAE"."""

from advdenoise.reporting.labels import Labels

LABELS = Labels(paper="APuDAE", attacks={"gradient.margin_pgd": "CW", "noise.uniform": "random"})
