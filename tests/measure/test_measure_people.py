"""Labels that people give: votes with their lines, agreement as published, and a sheet that tells raters nothing."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.measure.agreement import agreement
from counterpoise.measure.human import agreements, load_labels, make_labels, save_labels
from counterpoise.measure.pictures import Pictures, load_pictures
from counterpoise.measure.sheet import key_finder, load_key, make_sheet
from counterpoise.measure.votes import (
    CANNOT_TELL,
    Vote,
    finder,
    group_of,
    majority,
    read_votes,
    votes_by_picture,
)


def unit(text: str) -> list[str]:
    return [each for each in text if each != "*"]


def test_alpha_is_that_of_krippendorff_s_worked_example() -> None:
    # Computing Krippendorff's Alpha-Reliability (2011), section C: four observers, twelve units, nominal .743.
    observers = ["123321412***", "1233224125*3", "*3332342251*", "12332441251*"]
    units = [unit("".join(row[i] for row in observers)) for i in range(12)]
    assert agreement(units).alpha == pytest.approx(0.743, abs=0.0005)


def test_alpha_of_two_raters_without_gaps_is_scott_s_pi_for_small_samples() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 40)
    second = np.where(rng.random(40) < 0.7, first, rng.integers(0, 3, 40))
    shares = np.bincount(np.concatenate([first, second]), minlength=3) / 80
    observed, expected = (first == second).mean(), (shares**2).sum()
    # Krippendorff's expected disagreement draws without replacement: n / (n - 1) times Scott's.
    found = agreement(list(zip(first.tolist(), second.tolist(), strict=True)))
    assert found.alpha == pytest.approx(1 - (1 - observed) / ((1 - expected) * 80 / 79))
    assert found.observed == pytest.approx(observed)
    assert found.low < found.alpha < found.high


@pytest.mark.parametrize("units", [[], [["a"]], [["a"], ["b"]], [["a", "a"], ["a", "a"]]])
def test_undefined_alpha_is_nan_never_one_or_zero(units: list[list[str]]) -> None:
    assert math.isnan(agreement(units).alpha)


def test_chance_gives_alpha_near_zero_and_its_interval_holds_zero() -> None:
    rng = np.random.default_rng(1)
    found = agreement(rng.integers(0, 4, (400, 3)).tolist())
    assert abs(found.alpha) < 0.06
    assert found.low < 0 < found.high


def test_majority_decides_and_ties_abstain() -> None:
    assert majority({"a": "x", "b": "x", "c": "y"}).value == "x"
    assert majority({"a": "x", "b": "x", "c": "y"}).confidence == pytest.approx(2 / 3, abs=1e-6)
    for answers, reason in [
        ({}, "not labelled"),
        ({"a": "x", "b": "y"}, "raters disagree"),
        ({"a": "x", "b": CANNOT_TELL}, "raters disagree"),
        ({"a": CANNOT_TELL}, "raters cannot tell"),
    ]:
        assert majority(answers).value is None
        assert majority(answers).reason == reason


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Five pictures of which two are the same pixels; every file tells its prompt in its metadata."""
    folder = tmp_path / "asian-woman-arm"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        told = PngInfo()
        told.add_text("parameters", f"SECRET prompt, Seed: {i}")
        pixels = np.random.default_rng(3).integers(0, 256, (24, 24, 3), dtype=np.uint8) if i > 2 else None
        image = Image.fromarray(
            rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) if pixels is None else pixels
        )
        image.save(folder / f"seed-{i}.png", pnginfo=told)
    return load_pictures([folder])


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'picture'"),
        ("picture,attribute\n", "no column 'value'"),
        ("picture,atribute,value\n", 'did you mean "atribute"'),
        ("picture,attribute,value\n", "no labels"),
        ("picture,attribute,value\na.png,skin,\n", "line 2: no value"),
        ("picture,attribute,value\n\na.png,,x\n", "line 3: no attribute"),
        ('picture,attribute,value\na.png,"skin,x\n', "line 2"),
        ("picture,value,attribute,value\n", "two columns"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_votes(write(tmp_path / "l.csv", text))
    assert said in str(refused.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_as_spreadsheets_write_it_is_read(tmp_path: Path, delimiter: str, end: str) -> None:
    rows = [["\ufeffPicture", "attribute", "Value", "rater", "group"], ["a.png", "skin", "light", "é", ""]]
    (vote,) = read_votes(write(tmp_path / "l.csv", end.join(delimiter.join(row) for row in rows)))
    assert vote == Vote("a.png", "skin", "light", "é", None, 2)


def test_votes_find_their_picture_by_name_path_or_sha256(pictures: Pictures) -> None:
    one = pictures.read[1]
    find = finder(pictures.read)
    for name in (
        "seed-1.png",
        "asian-woman-arm/seed-1.png",
        str(one.path),
        one.file_sha256,
        one.file_sha256.upper(),
    ):
        assert find(Vote(name, "a", "v", "", None, 2)) == one.pixel_sha256
    assert find(Vote("seed-9.png", "a", "v", "", None, 2)) is None


def test_a_name_of_two_different_pictures_is_refused(tmp_path: Path, pictures: Pictures) -> None:
    other = tmp_path / "seed-1.png"
    Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(other)
    find = finder([*pictures.read, *load_pictures([other]).read])
    with pytest.raises(UsageError, match="2 different pictures"):
        find(Vote("seed-1.png", "a", "v", "", None, 7))


def test_one_rater_who_says_two_things_is_refused_and_one_who_repeats_is_counted_once() -> None:
    votes = [Vote("p", "skin", "x", "ann", None, 2), Vote("p", "skin", "x", "ann", None, 3)]
    found, lost = votes_by_picture(votes, lambda vote: vote.picture)
    assert [len(found["p"]), len(lost)] == [1, 0]
    with pytest.raises(UsageError, match=r"line 4.*line 2"):
        votes_by_picture([*votes, Vote("p", "skin", "y", "ann", None, 4)], lambda vote: vote.picture)
    with pytest.raises(UsageError, match="groups"):
        group_of([Vote("p", "skin", "x", "", "a", 2), Vote("p", "hair", "x", "", "b", 3)])


def test_a_sheet_tells_raters_nothing_but_pictures(pictures: Pictures) -> None:
    page, key = make_sheet(pictures.read, {"skin": ("light", "dark")}, seed=1)
    for hint in ("asian", "seed", "SECRET", "arm/", *(each.file_sha256 for each in pictures.read)):
        assert hint not in page.replace("color-scheme", ""), hint
    sources = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert len(sources) == len(key.pictures) == 4  # two files of one picture are asked once
    shown = [Image.open(io.BytesIO(b64decode(each))) for each in sources]
    assert not any(image.info.get("parameters") for image in shown)
    by_digest = {each.pixel_sha256: each.pixels for each in pictures.read}
    for image, stands_for in zip(shown, key.pictures.values(), strict=True):
        assert (np.asarray(image) == by_digest[stands_for.pixel_sha256]).all()
    assert max(len(each.files) for each in key.pictures.values()) == 2


def test_a_sheet_asks_nothing_of_any_network_and_runs_its_own_script_only(pictures: Pictures) -> None:
    page, _ = make_sheet(pictures.read, {"<b>&": ("</script>", '"x"')}, seed=1)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", page)
    assert "<b>&" not in page
    assert page.count("</script>") == 2
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))
    assert len(data["pictures"]) == 4


