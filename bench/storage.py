"""Size and speed of compression filters for images and perturbations.

    python -m bench.storage [--rows 4096]

Each kind of array is written to and read from HDF5 with each filter in turn. Printed are medians
over the runs: size in percent of the plain array, MB per CPU second (without the disk), and the
ratios of the project's filter to the usual gzip.

Images are crops of scikit-image's colour photographs. FGSM-like perturbations are random signs
times 8/255, clipped so that images stay in [0,1]. C&W-like perturbations are small noise, larger at
edges. Both are float32.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from advdenoise.io.hdf5 import add_array, create_hdf5, open_hdf5

RUNS = 5
CODECS = ("blosc", "gzip", "none")
LABELS = {
    "blosc": "blosc zstd1 bitshuffle",
    "gzip": "gzip4 + shuffle",
    "none": "none",
}


def photographs(rows: int, side: int = 32) -> np.ndarray:
    """Random crops of photographs, uint8 [rows, 3, side, side]."""
    from skimage import data

    pictures = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    generator = np.random.default_rng(0)
    crops = np.empty((rows, 3, side, side), np.uint8)
    for i in range(rows):
        picture = pictures[i % len(pictures)]
        top, left = (generator.integers(n - side) for n in picture.shape[:2])
        crops[i] = picture[top : top + side, left : left + side].transpose(2, 0, 1)
    return crops


def sign_like(images: np.ndarray) -> np.ndarray:
    """A perturbation like those of sign attacks, float32."""
    signs = np.random.default_rng(1).choice(np.float32([-1, 1]), images.shape)
    return np.clip(images + signs * np.float32(8 / 255), 0, 1) - images


def minimal_like(images: np.ndarray) -> np.ndarray:
    """A perturbation like those of minimal attacks, float32."""
    edges = np.abs(np.diff(images, axis=-1, append=images[..., -1:]))
    noise = np.random.default_rng(2).normal(size=images.shape).astype(np.float32)
    return np.clip(images + noise * (0.002 + 0.02 * edges), 0, 1) - images


def write(path: Path, array: np.ndarray, codec: str) -> None:
    with create_hdf5(path, {}) as file:
        if codec == "none":
            chunks = (min(128, len(array)), *array.shape[1:])
            file.create_dataset("x", data=array, chunks=chunks, fletcher32=True)
        else:
            add_array(file, "x", array, codec=codec)


def read(path: Path) -> np.ndarray:
    with open_hdf5(path) as file:
        return file["x"][...]


def cpu_seconds(function, *arguments) -> float:
    started = time.process_time()
    function(*arguments)
    return time.process_time() - started


def measure(folder: Path, array: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Size in percent and MB per CPU second of writing and of reading, by codec."""
    seconds = {codec: ([], []) for codec in CODECS}
    sizes = {}
    for _ in range(RUNS):
        for codec in CODECS:
            path = folder / f"{codec}.h5"
            seconds[codec][0].append(cpu_seconds(write, path, array, codec))
            seconds[codec][1].append(cpu_seconds(read, path))
            sizes[codec] = 100 * path.stat().st_size / array.nbytes
    return {
        codec: (sizes[codec], *(array.nbytes / 1e6 / statistics.median(x) for x in seconds[codec]))
        for codec in CODECS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096, help="images per array")
    rows = parser.parse_args().rows
    crops = photographs(rows)
    images = crops.astype(np.float32) / 255
    arrays = {
        "images, uint8": crops,
        "FGSM-like, float32": sign_like(images),
        "C&W-like, float32": minimal_like(images),
    }
    print(f"{rows} images of 3x32x32, median of {RUNS}, {os.cpu_count()} cores")
    print(f"{'array':20} {'filter':24} {'size':>7} {'write MB/s':>11} {'read MB/s':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, array in arrays.items():
            results = measure(Path(folder), array)
            for codec, (size, write_rate, read_rate) in results.items():
                rates = f"{write_rate:11.0f} {read_rate:10.0f}"
                print(f"{name:20} {LABELS[codec]:24} {size:6.1f}% {rates}")
            ours, usual = results["blosc"], results["gzip"]
            print(
                f"{name:20} ours : gzip              size x{ours[0] / usual[0]:.2f},"
                f" write x{ours[1] / usual[1]:.1f}, read x{ours[2] / usual[2]:.1f}"
            )


if __name__ == "__main__":
    main()
