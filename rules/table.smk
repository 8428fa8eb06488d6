rule table:
    """One table of a paper, with intervals and beside the published numbers."""
    input:
        predictions=flow.files("table", "predictions"),
        distances=flow.files("table", "distances"),
        iqr=flow.files("table", "iqr"),
        detection=flow.files("table", "detection"),
        calibration=flow.files("table", "calibration"),
        cost=flow.files("table", "cost"),
        examples=flow.files("table", "examples"),
        chosen=flow.files("table", "chosen"),
        probe=flow.files("table", "probe"),
        named=flow.named_files("table"),
    output:
        csv=report(
            "<results>/tables/{experiment}/{table}.csv",
            caption="../report/captions/table.rst",
            category="{experiment}",
            labels={"table": "{table}"},
        ),
        markdown="<results>/tables/{experiment}/{table}.md",
        latex="<results>/tables/{experiment}/{table}.tex",
    log:
        "<logs>/table/{experiment}/{table}.log",
    benchmark:
        "<benchmarks>/table/{experiment}/{table}.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    params:
        script=SCRIPTS / "table.py",
        settings=flow.settings("table"),
        code=flow.code("table"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --csv {output.csv} --markdown {output.markdown} --latex {output.latex}"
        " --threads {threads} --log {log}"
