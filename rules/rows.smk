rule rows:
    """Result files of the same images joined into one, for programs."""
    input:
        predictions=flow.files("rows", "predictions"),
        distances=flow.files("rows", "distances"),
        iqr=flow.files("rows", "iqr"),
        detection=flow.files("rows", "detection"),
        calibration=flow.files("rows", "calibration"),
        cost=flow.files("rows", "cost"),
        examples=flow.files("rows", "examples"),
        chosen=flow.files("rows", "chosen"),
        probe=flow.files("rows", "probe"),
        named=flow.named_files("rows"),
    output:
        "<results>/tables/{experiment}/{rows}.parquet",
    log:
        "<logs>/rows/{experiment}/{rows}.log",
    benchmark:
        "<benchmarks>/rows/{experiment}/{rows}.tsv"
    localrule: True
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=minutes(60),
    params:
        script=SCRIPTS / "rows.py",
        settings=flow.settings("rows"),
        code=flow.code("rows"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
