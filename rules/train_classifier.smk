rule train_classifier:
    """One trained classifier and its history."""
    input:
        images=flow.files("train_classifier", "images"),
        held_out=flow.files("train_classifier", "held_out"),
        classes=flow.files("train_classifier", "classes"),
        start=flow.files("train_classifier", "start"),
        named=flow.named_files("train_classifier"),
    output:
        weights=weights("<results>/seed{seed}/{dataset}/classifiers/{classifier}.safetensors"),
        history="<results>/seed{seed}/{dataset}/classifiers/{classifier}.history.parquet",
    log:
        "<logs>/train_classifier/{seed}/{dataset}/{classifier}.log",
    benchmark:
        "<benchmarks>/train_classifier/{seed}/{dataset}/{classifier}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=1200,
    params:
        script=SCRIPTS / "train_classifier.py",
        settings=flow.settings("train_classifier"),
        code=flow.code("train_classifier"),
        files=as_options,
        resume=RESUME,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} --code {params.code} {params.files}"
        " --weights {output.weights} --history {output.history} --resume {params.resume} --threads {threads} --log {log}"
