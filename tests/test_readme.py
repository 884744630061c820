"""What README.md shows works."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_snippets_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) >= 3
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)


@pytest.mark.parametrize("job", sorted(set(re.findall(r"make ([a-z-]+)", README))))
def test_the_jobs_it_names_exist(job):
    assert re.search(rf"^{job}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^):]+)\)", README))))
def test_the_files_it_links_exist(link):
    assert (ROOT / link).exists()
