"""Targets and a configuration, as Snakemake takes them, and their jobs."""

import argparse

from advdenoise.graph import configuration, yaml_files
from advdenoise.graph.flow import Flow
from tools.plan import listing
from tools.plan.extents import Extents
from tools.plan.listing import PlannedJob
from tools.plan.work import Counting, Facts


def parser(description: str) -> argparse.ArgumentParser:
    """The options that are Snakemake's."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("targets", nargs="*", help="as Snakemake takes them; all by default")
    options.add_argument("--configfile", nargs="+", default=[], help="configuration files")
    options.add_argument("--config", nargs="+", default=[], help="name=value over the files")
    return options


class Request:
    """The graph of the configuration asked for, its jobs and how their work is counted.

    Raises BadInput where the configuration or a target is not what it should be.
    """

    def __init__(
        self, targets: list[str], configfiles: list[str], overrides: list[str], facts: Facts
    ):
        self.flow = Flow(configuration.read(yaml_files.requested(configfiles, overrides)))
        self.extents = Extents(self.flow.config)
        self.counting = Counting(self.flow, self.extents, facts)
        self._arguments = targets, configfiles, overrides
        self._listed: dict[bool, list[PlannedJob]] = {}

    def jobs(self, everything: bool) -> list[PlannedJob]:
        """The jobs that a run would have; with `everything` also those that have run."""
        if everything not in self._listed:
            self._listed[everything] = listing.dry_run(*self._arguments, everything)
        return self._listed[everything]