def test_order_and_ids_are_the_seed_s(pictures: Pictures) -> None:
    asked = {"skin": ("light", "dark")}
    assert make_sheet(pictures.read, asked, seed=1) == make_sheet(pictures.read, asked, seed=1)
    one, other = (make_sheet(pictures.read, asked, seed=seed)[1] for seed in (1, 2))
    assert not set(one.pictures) & set(other.pictures)
    orders = {
        tuple(p.pixel_sha256 for p in make_sheet(pictures.read, asked, seed=s)[1].pictures.values())
        for s in range(8)
    }
    assert len(orders) > 3


@pytest.mark.parametrize("values", [("one",), ("a", "a"), ("a", CANNOT_TELL)])
def test_a_question_without_a_choice_is_refused(pictures: Pictures, values: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="two or more"):
        make_sheet(pictures.read, {"skin": values}, seed=1)


def test_labels_come_back_from_a_sheet_to_the_very_pictures(tmp_path: Path, pictures: Pictures) -> None:
    _, key = make_sheet(pictures.read, {"skin": ("light", "dark")}, seed=5)
    place = write(tmp_path / "key.json", json.dumps(key.model_dump(mode="json")))
    truth = {each.pixel_sha256: ("light", "dark")[i % 2] for i, each in enumerate(pictures.read[:3])}
    stream = io.StringIO()
    table = csv.writer(stream)
    table.writerow(["id", "attribute", "value", "rater"])
    for rater in ("ann", "bob, jr."):
        for picture, stands_for in load_key(place).pictures.items():
            table.writerow([picture, "skin", truth.get(stands_for.pixel_sha256, CANNOT_TELL), rater])
    votes = read_votes(write(tmp_path / "l.csv", stream.getvalue()))
    found, lost = votes_by_picture(votes, key_finder(load_key(place)))
    assert not lost
    labels = make_labels(found, key.attributes)
    save_labels(labels, tmp_path / "labels.json")
    judge = load_labels(tmp_path / "labels.json")
    rows = judge(np.stack([each.pixels for each in pictures.read]))
    assert [row["skin"].value for row in rows] == ["light", "dark", "light", None, None]
    assert rows[3]["skin"].reason == "raters cannot tell"
    assert judge(np.zeros((1, 5, 5, 3), np.uint8))[0]["skin"].reason == "not labelled"
    assert agreements(labels)["skin"].alpha == 1
    save_labels(make_labels(dict(list(found.items())[:2]), key.attributes), tmp_path / "fewer.json")
    assert load_labels(tmp_path / "fewer.json").version != judge.version


def test_labels_outside_the_question_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r'line 3.*did you mean "light"'):
        make_labels({"p": [Vote("p", "skin", "ligt", "", None, 3)]}, {"skin": ("light", "dark")})
    with pytest.raises(UsageError, match=r'did you mean "skin"'):
        make_labels({"p": [Vote("p", "skim", "light", "", None, 3)]}, {"skin": ("light", "dark")})


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": "x"}', '{"a": NaN}'])
def test_a_damaged_label_file_is_refused(tmp_path: Path, damage: str) -> None:
    with pytest.raises(RefusedInputError, match="measure import"):
        load_labels(write(tmp_path / "labels.json", damage))
