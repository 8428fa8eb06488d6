rule distances:
    """Layer-wise distances to the clean image for a suite's threats and purifiers."""
    input:
        images=flow.files("distances", "images"),
        adversarial=flow.files("distances", "adversarial"),
        classifier=flow.files("distances", "classifier"),
        denoiser=flow.files("distances", "denoiser"),
        calibration=flow.files("distances", "calibration"),
        chosen=flow.files("distances", "chosen"),
        named=flow.named_files("distances"),
    output:
        "<results>/seed{seed}/{dataset}/distances/{suite}/{classifier}/{split}.parquet",
    log:
        "<logs>/distances/{seed}/{dataset}/{suite}/{classifier}/{split}.log",
    benchmark:
        "<benchmarks>/distances/{seed}/{dataset}/{suite}/{classifier}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        script=SCRIPTS / "distances.py",
        settings=flow.settings("distances"),
        code=flow.code("distances"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
