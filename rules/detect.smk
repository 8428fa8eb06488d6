rule detect:
    """Scores of one detector entry on the features of a suite."""
    input:
        features=flow.files("detect", "features"),
        chosen=flow.files("detect", "chosen"),
        named=flow.named_files("detect"),
    output:
        "<results>/seed{seed}/{dataset}/detection/{suite}/{detector}/{attribution}/{classifier}/{split}.parquet",
    log:
        "<logs>/detect/{seed}/{dataset}/{suite}/{detector}/{attribution}/{classifier}/{split}.log",
    benchmark:
        "<benchmarks>/detect/{seed}/{dataset}/{suite}/{detector}/{attribution}/{classifier}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        script=SCRIPTS / "detect.py",
        settings=flow.settings("detect"),
        code=flow.code("detect"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
