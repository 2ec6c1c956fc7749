"""The post-processor for yt-dlp, with stand-ins for yt-dlp's classes, and with yt-dlp itself if it is here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import fake_nets
import pytest
import soundfile
import synthetic_songs
from command_line import SOURCE, make_environment

PLUGIN = SOURCE / "vocalsep" / "yt_dlp_plugins" / "postprocessor" / "vocalsep.py"


class PostProcessor:
    """What the plugin uses of yt-dlp's class of this name."""

    def __init__(self, downloader: Any) -> None:
        self.downloader = downloader
        self.said: list[str] = []

    def to_screen(self, text: str) -> None:
        self.said.append(text)

    def report_warning(self, text: str) -> None:
        self.said.append(f"warning: {text}")


class PostProcessingError(Exception):
    """Stands for yt-dlp's error of this name."""


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plugin's module, loaded over the stand-ins."""
    common = types.ModuleType("yt_dlp.postprocessor.common")
    common.PostProcessor = PostProcessor  # type: ignore[attr-defined]
    utils = types.ModuleType("yt_dlp.utils")
    utils.PostProcessingError = PostProcessingError  # type: ignore[attr-defined]
    for name in ("yt_dlp", "yt_dlp.postprocessor"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "yt_dlp.postprocessor.common", common)
    monkeypatch.setitem(sys.modules, "yt_dlp.utils", utils)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    spec = importlib.util.spec_from_file_location("vocalsep_plugin", PLUGIN)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return synthetic_songs.write(tmp_path / "-a song.wav", 0.1 * fake_nets.noise(2, 8_000).T, 8_000)


def test_the_wheel_holds_it_where_yt_dlp_looks() -> None:
    settings = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["vocalsep/yt_dlp_plugins"] == "yt_dlp_plugins"
    assert not list(PLUGIN.parents[1].rglob("__init__.py"))  # the folder is shared by all plug-ins


def test_it_separates_the_file_and_passes_options_on(plugin: Any, song: Path, model: Path) -> None:
    info = {"filepath": str(song)}
    made = plugin.VocalsepPP(None, stem="both", format="flac", model=str(model), overwrite="yes", gate="no")
    assert made.run(info) == ([], info)
    written = [song.with_name(f"-a song.{stem}.flac") for stem in ("vocals", "accompaniment")]
    assert made.said == [f"Destination: {path}" for path in written]
    assert [soundfile.info(path).frames for path in written] == [8_000] * 2
    assert song.exists()


def test_errors_of_vocalsep_become_those_of_yt_dlp(plugin: Any, song: Path, model: Path) -> None:
    made = plugin.VocalsepPP(None, model=str(model))
    with pytest.raises(PostProcessingError, match=r"no\.wav: no such file"):
        made.run({"filepath": str(song.with_name("no.wav"))})
    with pytest.raises(PostProcessingError, match=r"^vocalsep: No such option: --two-stems\. vocalsep always"):
        plugin.VocalsepPP(None, two_stems="vocals").run({"filepath": str(song)})


def test_yt_dlp_finds_it_and_runs_it(song: Path, model: Path) -> None:
    pytest.importorskip("yt_dlp")
    options = f"Vocalsep:when=after_move;karaoke=yes;format=flac;model={model}"
    command = ["-m", "yt_dlp", "--enable-file-urls", "--use-postprocessor", options, "-o", "%(title)s.%(ext)s"]
    folders = [str(SOURCE), str(PLUGIN.parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = make_environment() | {"PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(
        [sys.executable, *command, song.as_uri()],
        cwd=song.parent,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (written,) = song.parent.glob("*.accompaniment.flac")
    assert f"[Vocalsep] Destination: {written.name}" in done.stdout.replace(f"{song.parent}/", "")
    assert soundfile.info(written).frames == 8_000
