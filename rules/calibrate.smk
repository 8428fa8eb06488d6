rule calibrate:
    """Mean and deviation of a denoiser's reconstruction error on held-out images."""
    input:
        images=flow.files("calibrate", "images"),
        denoiser=flow.files("calibrate", "denoiser"),
        named=flow.named_files("calibrate"),
    output:
        "<results>/seed{seed}/{dataset}/denoisers/{denoiser}.calibration.json",
    log:
        "<logs>/calibrate/{seed}/{dataset}/{denoiser}.log",
    benchmark:
        "<benchmarks>/calibrate/{seed}/{dataset}/{denoiser}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(60),
    params:
        script=SCRIPTS / "calibrate.py",
        settings=flow.settings("calibrate"),
        code=flow.code("calibrate"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
