"""The tasks by name."""

import pytest

from sam import tasks


def test_every_task_is_built_by_its_name_with_its_settings():
    names = {"Copy": "copy", "AssociativeRecall": "associative_recall"}
    names |= {"PrioritySort": "priority_sort", "RepeatCopy": "repeat_copy"}
    names |= {"Babi": "babi", "Omniglot": "omniglot"}
    assert {task.__name__: name for name, task in tasks.TASKS.items()} == names
    for name, task in tasks.TASKS.items():
        assert tasks.build(name) == task()
        assert isinstance(task(), tasks.Task)
        if isinstance(task(), tasks.BitTask):
            assert tasks.build(name, bits=5) == task(bits=5)
    assert tasks.build("copy", max_length=7) == tasks.Copy(max_length=7)


def test_an_unknown_task_gets_the_names_and_the_nearest():
    with pytest.raises(ValueError, match=r"^name: got 'coppy', expected one of copy, .*'copy'\?$"):
        tasks.build("coppy")
    with pytest.raises(ValueError, match=r"^name: got 3, expected one of copy, [^;]*$"):
        tasks.build(3)


def test_an_unknown_setting_gets_the_known_ones():
    expected = r"^pairs: not a setting of 'copy', expected of bits, min_length, max_length$"
    with pytest.raises(TypeError, match=expected):
        tasks.build("copy", pairs=3)
