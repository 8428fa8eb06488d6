rule images:
    """One split of a data set, as checksummed HDF5."""
    input:
        named=flow.named_files("images"),
    output:
        "<results>/images/{dataset}/{split}.h5",
    log:
        "<logs>/images/{dataset}/{split}.log",
    benchmark:
        "<benchmarks>/images/{dataset}/{split}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    params:
        script=SCRIPTS / "images.py",
        settings=flow.settings("images"),
        code=flow.code("images"),
        root=data_root,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} --root {params.root:q}"
        " --output {output} --threads {threads} --log {log}"
