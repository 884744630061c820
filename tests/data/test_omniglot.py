"""Omniglot's loader, by an excerpt of the published files; the whole set where SAM_DATA_DIR is."""

import hashlib
import io
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam.data import omniglot
from sam.data.source import DATA_DIR, DataError

EXCERPT = Path(__file__).parent / "omniglot"
WHOLE = os.environ.get(DATA_DIR)
BACKGROUND = "images_background"
FIRST = "images_background/N_Ko/character01/0804_01.png"


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Where decoded drawings are kept, empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sparse-access-memory" / "omniglot"


@pytest.fixture
def copy(tmp_path):
    """The excerpt, to be damaged."""
    return Path(shutil.copytree(EXCERPT, tmp_path / "copy"))


def members(folder, archive=BACKGROUND):
    with zipfile.ZipFile(folder / f"{archive}.zip") as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def pack(folder, contents, archive=BACKGROUND, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(folder / f"{archive}.zip", "w", compression) as opened:
        for name, content in contents.items():
            opened.writestr(name, content)


def png(width, height):
    file = io.BytesIO()
    Image.new("1", (width, height), 1).save(file, "png")
    return file.getvalue()


def digest_of(*contents):
    """As the data's own notes define it."""
    total = hashlib.sha256()
    for name, content in sorted({k: v for each in contents for k, v in each.items()}.items()):
        total.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return total.hexdigest()


def test_each_pixel_is_the_share_of_ink_in_its_area_of_the_drawing():
    characters = omniglot.load(EXCERPT)
    contents = members(EXCERPT) | members(EXCERPT, "images_evaluation")
    assert len(contents) == characters.images.shape[0] * characters.images.shape[1] == 160
    for path, content in contents.items():
        _, alphabet, character, file = path.split("/")
        ink = 255 - np.asarray(Image.open(io.BytesIO(content)).convert("L"), dtype=float)
        # 105 x 105 pixels cut into 420 x 420 are 20 x 20 squares of 21 x 21.
        squares = ink.repeat(4, 0).repeat(4, 1).reshape(20, 21, 20, 21).mean((1, 3))
        place = characters.names.index(f"{alphabet}/{character}"), int(file[-6:-4]) - 1
        assert np.abs(characters.images[place] - squares).max() <= 0.5001


def test_characters_are_named_after_alphabet_and_number():
    characters = omniglot.load(str(EXCERPT))
    assert characters.names == (
        *(f"Keble/character{number}" for number in ("03", "05", "20", "26")),
        *(f"N_Ko/character{number}" for number in ("01", "05", "09", "13")),
    )
    assert characters.alphabets == ("Keble",) * 4 + ("N_Ko",) * 4
    assert characters.images.shape == (8, 20, 20, 20)
    assert characters.images.dtype == np.uint8


def test_another_packing_of_the_same_files_gives_the_same_drawings(copy):
    contents = dict(reversed(members(copy).items()))
    folders = dict.fromkeys({name.rpartition("/")[0] + "/" for name in contents}, b"")
    pack(copy, folders | contents, compression=zipfile.ZIP_DEFLATED)
    published, packed = omniglot.load(EXCERPT), omniglot.load(copy)
    assert packed.names == published.names
    assert np.array_equal(packed.images, published.images)


def test_files_are_read_once_in_a_process():
    assert omniglot.load(EXCERPT) is omniglot.load(str(EXCERPT))


def test_the_split_has_1200_characters_to_train_and_choose_and_423_to_test():
    names = [f"Alphabet{i % 50}/character{i // 50:02d}" for i in range(1623)]
    split = omniglot.split(names)
    assert {each: len(members) for each, members in split.items()} == {
        "training": 1070,
        "validation": 130,
        "test": 423,
    }
    assert sorted(i for places in split.values() for i in places) == list(range(1623))
    # It is the names that are split, in whatever order they come; and not alphabet by alphabet.
    turned = omniglot.split(names[::-1])
    for each, places in split.items():
        assert [names[i] for i in places] == [names[::-1][i] for i in turned[each]]
        assert len({i % 50 for i in places}) > 40


def test_the_split_of_an_excerpt_is_always_the_same():
    names = omniglot.load(EXCERPT).names
    split = {each: {names[i] for i in places} for each, places in omniglot.split(names).items()}
    # As it was when models were first trained: another split would test them on what they know.
    assert split["test"] == {"N_Ko/character09", "N_Ko/character13"}
    assert split["validation"] == {"Keble/character20"}
    assert split["training"] == set(names) - split["test"] - split["validation"]


def test_too_few_characters_to_split_are_an_error():
    with pytest.raises(DataError, match="got 2 characters, expected at least 3"):
        omniglot.split(["A/character01", "A/character02"])


def refused(folder, match):
    with pytest.raises(DataError, match=match) as error:
        omniglot.load(folder)
    assert "github.com/brendenlake" in str(error.value)  # where to get it again
    assert "pip install 'sparse-access-memory[data]'" in str(error.value)


def test_a_missing_file_is_an_error(copy):
    (copy / "images_evaluation.zip").unlink()
    refused(copy, r"images_evaluation\.zip")


def test_a_missing_drawing_is_an_error_that_names_its_character(copy):
    contents = members(copy)
    del contents[FIRST]
    pack(copy, contents)
    refused(copy, r"drawings \[2, 3, .* of N_Ko/character01, expected 1 to 20")


def test_a_drawing_of_another_size_is_an_error_that_names_it(copy):
    pack(copy, members(copy) | {FIRST: png(105, 104)})
    refused(copy, r"105 x 104 pixels in drawing 1 of N_Ko/character01, expected 105 x 105")


@pytest.mark.parametrize("content", [b"", b"no picture", png(105, 105)[:-30]])
def test_a_drawing_that_is_no_whole_image_is_an_error_that_names_it(copy, content):
    pack(copy, members(copy) | {FIRST: content})
    refused(copy, "damaged drawing 1 of N_Ko/character01")


@pytest.mark.parametrize(
    "name", ["0804_01.png", "images_evaluation/N_Ko/character01/0495_01.png", FIRST + "/x.png"]
)
def test_an_image_in_another_place_is_an_error_that_names_it(copy, name):
    pack(copy, members(copy) | {name: png(105, 105)})
    refused(copy, rf"got {name}, expected images_background/")


@pytest.mark.parametrize("kept_share", [0, 0.3, 0.99])
def test_a_truncated_file_is_an_error_that_names_it(copy, kept_share):
    path = copy / "images_background.zip"
    path.write_bytes(path.read_bytes()[: int(kept_share * path.stat().st_size)])
    refused(copy, r"images_background\.zip: got a damaged file")


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_is_an_error_or_changes_nothing(copy, seed):
    path = copy / "images_background.zip"
    content = bytearray(path.read_bytes())
    content[np.random.default_rng(seed).integers(len(content))] ^= 1 << seed % 8
    path.write_bytes(content)
    try:
        loaded = omniglot.load(copy)
    except DataError:
        return
    # What a reader of zips does not look at, such as the time of a file.
    assert np.array_equal(loaded.images, omniglot.load(EXCERPT).images)


def test_a_flipped_bit_in_a_drawing_is_an_error(copy):
    path = copy / "images_background.zip"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 10] ^= 1
    path.write_bytes(content)
    refused(copy, r"images_background\.zip: got a damaged file .*CRC")


