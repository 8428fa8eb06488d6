rule limits:
    """How far an attack with a stop rule goes under each limit of its steps."""
    input:
        unpack(flow.inputs("limits")),
    output:
        "<results>/seed{seed}/{dataset}/limits/{threat}/{split}.parquet",
    log:
        "<logs>/limits/{seed}/{dataset}/{threat}/{split}.log",
    benchmark:
        "<benchmarks>/limits/{seed}/{dataset}/{threat}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        settings=flow.settings("limits"),
        code=flow.code("limits"),
        files=as_options,
    shell:
        "python -m scripts.limits --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
