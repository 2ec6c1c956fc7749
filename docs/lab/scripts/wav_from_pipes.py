"""Read wav and raw samples from a pipe with PyAV, and print how far it reads ahead and what it makes of odd headers.

python docs/lab/scripts/wav_from_pipes.py
"""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import soundfile

QUICK = {"probesize": "32", "analyzeduration": "0"}  # the least that FFmpeg offers
BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
RAW = {"PCM_U8": "u8", "PCM_16": "s16le", "FLOAT": "f32le"}


class Pipe:
    """Bytes that arrive in small pieces and cannot be sought in; counts how many were taken."""

    def __init__(self, content: bytes, piece: int = 500) -> None:
        self._content, self._piece, self.taken = io.BytesIO(content), piece, 0

    def read(self, size: int = -1) -> bytes:
        content = self._content.read(min(size, self._piece))
        self.taken += len(content)
        return content


def wav(samples: np.ndarray, rate: int, subtype: str, container: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def with_data_size(content: bytes, size: int) -> bytes:
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def with_ds64_size(content: bytes, size: int) -> bytes:
    at = content.index(b"ds64") + 16
    return content[:at] + struct.pack("<Q", size) + content[at + 8 :]


def noise(seconds: float, rate: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate), channels)).astype(np.float32)


def lag(content: bytes, step: int, rate: int, **how: object) -> float:
    """Seconds of sound that have gone in when the first samples come out, the header counted as sound."""
    pipe = Pipe(content)
    with av.open(pipe, "r", **how) as container:  # type: ignore[arg-type]
        next(container.decode(container.streams.audio[0]))
    return pipe.taken / step / rate


def samples_of(content: bytes) -> str:
    """Stated and decoded length, or the error."""
    try:
        with av.open(Pipe(content), "r", format="wav") as container:
            stream = container.streams.audio[0]
            decoded = sum(frame.samples for frame in container.decode(stream))
            return f"states {stream.duration}, decodes {decoded}"
    except av.FFmpegError as error:
        return str(error)


def differing() -> list[str]:
    """Headers and sample formats whose samples differ from those that libsndfile decodes."""
    found = []
    for container in ("WAV", "WAVEX", "RF64"):
        for subtype in BYTES:
            content = wav(1.2 * noise(1, 9_001, 2), 9_001, subtype, container)
            expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
            with av.open(Pipe(content), "r", format="wav") as file:
                parts = [frame.to_ndarray().reshape(-1, 2) for frame in file.decode(file.streams.audio[0])]
            got = np.concatenate(parts)
            if got.dtype == np.uint8:
                got = (got.astype(np.float32) - 128) / 128
            elif got.dtype.kind == "i":
                got = got / 2.0 ** (8 * got.itemsize - 1)
            if not np.array_equal(got.astype(np.float32), expected):
                found.append(f"{container} {subtype}")
    return found


def main() -> None:
    print("samples that differ from libsndfile's:", differing() or "none")
    print("\n| rate, Hz | channels | samples | wav, s | raw, s |\n|---|---|---|---|---|")
    for rate, channels, subtype in (
        (8_000, 1, "PCM_U8"),
        (8_000, 1, "PCM_16"),
        (44_100, 2, "PCM_16"),
        (48_000, 2, "FLOAT"),
    ):
        content = with_data_size(wav(noise(20, rate, channels), rate, subtype), 2**32 - 1)
        step = BYTES[subtype] * channels
        raw = content[content.index(b"data") + 8 :]
        layout = {"sample_rate": str(rate), "ch_layout": "mono" if channels == 1 else "stereo"}
        of_wav = lag(content, step, rate, format="wav", options=QUICK)
        of_raw = lag(raw, step, rate, format=RAW[subtype], options=QUICK | layout)
        print(f"| {rate} | {channels} | {subtype} | {of_wav:.2f} | {of_raw:.2f} |")
    print("\n| 9,001 samples whose header says | FFmpeg |\n|---|---|")
    long = wav(noise(1, 9_001, 2), 9_001, "PCM_16", "RF64")
    for name, content in {
        "pcm16, the true size": wav(noise(1, 9_001, 2), 9_001, "PCM_16"),
        "pcm16, twice the true size": with_data_size(wav(noise(1, 9_001, 2), 9_001, "PCM_16"), 2 * 9_001 * 4),
        "float, all ones": with_data_size(wav(noise(1, 9_001, 2), 9_001, "FLOAT"), 2**32 - 1),
        "RF64, the true size": long,
        "RF64, 0": with_ds64_size(long, 0),
        "RF64, all ones": with_ds64_size(long, 2**64 - 1),
    }.items():
        print(f"| {name} | {samples_of(content)} |")


if __name__ == "__main__":
    main()
