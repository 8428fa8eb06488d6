"""Printed names of "DAPAS"."""

from advdenoise.reporting.labels import Labels

LABELS = Labels(paper="DAPAS")
NOISES = {"noise.gaussian": "Gaussian", "noise.uniform": "Uniform", "noise.bimodal": "Bimodal"}
