from __future__ import annotations

import copy
import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep import config
from vocalsep.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Loop:
    steps: int = 100
    learning_rate: float = 1e-3
    resume: bool = False
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError("a loop needs steps >= 1")


@dataclass(frozen=True, kw_only=True)
class Folder:
    root: str
    layout: Literal["stems", "voices"] = "stems"


@dataclass(frozen=True, kw_only=True)
class Plan:
    name: str
    loop: Loop = field(default_factory=Loop)
    folders: tuple[Folder, ...] = ()
    widths: tuple[int, ...] = (1, 2)
    note: str | None = None
    remarks: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    computed: int = field(default=7, init=False)


# build


def test_missing_fields_keep_their_defaults() -> None:
    assert config.build(Plan, {"name": "a"}) == Plan(name="a")


def test_nested_tables_and_lists_of_tables_become_dataclasses() -> None:
    plan = config.build(
        Plan,
        {
            "name": "a",
            "loop": {"steps": 5, "betas": [0.5, 1]},
            "folders": [{"root": "x", "layout": "voices"}, {"root": "y"}],
            "widths": [4, 8, 16],
            "note": "n",
            "options": {"width": 3, "deep": {"er": 1}},
        },
    )
    assert plan == Plan(
        name="a",
        loop=Loop(steps=5, betas=(0.5, 1.0)),
        folders=(Folder(root="x", layout="voices"), Folder(root="y")),
        widths=(4, 8, 16),
        note="n",
        options={"width": 3, "deep": {"er": 1}},
    )
    assert isinstance(plan.folders, tuple)
    assert isinstance(plan.widths, tuple)


def test_an_integer_is_accepted_for_a_float_and_becomes_one() -> None:
    loop = config.build(Loop, {"learning_rate": 1, "betas": [0, 1]})
    assert (loop.learning_rate, loop.betas) == (1.0, (0.0, 1.0))
    assert {type(value) for value in (loop.learning_rate, *loop.betas)} == {float}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a", "lop": {}}, r"unknown setting 'lop'; did you mean 'loop'\?"),
        (
            {"name": "a", "loop": {"learning_rat": 1}},
            r"'loop.learning_rat'; did you mean 'loop.learning_rate'\?",
        ),
        (
            {"name": "a", "folders": [{"root": "x"}, {"rot": "x"}]},
            r"'folders\[1\].rot'; did you mean 'folders\[1\].root'\?",
        ),
        ({"name": "a", "computed": 8}, "unknown setting 'computed'"),
        ({"name": "a", "qqqq": 8}, "unknown setting 'qqqq'; known: folders, loop"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build(Plan, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": True}, "^loop.steps = True: expected int$"),
        ({"steps": 1.0}, "^loop.steps = 1.0: expected int$"),
        ({"steps": "1"}, "^loop.steps = '1': expected int$"),
        ({"steps": None}, "^loop.steps = None: expected int$"),
        ({"learning_rate": True}, "^loop.learning_rate = True: expected float$"),
        ({"learning_rate": "fast"}, "^loop.learning_rate = 'fast': expected float$"),
        ({"resume": 1}, "^loop.resume = 1: expected bool$"),
        ({"resume": "true"}, "^loop.resume = 'true': expected bool$"),
        ({"betas": [0.9]}, r"^loop.betas = \[0.9\]: expected tuple\[float, float\]$"),
        ({"betas": [0.9, 0.9, 0.9]}, r"^loop.betas = .*: expected tuple\[float, float\]$"),
        ({"betas": 0.9}, r"^loop.betas = 0.9: expected tuple\[float, float\]$"),
        ({"betas": [0.9, "x"]}, r"^loop.betas\[1\] = 'x': expected float$"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build(Plan, {"name": "a", "loop": values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": 3}, "^name = 3: expected str$"),
        ({"name": "a", "loop": 3}, "^loop = 3: expected Loop$"),
        ({"name": "a", "folders": [3]}, r"^folders\[0\] = 3: expected Folder$"),
        ({"name": "a", "folders": {"root": "x"}}, "^folders = .*: expected tuple"),
        (
            {"name": "a", "folders": [{"root": "x", "layout": "stem"}]},
            r"^folders\[0\].layout = 'stem': expected one of 'stems', 'voices'$",
        ),
        ({"name": "a", "note": 3}, "^note = 3: expected str$"),
        ({"name": "a", "options": [1]}, r"^options = \[1\]: expected dict"),
        ({"name": "a", "remarks": "x"}, r"^remarks = 'x': expected list"),
        ({"name": "a", "remarks": ["x", 1]}, r"^remarks\[1\] = 1: expected str$"),
    ],
)
def test_a_value_of_the_wrong_shape_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build(Plan, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "^setting name is missing$"),
        ({"name": "a", "folders": [{"root": "x"}, {}]}, r"^setting folders\[1\].root is missing$"),
    ],
)
def test_a_missing_setting_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build(Plan, values)


def test_a_value_that_the_class_rejects_is_refused() -> None:
    with pytest.raises(ConfigError, match="steps >= 1"):
        config.build(Plan, {"name": "a", "loop": {"steps": 0}})


def test_build_shares_no_table_with_its_input() -> None:
    values = {"name": "a", "options": {"width": 1}}
    config.build(Plan, values).options["width"] = 2
    assert values["options"] == {"width": 1}


# to plain values and TOML, and back

texts = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plans = st.builds(
    Plan,
    name=texts,
    loop=st.builds(
        Loop,
        steps=st.integers(1, 2**60),
        learning_rate=numbers,
        resume=st.booleans(),
        betas=st.tuples(numbers, numbers),
    ),
    folders=st.lists(st.builds(Folder, root=texts, layout=st.sampled_from(["stems", "voices"])), max_size=3).map(tuple),
    widths=st.lists(st.integers(-9, 9), max_size=3).map(tuple),
    note=st.none() | texts,
    options=st.dictionaries(texts, texts | st.booleans() | st.integers(-9, 9) | numbers, max_size=3),
)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="expected a finite number"):
        config.build(Loop, {"learning_rate": value})


