"""Hints for people who type what other separators understand, such as Demucs, Spleeter and audio-separator."""

from __future__ import annotations

from typing import Any

_SONGS = "Name the songs without an option: vocalsep SONG"
_OUTPUT = "Use -o FOLDER/ for a folder, or -o FILE for one song"
_MODEL = "Use -m NAME; 'vocalsep models' lists the models"
_TWO_STEMS = "vocalsep always separates vocals and accompaniment. Use --stem vocals, accompaniment or both"
_INSTRUMENTAL = "Use --instrumental for the song without its vocals"
_BITRATE = "Use --bitrate, as in --format mp3 --bitrate 320k"
_TEMPLATE = "Use a template: -o 'FOLDER/{song}.{stem}.{ext}'"
_CUT = "vocalsep separates whole songs. Cut the song first, for example with ffmpeg -ss and -t"
_MEMORY = "Leave it out: vocalsep works in constant memory, whatever the length of the song"
_PASSES = "Leave it out: vocalsep has no quality settings; 'vocalsep models' compares the models"
_LEVEL = "Leave it out: vocalsep keeps the song's level. --clip says what happens beyond full scale"
_LIST = "Use the command 'vocalsep models'"
_QUIET = "Use --progress bar to see more, or -q to see less"

OPTIONS = {
    "--two-stems": _TWO_STEMS,
    "--two_stems": _TWO_STEMS,
    "--stems": _TWO_STEMS,
    "--single-stem": "Use --stem vocals or --stem accompaniment",
    "--single_stem": "Use --stem vocals or --stem accompaniment",
    "--vocals": "Leave it out: vocals are the default, as with --stem vocals",
    "--vocals-only": "Leave it out: vocals are the default, as with --stem vocals",
    "--only-vocals": "Leave it out: vocals are the default, as with --stem vocals",
    "--no-vocals": _INSTRUMENTAL,
    "--no_vocals": _INSTRUMENTAL,
    "--remove-vocals": _INSTRUMENTAL,
    "--no-voice": _INSTRUMENTAL,
    "--instrumentals": _INSTRUMENTAL,
    "--backing-track": _INSTRUMENTAL,
    "--both": "Use --stem both",
    "-i": _SONGS,
    "--input": _SONGS,
    "--inputs": _SONGS,
    "--out": _OUTPUT,
    "--outdir": _OUTPUT,
    "--output-dir": _OUTPUT,
    "--output_dir": _OUTPUT,
    "--output_path": _OUTPUT,
    "--output-path": _OUTPUT,
    "--output-format": "Use --format, as in --format flac",
    "--output_format": "Use --format, as in --format flac",
    "--codec": "Use --format, as in --format mp3",
    "-c": "Use --format, as in --format mp3",
    "-f": "Use --format FORMAT for the file type, or a template for the names: -o 'FOLDER/{song}.{stem}.{ext}'",
    "--mp3": "Use --format mp3",
    "--flac": "Use --format flac",
    "--wav": "Leave it out: wav is the default, as with --format wav",
    "--ogg": "Use --format ogg",
    "--opus": "Use --format opus",
    "--m4a": "Use --format m4a",
    "--int24": "Use --subtype pcm24",
    "--float32": "Use --subtype float",
    "-b": _BITRATE,
    "--mp3-bitrate": _BITRATE,
    "--mp3_bitrate": _BITRATE,
    "--output_bitrate": _BITRATE,
    "--output-bitrate": _BITRATE,
    "--mp3-preset": _BITRATE,
    "--clip-mode": "Use --clip clamp, --clip scale or --clip error",
    "--filename": _TEMPLATE,
    "--filename_format": _TEMPLATE,
    "--custom_output_names": _TEMPLATE,
    "-n": _MODEL,
    "--name": _MODEL,
    "--model_filename": _MODEL,
    "--model-filename": _MODEL,
    "-p": _MODEL,
    "--params_filename": _MODEL,
    "--sig": _MODEL,
    "-l": _LIST,
    "--list-models": _LIST,
    "--list_models": _LIST,
    "-j": "Use --jobs N",
    "-d": "Use --device cpu or --device cuda",
    "--gpu": "Use --device cuda",
    "--cuda": "Use --device cuda",
    "--use_cuda": "Use --device cuda",
    "--cpu": "Use --device cpu",
    "--shifts": _PASSES,
    "--overlap": _PASSES,
    "--mwf": _PASSES,
    "--segment": _MEMORY,
    "--no-split": _MEMORY,
    "--chunk_duration": _MEMORY,
    "--batch-size": _MEMORY,
    "--batch_size": _MEMORY,
    "--normalization": _LEVEL,
    "--normalize": _LEVEL,
    "--sample_rate": "Leave it out: the outputs keep the song's sample rate",
    "--sample-rate": "Leave it out: the outputs keep the song's sample rate",
    "--duration": _CUT,
    "--offset": _CUT,
    "-s": _CUT,
    "-v": _QUIET,
    "--verbose": _QUIET,
    "--force": "Use --overwrite to replace existing files",
    "-y": "Use --overwrite to replace existing files",
    "--env_info": "Use the command 'vocalsep doctor'",
}
"""What to do instead, by option."""

COMMANDS = {
    "separate": "vocalsep SONG",
    "split": "vocalsep SONG",
    "isolate": "vocalsep SONG",
    "karaoke": "vocalsep SONG --karaoke",
    "list": "vocalsep models",
    "list-models": "vocalsep models",
    "version": "vocalsep --version",
    "help": "vocalsep --help",
    "evaluate": "vocalsep eval",
    "check": "vocalsep doctor",
}
"""What to type instead, by command."""


def explain_option(error: Any) -> None:
    """Add a hint to Typer's error about an unknown option, if people know the option from elsewhere."""
    hint = OPTIONS.get(getattr(error, "option_name", None) or "")
    if hint and hasattr(error, "possibilities"):  # other errors about options name an option, too
        error.message, error.possibilities = f"No such option: {error.option_name}. {hint}.", None


def explain_command(name: str) -> str:
    """Return the error message for a word that is neither a command nor a song."""
    message = f"No such command {name!r}, and no file or folder of that name."
    return f"{message} Did you mean '{COMMANDS[name]}'?" if name in COMMANDS else message
