"""Run by `tests/bench/originals.py` in an environment with audio-separator: make an MDX-Net model.

    python mdx.py MODEL.onnx SONG.wav

It is a TFC-TDF net of UVR's shape with random weights, and the JSON file beside it has the parameters.

The net follows W. Choi, M. Kim, J. Chung and S. Jung, "LaSAFT", 2021, and M. Kim et al., "KUIELab-MDX-Net", 2021.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import soundfile
import torch
from torch import Tensor, nn

ROWS, FRAMES, N_FFT = 2_048, 256, 6_144


class Block(nn.Module):
    """Convolutions over time and frequency, then fully connected layers over frequency."""

    def __init__(self, channels: int, rows: int, layers: int, bottleneck: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential()
        for _ in range(layers):
            self.convolutions += nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
            )
        self.dense = nn.Sequential(
            nn.Linear(rows, rows // bottleneck), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Linear(rows // bottleneck, rows), nn.BatchNorm2d(channels), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolutions(x)
        return x + self.dense(x)


class TfcTdf(nn.Module):
    """A U-Net of blocks, whose ways across are products."""

    def __init__(self, growth: int, depth: int, layers: int = 3, bottleneck: int = 8) -> None:
        super().__init__()
        widths = [growth * (level + 1) for level in range(depth + 1)]
        rows = [ROWS >> level for level in range(depth + 1)]
        self.enter = nn.Sequential(nn.Conv2d(4, growth, 1), nn.BatchNorm2d(growth), nn.ReLU())
        self.down = nn.ModuleList(Block(widths[i], rows[i], layers, bottleneck) for i in range(depth))
        self.shrink = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[i], widths[i + 1], 2, 2), nn.BatchNorm2d(widths[i + 1]), nn.ReLU())
            for i in range(depth)
        )
        self.middle = Block(widths[depth], rows[depth], layers, bottleneck)
        self.grow = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(widths[i + 1], widths[i], 2, 2), nn.BatchNorm2d(widths[i]), nn.ReLU())
            for i in range(depth)
        )
        self.up = nn.ModuleList(Block(widths[i], rows[i], layers, bottleneck) for i in range(depth))
        self.leave = nn.Conv2d(growth, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, across = self.enter(x.transpose(-1, -2)), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            across.append(block(y))
            y = shrink(across[-1])
        y = self.middle(y)
        for block, grow, kept in zip(reversed(self.up), reversed(self.grow), reversed(across), strict=True):
            y = block(grow(y) * kept)
        return self.leave(y).transpose(-1, -2)


def make(path: Path, song: Path, growth: int = 8, depth: int = 3) -> None:
    torch.manual_seed(0)
    net = TfcTdf(growth, depth)
    sample = transform(torch.from_numpy(soundfile.read(song, dtype="float32", always_2d=True)[0].T.copy()))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net(sample)  # fills the statistics of the batch norms, so that the vocals are about as loud as the song
        net.eval()
        net.leave.weight.mul_(float(sample.std() / net(sample).std()) / 2)
    torch.onnx.export(
        net, (sample,), path, input_names=["input"], output_names=["output"], dynamo=False,
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
    )  # fmt: skip
    content = path.read_bytes()
    entry = {
        "compensate": 1.035,
        "mdx_dim_f_set": ROWS,
        "mdx_dim_t_set": FRAMES.bit_length() - 1,
        "mdx_n_fft_scale_set": N_FFT,
        "primary_stem": "Vocals",
    }
    known = {hashlib.md5(content[-10_000 * 1_024 :]).hexdigest(): entry}
    (path.parent / "mdx_model_data.json").write_text(json.dumps(known))


def transform(song: Tensor) -> Tensor:
    """Return the spectrum of the song's first chunk, as the net gets it."""
    spectrum = torch.stft(song, N_FFT, 1_024, window=torch.hann_window(N_FFT), return_complex=True)
    return torch.view_as_real(spectrum)[:, :ROWS, :FRAMES].permute(0, 3, 1, 2).reshape(1, 4, ROWS, FRAMES)


if __name__ == "__main__":
    make(*map(Path, sys.argv[1:]))
