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
include: "rules/images.smk"
include: "rules/train_classifier.smk"
include: "rules/attack.smk"
include: "rules/choose.smk"
include: "rules/train_denoiser.smk"
include: "rules/calibrate.smk"
include: "rules/evaluate.smk"
include: "rules/distances.smk"
include: "rules/iqr.smk"
include: "rules/cost.smk"
include: "rules/detect.smk"
include: "rules/examples.smk"
include: "rules/export.smk"
include: "rules/table.smk"
include: "rules/rows.smk"
include: "rules/figures.smk"


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
