rule attack:
    """One adversarial set: the perturbations of one attack on one victim."""
    input:
        images=flow.files("attack", "images"),
        victim=flow.files("attack", "victim"),
        surrogate=flow.files("attack", "surrogate"),
        denoiser=flow.files("attack", "denoiser"),
        calibration=flow.files("attack", "calibration"),
        through_denoiser=flow.files("attack", "through_denoiser"),
        through_calibration=flow.files("attack", "through_calibration"),
        spare=flow.files("attack", "spare"),
        chosen=flow.files("attack", "chosen"),
        named=flow.named_files("attack"),
    output:
        "<results>/seed{seed}/{dataset}/adversarial/{threat}/{split}.h5",
    log:
        "<logs>/attack/{seed}/{dataset}/{threat}/{split}.log",
    benchmark:
        "<benchmarks>/attack/{seed}/{dataset}/{threat}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=720,
    params:
        script=SCRIPTS / "attack.py",
        settings=flow.settings("attack"),
        code=flow.code("attack"),
        files=as_options,
        resume=RESUME,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} --code {params.code} {params.files}"
        " --output {output} --resume {params.resume} --threads {threads} --log {log}"
