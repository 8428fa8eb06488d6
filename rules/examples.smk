rule examples:
    """A handful of images with what became of them, for figures."""
    input:
        images=flow.files("examples", "images"),
        adversarial=flow.files("examples", "adversarial"),
        classifier=flow.files("examples", "classifier"),
        denoiser=flow.files("examples", "denoiser"),
        calibration=flow.files("examples", "calibration"),
        chosen=flow.files("examples", "chosen"),
        named=flow.named_files("examples"),
    output:
        "<results>/seed{seed}/{dataset}/examples/{threat}/{purifier}/{classifier}/{split}.h5",
    log:
        "<logs>/examples/{seed}/{dataset}/{threat}/{purifier}/{classifier}/{split}.log",
    benchmark:
        "<benchmarks>/examples/{seed}/{dataset}/{threat}/{purifier}/{classifier}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(60),
    params:
        script=SCRIPTS / "examples.py",
        settings=flow.settings("examples"),
        code=flow.code("examples"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
