"""Denoising autoencoders against adversarial examples: five papers, one graph.

Rules know stages, the configuration knows papers. Every path below results/ is a target.
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
        [flow.targets(paper) for paper in flow.config["experiments"]],


rule dapas:
    """Denoising autoencoders trained on noise."""
    input:
        papers("dapas"),


rule propagation:
    """Layer-wise distances of adversarial and denoised images."""
    input:
        papers("propagation"),


rule feature_losses:
    """Autoencoders trained on adversarial examples."""
    input:
        papers("feature_losses"),


rule apudae:
    """Purification by reducing the reconstruction error."""
    input:
        papers("apudae"),


rule segfault:
    """Leave-one-out detection of adversarial examples."""
    input:
        papers("segfault"),
