rule train_denoiser:
    """One trained denoiser and its history."""
    input:
        images=flow.files("train_denoiser", "images"),
        held_out=flow.files("train_denoiser", "held_out"),
        adversarial=flow.files("train_denoiser", "adversarial"),
        chosen=flow.files("train_denoiser", "chosen"),
        network=flow.files("train_denoiser", "network"),
        start=flow.files("train_denoiser", "start"),
        named=flow.named_files("train_denoiser"),
    output:
        weights=weights("<results>/seed{seed}/{dataset}/denoisers/{denoiser}.safetensors"),
        history="<results>/seed{seed}/{dataset}/denoisers/{denoiser}.history.parquet",
    log:
        "<logs>/train_denoiser/{seed}/{dataset}/{denoiser}.log",
    benchmark:
        "<benchmarks>/train_denoiser/{seed}/{dataset}/{denoiser}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=1200,
    params:
        script=SCRIPTS / "train_denoiser.py",
        settings=flow.settings("train_denoiser"),
        code=flow.code("train_denoiser"),
        files=as_options,
        resume=RESUME,
    shell:
        "python -P {params.script:q} --settings {params.settings:q} --code {params.code} {params.files}"
        " --weights {output.weights} --history {output.history} --resume {params.resume} --threads {threads} --log {log}"
