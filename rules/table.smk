rule table:
    """One table of a paper, with intervals and beside the published numbers."""
    input:
        unpack(flow.inputs("table")),
    output:
        csv=report(
            "<results>/tables/{paper}/{table}.csv",
            caption="../report/captions/table.rst",
            category="{paper}",
            labels={"table": "{table}"},
        ),
        markdown="<results>/tables/{paper}/{table}.md",
        latex="<results>/tables/{paper}/{table}.tex",
    log:
        "<logs>/table/{paper}/{table}.log",
    benchmark:
        "<benchmarks>/table/{paper}/{table}.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    params:
        settings=flow.settings("table"),
        code=flow.code("table"),
        files=as_options,
    shell:
        "python -P {SCRIPTS}/table.py --settings {params.settings:q} {params.files}"
        " --csv {output.csv} --markdown {output.markdown} --latex {output.latex}"
        " --threads {threads} --log {log}"
