"""bAbI: stories as text and symbols, files that are checked, splits that share nothing."""

import collections
import gzip
import hashlib
import io
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sam.data import babi
from sam.data.source import DataError
from sam.data.stories import ANSWER, NO_ANSWER, SYMBOLS, WORDS, Line, decode, encode, parse

EXCERPT = Path(__file__).parent
ARCHIVE = EXCERPT / "babi" / babi.ARCHIVE
TASKS = (1, 4, 8, 19)
FULL = os.environ.get("SAM_DATA_DIR")
needs_all = pytest.mark.skipif(not FULL, reason="needs the whole of bAbI: set SAM_DATA_DIR")

TEXT = """\
1 Mary moved to the bathroom.
2 Daniel took the milk there.
3 What is Daniel carrying? \tmilk,apple\t2
1 Mary went back to the office.
2 Is Mary in the park?\tno\t1
3 John is in the park.
"""
STORIES = [
    (
        Line(("mary", "moved", "to", "the", "bathroom")),
        Line(("daniel", "took", "the", "milk", "there")),
        Line(("what", "is", "daniel", "carrying"), ("milk", "apple")),
    ),
    (
        Line(("mary", "went", "back", "to", "the", "office")),
        Line(("is", "mary", "in", "the", "park"), ("no",)),
        Line(("john", "is", "in", "the", "park")),
    ),
]


def repacked(path, changed):
    """The excerpt with other contents, by file name; None leaves a file out."""
    plain = io.BytesIO()
    with tarfile.open(ARCHIVE) as old, tarfile.open(fileobj=plain, mode="w") as new:
        for member in old:
            content = old.extractfile(member).read()
            content = changed.get(member.name.removeprefix("tasks_1-20_v1-2/"), content)
            if content is not None:
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    path.mkdir(exist_ok=True)
    (path / babi.ARCHIVE).write_bytes(gzip.compress(plain.getvalue()))
    return path


def as_text(encoded):
    """A reading of symbols that shares nothing with `decode`: one string."""
    said = [
        SYMBOLS[answer] if symbol == SYMBOLS.index(ANSWER) else SYMBOLS[symbol]
        for symbol, answer in zip(encoded.symbols, encoded.answers, strict=True)
    ]
    return " ".join(said)


def release_text(text):
    """The words and marks of a story of the release, one string, without IDs and facts."""
    said = []
    for line in text.splitlines():
        sentence, *asked = line.split(" ", 1)[1].split("\t")
        said += re.findall(r"[a-z]+|[.?]", sentence.lower())
        said += asked[0].split(",") if asked else []
    return " ".join(said)


def release_stories(name, path=ARCHIVE):
    """The text of each story of one file."""
    with tarfile.open(path) as archive:
        text = archive.extractfile(f"tasks_1-20_v1-2/{name}").read().decode()
    return re.split(r"(?m)^(?=1 )", text)[1:]


def test_lines_are_sentences_and_questions():
    assert parse(TEXT, "here") == STORIES


def test_a_story_is_read_word_by_word_and_its_answer_is_due_at_the_markers():
    encoded = encode(STORIES[0])
    assert as_text(encoded) == (
        "mary moved to the bathroom . daniel took the milk there . "
        "what is daniel carrying ? milk apple"
    )
    due = np.flatnonzero(encoded.answers != NO_ANSWER)
    assert due.tolist() == [len(encoded.symbols) - 2, len(encoded.symbols) - 1]
    assert [SYMBOLS[each] for each in encoded.symbols[due]] == [ANSWER, ANSWER]
    assert len(SYMBOLS) == 159


def test_what_is_encoded_reads_back():
    stories = [*STORIES, STORIES[1][:2]]
    assert [decode(encode(story)) for story in stories] == stories


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "here: got no stories"),
        (
            "1 Mary moved.\n3 Is it so?\tyes\t1\n",
            r"here, line 2: got '3 Is it so.*expected the ID 2",
        ),
        ("2 Mary moved.\n", "here, line 1: .*expected the ID 1"),
        ("1 Mary moved\n", "here, line 1: .*expected a sentence with a full stop"),
        ("1 Is it so? \t\t1\n", "here, line 1: .*and an answer"),
        ("1 Is it so? \tyes,,no\t1\n", "here, line 1: .*and an answer"),
        ("1 Mary moved.\n1 Is it so? \tyes\t1\n", "here, line 1: got a story without a question"),
        ("1 Is it so? \tyes\t1\n1 Mary moved.\n", "here, line 2: got a story without a question"),
    ],
)
def test_what_is_no_story_is_refused(text, said):
    with pytest.raises(DataError, match=said):
        parse(text, "here")


def test_an_unknown_word_is_named():
    story = (Line(("where", "is", "waldo"), ("park",)),)
    with pytest.raises(DataError, match="task 1: got the word 'waldo', expected one of the 156"):
        encode(story, "task 1")


