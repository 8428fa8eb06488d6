rule export:
    """An image set as plain images and labels that bare h5py reads."""
    input:
        images=flow.files("export", "images"),
        adversarial=flow.files("export", "adversarial"),
        chosen=flow.files("export", "chosen"),
        named=flow.named_files("export"),
    output:
        "<results>/seed{seed}/{dataset}/exported/{threat}/{split}.h5",
    log:
        "<logs>/export/{seed}/{dataset}/{threat}/{split}.log",
    benchmark:
        "<benchmarks>/export/{seed}/{dataset}/{threat}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        script=SCRIPTS / "export.py",
        settings=flow.settings("export"),
        code=flow.code("export"),
        files=as_options,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} {params.files}"
        " --output {output} --threads {threads} --log {log}"
