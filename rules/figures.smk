for experiment in flow.experiments_with_figures():

    rule:
        name:
            f"figures_{experiment}"
        input:
            flow.job("figures", {"experiment": experiment}).inputs["files"],
        output:
            [
                report(
                    path,
                    caption="../report/captions/figure.rst",
                    category=experiment,
                    labels={"figure": name},
                )
                for name, path in flow.figures(experiment).items()
            ],
        log:
            f"<logs>/figures/{experiment}.log",
        benchmark:
            f"<benchmarks>/figures/{experiment}.tsv"
        localrule: True
        conda:
            "../envs/run.yaml"
        threads: 1
        resources:
            mem_mb=memory(4000),
            runtime=minutes(60),
        params:
            settings=flow.settings("figures", experiment=experiment),
            code=flow.code("figures", experiment=experiment),
        shell:
            "python -P {SCRIPTS}/figures.py --settings {params.settings:q}"
            " --output {output} --threads {threads} --log {log}"
