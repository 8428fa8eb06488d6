rule iqr:
    """Interquartile ranges of leave-one-out attributions, all representations."""
    input:
        images=flow.files("iqr", "images"),
        adversarial=flow.files("iqr", "adversarial"),
        classifier=flow.files("iqr", "classifier"),
        chosen=flow.files("iqr", "chosen"),
        named=flow.named_files("iqr"),
    output:
        "<results>/seed{seed}/{dataset}/iqr/{threat}/{attribution}/{classifier}/{split}.parquet",
    log:
        "<logs>/iqr/{seed}/{dataset}/{threat}/{attribution}/{classifier}/{split}.log",
    benchmark:
        "<benchmarks>/iqr/{seed}/{dataset}/{threat}/{attribution}/{classifier}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(720),
    params:
        script=SCRIPTS / "iqr.py",
        settings=flow.settings("iqr"),
        code=flow.code("iqr"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
