"""Run by `tests/bench/originals.py` in an environment with demucs: export an HTDemucs, and separate a song with it.

    python demucs_net.py make MODEL.onnx SONG.wav [full]
                            an HTDemucs with random weights, smaller than the published ones without "full"
    python demucs_net.py separate MODEL.onnx SONG.wav OUT_DIR FRAMES

ONNX has no complex numbers, so the graph gets an STFT and its inverse made of convolutions.
"""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from pathlib import Path
from types import MethodType
from typing import Any

import soundfile
import torch
from demucs.apply import apply_model
from demucs.htdemucs import HTDemucs
from torch import Tensor, nn
from torch.nn import functional as F

RATE = 44_100


def build(full_size: bool) -> HTDemucs:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"channels": 48, "t_layers": 5} if full_size else {"channels": 12, "t_layers": 1}
    net = HTDemucs(
        ["drums", "bass", "other", "vocals"], segment=Fraction(39, 5), samplerate=RATE, bottom_channels=96, t_heads=4,
        **shape,
    )  # fmt: skip
    return net.eval()


class Transform(nn.Module):
    """The STFT of torch (Hann, normalised, frames not centred), real and imaginary parts apart, and its inverse."""

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        time, row = torch.arange(n_fft).double(), torch.arange(n_fft // 2 + 1).double()[:, None]
        window, angle = torch.hann_window(n_fft).double(), 2 * math.pi * row * time / n_fft
        scale = window / math.sqrt(n_fft)
        self.register_buffer("ahead", torch.cat([angle.cos(), -angle.sin()])[:, None].mul(scale).float())
        twice = torch.full_like(row, 2.0)
        twice[0] = twice[-1] = 1.0  # the other rows stand for negative frequencies as well
        self.register_buffer("back", torch.cat([angle.cos() * twice, -angle.sin() * twice])[:, None].mul(scale).float())
        self.register_buffer("square", window.square().float()[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Turn ``(n, time)`` into ``(n, 2, freq, frame)``."""
        return F.conv1d(x[:, None], self.ahead, stride=self.hop).unflatten(1, (2, -1))

    def invert(self, z: Tensor) -> Tensor:
        """Turn ``(n, 2, freq, frame)`` into ``(n, time)``."""
        total = F.conv_transpose1d(z.flatten(1, 2), self.back, stride=self.hop)
        weight = F.conv_transpose1d(torch.ones(1, 1, z.shape[-1]), self.square, stride=self.hop)
        return (total / weight.clamp(min=1e-8))[:, 0]


def make_exportable(net: HTDemucs) -> None:
    transform = Transform(net.nfft, net.hop_length)
    hop, half = net.hop_length, net.nfft // 2

    def analyse(self: HTDemucs, x: Tensor) -> Tensor:
        batch, channels, length = x.shape
        frames = math.ceil(length / hop)
        edge = hop // 2 * 3
        x = F.pad(x, (edge, edge + frames * hop - length), mode="reflect")
        x = F.pad(x, (half, half), mode="reflect").reshape(batch * channels, -1)
        z = transform(x)[:, :, :-1, 2 : 2 + frames]
        return z.reshape(batch, channels, 2, *z.shape[-2:])

    def synthesise(self: HTDemucs, z: Tensor, length: int | None = None, scale: int = 0) -> Tensor:
        batch, stems, channels = z.shape[:3]
        edge = hop // 2 * 3
        z = F.pad(z.flatten(0, 2), (2, 2, 0, 1))
        x = transform.invert(z)[:, half + edge : half + edge + length]
        return x.reshape(batch, stems, channels, -1)

    def magnitude(self: HTDemucs, z: Tensor) -> Tensor:
        return z.flatten(1, 2)

    def mask(self: HTDemucs, z: Tensor, m: Tensor) -> Tensor:
        return m.unflatten(2, (-1, 2))

    net._spec = MethodType(analyse, net)
    net._ispec = MethodType(synthesise, net)
    net._magnitude = MethodType(magnitude, net)
    net._mask = MethodType(mask, net)


def make(path: Path, full_size: bool) -> None:
    net, sample = build(full_size), torch.randn(1, 2, int(RATE * 7.8))
    with torch.no_grad():
        before = None if full_size else net(sample)
        make_exportable(net)
        torch.backends.mha.set_fastpath_enabled(False)
        if before is not None:
            error = (net(sample) - before).square().sum() / before.square().sum()
            print(f"real numbers instead of complex ones: {-10 * math.log10(float(error) + 1e-20):.1f} dB")
        torch.onnx.export(
            net, (sample,), path, input_names=["mix"], output_names=["stems"], opset_version=17, dynamo=False
        )


def separate(song: Path, out: Path) -> None:
    samples, rate = soundfile.read(song, dtype="float32", always_2d=True)
    assert rate == RATE
    with torch.no_grad():
        stems = apply_model(build(False), torch.from_numpy(samples.T.copy())[None], shifts=0, split=True, overlap=0.25)
    soundfile.write(out / "vocals.wav", stems[0, 3].T.numpy(), RATE, subtype="FLOAT")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), full_size=sys.argv[4:] == ["full"])
    else:
        separate(*map(Path, sys.argv[3:5]))
