"""A damaged file gives sound or a one-line error, whatever its format and the damage.

The cases run in a subprocess, since a crash would end the tests too. VOCALSEP_FUZZ sets the number of cases of the slow
test. VOCALSEP_FUZZ_SEED chooses other cases, and VOCALSEP_FUZZ_LAST keeps the last file.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import damage
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from vocalsep import audio
from vocalsep.audio import tags
from vocalsep.errors import AudioError

CASES, FEW_CASES = int(os.environ.get("VOCALSEP_FUZZ", "5000")), 100
MOST_SECONDS = 60  # at 48 kHz; a few kilobytes hold no more, but a damaged header may claim it
MOST_MEMORY = 8 * 2**30  # bytes of address space, most of them for libraries


@st.composite
def damaged(draw: st.DrawFn, contents: dict[str, bytes]) -> tuple[str, bytes]:
    """Change, remove, repeat or cut off some bytes of a file, mostly in its header."""
    kind = draw(st.sampled_from(sorted(contents)))
    content = bytearray(contents[kind])
    for _ in range(draw(st.integers(1, 6))):
        if not content:
            break
        near = draw(st.booleans())
        at = draw(st.integers(0, min(len(content), 200 if near else len(content)) - 1))
        if draw(st.booleans()):
            at = len(content) - 1 - at  # some formats keep their header at the end
        how = draw(st.sampled_from(["byte", "word", "cut", "out", "double", "noise"]))
        if how == "byte":
            content[at] = draw(st.integers(0, 255))
        elif how == "word":
            content[at : at + 4] = draw(st.sampled_from([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"]))
        elif how == "cut":
            del content[at:]
        elif how == "out":
            del content[at : at + draw(st.integers(1, 64))]
        elif how == "double":
            content[at:at] = content[at : at + draw(st.integers(1, 64))]
        else:
            content[at : at + 16] = random.Random(draw(st.integers(0, 2**16))).randbytes(16)
    return kind, bytes(content)


def check(folder: Path, content: bytes) -> None:
    """Read one damaged file and its tags."""
    path = folder / "x.bin"
    path.write_bytes(content)
    samples = 0
    try:
        with audio.Reader(path) as reader:
            assert reader.rate > 0
            assert reader.channels > 0
            assert reader.samples >= 0
            for block in reader:
                assert block.dtype == np.float32
                assert block.shape[0] == reader.channels
                samples += block.shape[1]
                if samples > MOST_SECONDS * 48_000:
                    break
    except AudioError as error:
        message = str(error)
    else:
        message = tags.read_tags(path)[1] or str(path)
    assert str(path) in message
    assert "\n" not in message
    assert [entry.name for entry in folder.iterdir()] == ["x.bin"]


def run_cases(cases: int) -> None:
    if sys.platform == "linux":  # a damaged header may ask for more memory than there is
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    contents = damage.make_recordings()
    with tempfile.TemporaryDirectory() as name:

        @seed(int(os.environ.get("VOCALSEP_FUZZ_SEED", "0")))
        @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(damaged(contents))
        def each(case: tuple[str, bytes]) -> None:
            Path(name, "x.bin").write_bytes(case[1])
            check(Path(name), case[1])

        try:
            each()
        except BaseException as error:
            if not isinstance(error, SystemExit):
                sys.stderr.write("".join(traceback.format_tb(error.__traceback__)[-6:]))
                sys.exit(f"{type(error).__name__}: {error}; VOCALSEP_FUZZ_LAST keeps the file")
        finally:
            if keep := os.environ.get("VOCALSEP_FUZZ_LAST"):
                shutil.copy(Path(name, "x.bin"), keep)
    print("all is well")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("cases", [FEW_CASES, pytest.param(CASES, marks=pytest.mark.slow)])
def test_damaged_files_give_sound_or_a_one_line_error(cases: int) -> None:
    code = f"""
import faulthandler, sys
faulthandler.enable()
sys.path[:0] = sys.argv[1:]
import test_fuzz
test_fuzz.run_cases({cases})
"""
    tests = Path(__file__).parents[1]
    paths = [str(tests / "audio"), str(tests / "support"), str(Path(audio.__file__).parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=60 + cases, check=False
    )
    assert (done.returncode, done.stdout) == (0, "all is well\n"), done.stderr[-4_000:]
    assert "exception being dropped" not in done.stderr  # PyAV prints this instead of raising


@pytest.mark.parametrize("rate", [1, 999, 4_000_001, 2**30])
def test_impossible_sample_rates_are_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(10), rate)
    with pytest.raises(AudioError, match=f"states a sample rate of {rate} Hz; expected 1000 to 4000000 Hz"):
        audio.Reader(tmp_path / "x.wav")


def test_blocks_with_many_channels_are_shorter(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros((20_000, 1_000), np.int16), 48_000)
    with audio.Reader(tmp_path / "x.wav") as reader:
        assert [block.shape[1] for block in reader] == [8_388, 8_388, 3_224]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_read_unchanged(tmp_path: Path, value: float) -> None:
    soundfile.write(tmp_path / "x.wav", np.array([0.5, value, -0.5], np.float32), 8_000, subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(tmp_path / "x.wav")[0][0], np.float32([0.5, value, -0.5]))
