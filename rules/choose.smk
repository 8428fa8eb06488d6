rule choose:
    """The values of an entry's settings that are chosen from candidates, on no test image."""
    input:
        images=flow.files("choose", "images"),
        victim=flow.files("choose", "victim"),
        surrogate=flow.files("choose", "surrogate"),
        denoiser=flow.files("choose", "denoiser"),
        calibration=flow.files("choose", "calibration"),
        chosen=flow.files("choose", "chosen"),
        named=flow.named_files("choose"),
    output:
        "<results>/seed{seed}/{dataset}/chosen/{entry}/{classifier}.json",
    log:
        "<logs>/choose/{seed}/{dataset}/{entry}/{classifier}.log",
    benchmark:
        "<benchmarks>/choose/{seed}/{dataset}/{entry}/{classifier}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        script=SCRIPTS / "choose.py",
        settings=flow.settings("choose"),
        code=flow.code("choose"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
