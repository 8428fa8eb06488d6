rule rows:
    """Result files of the same images joined into one, for programs."""
    input:
        unpack(flow.inputs("rows")),
    output:
        "<results>/tables/{paper}/{rows}.parquet",
    log:
        "<logs>/rows/{paper}/{rows}.log",
    benchmark:
        "<benchmarks>/rows/{paper}/{rows}.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=minutes(60),
    params:
        settings=flow.settings("rows"),
        code=flow.code("rows"),
        files=as_options,
    shell:
        "python -P {SCRIPTS}/rows.py --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
