rule choose:
    """The values of an entry's settings that are chosen from candidates, on no test image."""
    input:
        unpack(flow.inputs("choose")),
    output:
        "<results>/seed{seed}/{dataset}/chosen/{entry}/{classifier}.json",
    log:
        "<logs>/choose/{seed}/{dataset}/{entry}/{classifier}.log",
    benchmark:
        "<benchmarks>/choose/{seed}/{dataset}/{entry}/{classifier}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        settings=flow.settings("choose"),
        code=flow.code("choose"),
        files=as_options,
    shell:
        "python -P {SCRIPTS}/choose.py --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
