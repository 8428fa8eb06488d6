"""Printed names of "Feature Losses"."""

from advdenoise.reporting.labels import Labels

LABELS = Labels(paper="Feature Losses")
