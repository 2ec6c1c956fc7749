"""Run by the benchmarks beside this folder, in environments with other programs: separate a song with a model.

    python separate.py audio-separator MODEL.onnx SONG.wav OUT_DIR FRAMES
    python separate.py sherpa-onnx MODEL.onnx SONG.wav OUT_DIR FRAMES

FRAMES is the number of STFT frames that the model takes at a time.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import ModuleType


def run_audio_separator(path: Path, song: Path, out: Path, frames: int) -> None:
    kinds = ("vr", "mdx", "demucs", "mdx23c", "roformer")
    lists = {f"{kind}_download{vip}_list": {} for kind in kinds for vip in ("", "_vip")}
    lists["mdx_download_list"] = {"Test": path.name}
    for name, values in (("vr_model_data.json", {}), ("download_checks.json", lists)):  # it would download them
        (path.parent / name).write_text(json.dumps(values))
    # It converts models of other chunk sizes, needs torchvision, and is not used for models of the size given.
    sys.modules["onnx2torch"] = ModuleType("onnx2torch")
    from audio_separator.separator import Separator

    parameters = {"hop_length": 1024, "segment_size": frames, "overlap": 0.25, "batch_size": 1, "enable_denoise": False}
    separator = Separator(
        log_level=logging.WARNING, model_file_dir=str(path.parent), output_dir=str(out), output_format="WAV",
        normalization_threshold=1.0, output_single_stem="Vocals", use_soundfile=True, mdx_params=parameters,
    )  # fmt: skip
    separator.load_model(model_filename=path.name)
    separator.separate(str(song), {"Vocals": "vocals"})


def run_sherpa_onnx(path: Path, song: Path, out: Path, frames: int) -> None:
    del frames  # the model says so
    import numpy as np
    import sherpa_onnx
    import soundfile

    net = sherpa_onnx.OfflineSourceSeparationUvrModelConfig(model=str(path))
    model = sherpa_onnx.OfflineSourceSeparationModelConfig(uvr=net, num_threads=1)
    separation = sherpa_onnx.OfflineSourceSeparation(sherpa_onnx.OfflineSourceSeparationConfig(model=model))
    samples, rate = soundfile.read(song, dtype="float32", always_2d=True)
    found = separation.process(sample_rate=rate, samples=np.ascontiguousarray(samples.T))
    soundfile.write(out / "vocals.wav", np.array(found.stems[0].data).T, found.sample_rate, subtype="FLOAT")


if __name__ == "__main__":
    program, model, song, out, frames = sys.argv[1:]
    run = {"audio-separator": run_audio_separator, "sherpa-onnx": run_sherpa_onnx}[program]
    run(Path(model), Path(song), Path(out), int(frames))
