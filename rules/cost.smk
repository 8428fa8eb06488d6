rule cost:
    """Time and memory of leave-one-out attributions for one batch of images."""
    input:
        images=flow.files("cost", "images"),
        classifier=flow.files("cost", "classifier"),
        named=flow.named_files("cost"),
    output:
        "<results>/seed{seed}/{dataset}/cost/{attribution}/{classifier}/{split}.parquet",
    log:
        "<logs>/cost/{seed}/{dataset}/{attribution}/{classifier}/{split}.log",
    benchmark:
        "<benchmarks>/cost/{seed}/{dataset}/{attribution}/{classifier}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(60),
    params:
        script=SCRIPTS / "cost.py",
        settings=flow.settings("cost"),
        code=flow.code("cost"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