def test_all_characters_must_have_the_published_content(copy, monkeypatch):
    published = members(copy)
    monkeypatch.setattr(omniglot, "CHARACTERS", 8)
    monkeypatch.setattr(
        omniglot, "WHOLE_SET", digest_of(published, members(copy, "images_evaluation"))
    )
    pack(copy, dict(reversed(published.items())))
    assert len(omniglot.load(copy).names) == 8
    other = copy.with_name("other")
    shutil.copytree(copy, other)
    second = FIRST.replace("_01.png", "_02.png")
    pack(other, published | {FIRST: published[second], second: published[FIRST]})
    refused(other, "some drawing was changed")


@pytest.fixture
def afresh(monkeypatch):
    """Loads as another process would, which has read nothing yet."""

    def load(folder):
        omniglot._load.cache_clear()
        return omniglot.load(folder)

    yield load
    omniglot._load.cache_clear()


def test_what_was_decoded_is_kept_for_the_next_process(kept, afresh, monkeypatch):
    decoded = afresh(EXCERPT)
    assert len(list(kept.iterdir())) == 1
    monkeypatch.setattr(omniglot, "_decoded", lambda _: pytest.fail("decoded again"))
    again = afresh(EXCERPT)
    assert again.names == decoded.names
    assert np.array_equal(again.images, decoded.images)


def test_changed_files_are_decoded_again(copy, afresh):
    contents = members(copy)
    before = afresh(copy)
    pack(copy, contents | {FIRST: png(105, 105)})
    after = afresh(copy)
    place = before.names.index("N_Ko/character01"), 0
    assert before.images[place].any()
    assert not after.images[place].any()


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "foreign"])
def test_damage_to_what_was_kept_is_noticed_and_repaired(kept, afresh, damage):
    decoded = afresh(EXCERPT)
    (path,) = kept.iterdir()
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    damaged = {"truncated": content[:-100], "empty": b"", "flipped": flipped, "foreign": b"1,2"}
    path.write_bytes(damaged[damage])
    assert np.array_equal(afresh(EXCERPT).images, decoded.images)
    assert list(kept.iterdir()) == [path]
    assert len(path.read_bytes()) == len(content)
    assert np.array_equal(np.load(path)["images"], decoded.images)


def test_a_cache_that_cannot_be_written_is_a_warning(kept, afresh):
    kept.parent.mkdir(parents=True)
    kept.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match=r"omniglot.* could not be written .* decoded again"):
        assert len(afresh(EXCERPT).names) == 8


def test_a_missing_pillow_says_what_installs_it(afresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"Pillow.*pip install 'sparse-access-memory\[data\]'"):
        afresh(EXCERPT)


@pytest.mark.skipif(not WHOLE, reason=f"{DATA_DIR} is not set: the whole set is not at hand")
def test_the_whole_set_is_the_published_one():
    characters = omniglot.load(WHOLE)  # its digest is compared while it is read
    assert characters.images.shape == (1623, 20, 20, 20)
    assert len(set(characters.names)) == 1623
    assert len(set(characters.alphabets)) == 50
    assert round(characters.images.mean() / 255, 4) == 0.0805
    assert characters.images.any((2, 3)).all()
    places = [Path(WHOLE) / "omniglot", Path(WHOLE)]
    folder = next(each for each in places if (each / "images_background.zip").is_file())
    for archive, drawings, count in (
        (BACKGROUND, 19_280, 964),
        ("images_evaluation", 13_180, 659),
    ):
        with zipfile.ZipFile(folder / f"{archive}.zip") as opened:
            paths = [name for name in opened.namelist() if name.endswith(".png")]
        assert len(paths) == drawings
        names = {"/".join(path.split("/")[1:3]) for path in paths}
        assert len(names & set(characters.names)) == count
    # Two drawings by two people that are the same image.
    braille = characters.images[characters.names.index("Braille/character01")]
    assert np.array_equal(braille[2], braille[18])