@settings(deadline=None, max_examples=25)
@given(plan=plans)
def test_settings_survive_toml(plan: Plan) -> None:
    text = config.dump_toml(config.to_dict(plan))
    assert config.build(Plan, tomllib.loads(text)) == plan


def test_settings_survive_a_file(tmp_path: Path) -> None:
    plan = Plan(name="Sängerin\r\n\t\"'\\", folders=(Folder(root="$HOME/a b"),), widths=())
    path = tmp_path / "plan.toml"
    path.write_text(config.dump_toml(config.to_dict(plan)), encoding="utf-8")
    assert config.build(Plan, config.read_toml(path)) == plan


def test_plain_values_leave_out_none_and_fields_that_are_not_settings() -> None:
    plain = config.to_dict(Plan(name="a", folders=(Folder(root="x"),)))
    assert plain == {
        "name": "a",
        "loop": {"steps": 100, "learning_rate": 1e-3, "resume": False, "betas": [0.9, 0.999]},
        "folders": [{"root": "x", "layout": "stems"}],
        "widths": [1, 2],
        "remarks": [],
        "options": {},
    }
    assert type(plain["widths"]) is list


@pytest.mark.parametrize("content", [b"a = ", b"a = 1\na = 2", b"a = '\xff'"])
def test_a_file_that_is_not_toml_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml: not a valid TOML file"):
        config.read_toml(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot read this TOML file"):
        config.read_toml(tmp_path / "absent.toml")


# override


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("3", 3),
        (" 3 ", 3),
        ("3.5", 3.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("voices", "voices"),
        ("True", "True"),
        ("/data/my songs", "/data/my songs"),
        (r"C:\songs", r"C:\songs"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_the_value_of_an_override_is_toml_or_else_a_string(override: str, value: object) -> None:
    changed = config.override({}, [f"key={override}"])["key"]
    assert changed == value
    assert type(changed) is type(value)


def test_an_override_reaches_into_tables_and_creates_them() -> None:
    values = {"name": "a", "loop": {"steps": 1, "resume": False}}
    changed = config.override(values, ["loop.steps=2", "new.table.key=3", " name = b"])
    assert changed == {"name": "b", "loop": {"steps": 2, "resume": False}, "new": {"table": {"key": 3}}}


def test_a_later_override_wins() -> None:
    assert config.override({"a": 0}, ["a=1", "a=2"]) == {"a": 2}


def test_no_overrides_give_the_same_values() -> None:
    values = {"name": "a", "loop": {"steps": 1}, "folders": [{"root": "x"}]}
    assert config.override(values, []) == values


@pytest.mark.parametrize("override", ["loop.steps", "", "=3", " =3"])
def test_an_override_without_key_or_value_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="expected key=value"):
        config.override({"loop": {"steps": 1}}, [override])


@pytest.mark.parametrize("override", ["name.first=3", "loop.steps.more=3", "folders.root=x"])
def test_an_override_through_a_plain_value_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="is a value, not a table"):
        config.override({"name": "a", "loop": {"steps": 1}, "folders": [{"root": "y"}]}, [override])


def test_an_override_leaves_its_input_alone() -> None:
    values = {"name": "a", "loop": {"steps": 1, "deep": {"er": 1}}, "widths": [1, 2]}
    before = copy.deepcopy(values)
    changed = config.override(values, ["loop.steps=2", "loop.deep.er=2", "loop.deep.new=3", "widths=[3]", "b.c=1"])
    assert values == before
    assert changed["loop"]["deep"] == {"er": 2, "new": 3}


def test_overrides_apply_to_the_plain_values_of_settings() -> None:
    plan = Plan(name="a")
    values = config.override(config.to_dict(plan), ["loop.learning_rate=1", "note=fast"])
    expected = dataclasses.replace(plan, note="fast", loop=Loop(learning_rate=1.0))
    assert config.build(Plan, values) == expected
