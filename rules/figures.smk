for paper in flow.papers_with_figures():

    rule:
        name:
            f"figures_{paper}"
        input:
            flow.job("figures", {"paper": paper}).inputs["files"],
        output:
            [
                report(
                    path,
                    caption="../report/captions/figure.rst",
                    category=paper,
                    labels={"figure": name},
                )
                for name, path in flow.figures(paper).items()
            ],
        log:
            f"<logs>/figures/{paper}.log",
        benchmark:
            f"<benchmarks>/figures/{paper}.tsv"
        localrule: True
        conda:
            "../envs/run.yaml"
        threads: 1
        resources:
            mem_mb=memory(4000),
            runtime=minutes(60),
        params:
            settings=flow.settings("figures", paper=paper),
            code=flow.code("figures", paper=paper),
        shell:
            "python -P {SCRIPTS}/figures.py --settings {params.settings:q}"
            " --output {output} --threads {threads} --log {log}"
