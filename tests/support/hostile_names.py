"""Names with control characters and worse: in JSON, in text for people, in templates, as songs."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

from cases import Case, require_clean

from vocalsep import files, text
from vocalsep.cli.batch import inputs, naming


def set_up(folder: Path) -> Case:
    """Return a case: a name that is shown, stored, and used in templates and patterns."""
    letters = [
        "a",
        "é",
        "\x1b[31m",
        "\x07",
        "\n",
        "\x9b",
        "\x7f",
        "\u202e",
        "..",
        "/",
        "{song}",
        "}",
        "\udcff",
        "*",
        "[",
        "~",
    ]

    def case(rng: random.Random, folder: Path) -> None:
        name = "".join(rng.choice(letters) for _ in range(rng.randint(1, 9)))
        shown = text.escape(name)
        assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 or letter == "\u202e" for letter in shown)
        line = files.dump_json({"name": name})
        assert json.loads(line) == {"name": name}
        assert text.escape(line) == line
        song = inputs.Song(path=folder / name.replace("/", "_"))
        with contextlib.suppress(naming.Misuse):
            rule = naming.Naming(places={"vocals": f"{folder}/out/{{song}}.{name}.{{ext}}"})

            def fill() -> None:
                (path,) = rule.name_outputs(song).values()
                assert isinstance(path, Path)
                assert ".." in name or path.resolve().is_relative_to(folder.resolve())

            require_clean(fill)
        if ".." not in name:
            inputs.find([str(folder / name.replace("/", "_"))], recursive=True)

    return case