@pytest.mark.parametrize("version", ["en", "en-10k"])
def test_encoded_stories_say_what_the_files_say(version):
    splits = babi.load(version, TASKS, EXCERPT)
    for task in TASKS:
        files = {split: release_stories(_name(version, task, split)) for split in ("train", "test")}
        said = {split: [release_text(each) for each in files[split]] for split in files}
        tested = [as_text(each) for each in splits[task].test]
        assert tested == said["test"]
        trained = [as_text(each) for each in splits[task].train + splits[task].validation]
        assert collections.Counter(trained) == collections.Counter(
            set(said["train"]) - set(said["test"])
        )


def _name(version, task, split):
    with tarfile.open(ARCHIVE) as archive:
        (name,) = (
            name.partition("/")[2]
            for name in archive.getnames()
            if re.search(rf"/{version}/qa{task}_.*_{split}\.txt", name)
        )
    return name


def test_a_tenth_is_held_out_and_no_story_is_in_two_splits():
    for task, splits in babi.load("en-10k", TASKS, EXCERPT).items():
        texts = [{as_text(each) for each in split} for split in splits]
        train, validation, test = texts
        assert not train & validation
        assert not train & test
        assert not validation & test
        assert len(validation) == round(0.1 * len(train | validation)), task
        assert len(train) == len(splits.train)
    # The excerpt's task 4 has two stories in both files, and one of training twice.
    assert len(splits_of(4).train + splits_of(4).validation) == 33 - 3 - _repeated(4)


def splits_of(task):
    return babi.load("en-10k", (task,), EXCERPT)[task]


def _repeated(task):
    said = [release_text(each) for each in release_stories(_name("en-10k", task, "train"))[:30]]
    return len(said) - len(set(said))


def test_the_known_parts_stand_for_the_missing_file_of_task_3():
    splits = babi.load("en-10k", (3,), EXCERPT)[3]
    trained = {as_text(each) for each in splits.train + splits.validation}
    assert trained == {
        release_text(story) for part in babi.QA3_PARTS for story in release_stories(part)
    }
    with pytest.raises(DataError, match=r"got no en/qa3_\*_test\.txt, expected the release's file"):
        babi.load("en", (3,), EXCERPT)


def test_a_file_that_was_changed_is_refused(tmp_path):
    name = _name("en-10k", 1, "train")
    content = "".join(release_stories(name)).replace("Mary", "John", 1).encode()
    folder = repacked(tmp_path, {name: content})
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(DataError, match=f"{name}: got the checksum {digest}, expected [0-9a-f]+"):
        babi.load("en-10k", (1,), folder)
    assert babi.load("en-10k", (4,), folder)[4].test  # what is not asked for is not looked at


def test_a_file_that_is_missing_is_named(tmp_path):
    folder = repacked(tmp_path, {_name("en-10k", 8, "test"): None})
    with pytest.raises(DataError, match=r"got no en-10k/qa8_\*_test\.txt.*leave the task out"):
        babi.load("en-10k", (1, 8), folder)


def test_without_sums_of_its_own_an_archive_has_to_be_the_release(tmp_path):
    folder = repacked(tmp_path, {"SHA256SUMS": None})
    with pytest.raises(DataError, match=r"qa1_.*got the checksum .*not as it was released"):
        babi.load("en-10k", (1,), folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_an_archive_that_was_cut_short_is_refused(tmp_path, share):
    whole = ARCHIVE.read_bytes()
    (tmp_path / babi.ARCHIVE).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="expected the archive of bAbI; delete it and get it anew"):
        babi.load("en-10k", (1,), tmp_path)


def test_a_folder_without_the_archive_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"babi: got no file .*SAM_DATA_DIR"):
        babi.load("en-10k", (1,), tmp_path)
    with pytest.raises(ValueError, match="version: got 'hn', expected one of en, en-10k"):
        babi.load("hn", (1,), EXCERPT)


@needs_all
def test_the_release_has_the_counts_and_words_that_it_should():
    path = babi.source.find("babi", babi.ARCHIVE, url="", known_hash="")
    words, answers = set(), set()
    for task in babi.TASKS:
        for version, split, questions in (
            ("en", "train", 1000),
            ("en", "test", 1000),
            ("en-10k", "train", 2000 if task == 3 else 10_000),
            ("en-10k", "test", 1000),
        ):
            stories = babi.read(path, version, task, split)
            lines = [line for story in stories for line in story]
            assert sum(bool(line.answer) for line in lines) == questions
            words.update(word for line in lines for word in (*line.words, *line.answer))
            answers.update(word for line in lines for word in line.answer)
    assert sorted(words) == list(WORDS)
    assert len(words) == 156
    assert len(answers) == 40


@needs_all
def test_of_the_release_no_story_is_trained_on_and_tested():
    longest = 0
    for task, splits in babi.load().items():
        train, validation, test = ({as_text(each) for each in split} for split in splits)
        assert not train & validation
        assert not (train | validation) & test
        longest = max(longest, *(len(each.symbols) for each in splits.test))
        expected = {3: 385, 4: 4522, 15: 2500, 16: 10_000, 17: 1250, 18: 1978, 19: 10_000, 20: 933}
        assert len(train | validation) == expected.get(task, 2000)
    assert longest == 1393
