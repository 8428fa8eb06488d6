for experiment in flow.experiments_with_figures():

    rule:
        name:
            f"figures_{experiment}"
        input:
            files=flow.job("figures", {"experiment": experiment}).inputs["files"],
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
            script=SCRIPTS / "figures.py",
            settings=flow.settings("figures", experiment=experiment),
            code=flow.code("figures", experiment=experiment),
            files=as_options,
        shell:
            "python -P {params.script:q} --settings {params.settings:q} {params.files}"
            " --output {output} --threads {threads} --log {log}"
