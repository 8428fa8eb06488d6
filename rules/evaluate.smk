rule evaluate:
    """Predictions for all threats of a suite behind one purifier."""
    input:
        images=flow.files("evaluate", "images"),
        adversarial=flow.files("evaluate", "adversarial"),
        classifier=flow.files("evaluate", "classifier"),
        denoiser=flow.files("evaluate", "denoiser"),
        calibration=flow.files("evaluate", "calibration"),
        chosen=flow.files("evaluate", "chosen"),
        named=flow.named_files("evaluate"),
    output:
        "<results>/seed{seed}/{dataset}/predictions/{suite}/{purifier}/{classifier}/{split}.parquet",
    log:
        "<logs>/evaluate/{seed}/{dataset}/{suite}/{purifier}/{classifier}/{split}.log",
    benchmark:
        "<benchmarks>/evaluate/{seed}/{dataset}/{suite}/{purifier}/{classifier}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        script=SCRIPTS / "evaluate.py",
        settings=flow.settings("evaluate"),
        code=flow.code("evaluate"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
