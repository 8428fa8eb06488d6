rule probe:
    """What a classifier behind a purifier does on a few images, for flags."""
    input:
        images=flow.files("probe", "images"),
        classifier=flow.files("probe", "classifier"),
        denoiser=flow.files("probe", "denoiser"),
        calibration=flow.files("probe", "calibration"),
        chosen=flow.files("probe", "chosen"),
        named=flow.named_files("probe"),
    output:
        "<results>/seed{seed}/{dataset}/probes/{purifier}/{classifier}/{split}.json",
    log:
        "<logs>/probe/{seed}/{dataset}/{purifier}/{classifier}/{split}.log",
    benchmark:
        "<benchmarks>/probe/{seed}/{dataset}/{purifier}/{classifier}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(60),
    params:
        script=SCRIPTS / "probe.py",
        settings=flow.settings("probe"),
        code=flow.code("probe"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
