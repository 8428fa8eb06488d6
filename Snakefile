"""Denoising autoencoders against adversarial examples: five papers, one graph.

Rules know stages, the configuration knows experiments, whose names are targets. So is every path
below results/.
"""

from snakemake.utils import min_version

min_version("9.27")

# Snakemake joins paths of the root folder of a git+file:// repository with a slash before them.
if hasattr(workflow.current_basedir, "repo_path"):
    workflow.included_stack[-1].path = "./Snakefile"


include: "rules/common.smk"


for stage in stages():

    include: f"rules/{stage}.smk"


report: "report/workflow.rst"


rule all:
    """Every table and figure of every experiment."""
    default_target: True
    input:
        [flow.targets(name) for name in flow.config["experiments"]],


for name, experiment in flow.config["experiments"].items():

    rule:
        name:
            name
        input:
            targets(name),

    set_docstring(name, experiment.get("title"))
