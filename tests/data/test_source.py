"""Where a data set's files are found; the network is a server on this machine."""

import hashlib
import http.server
import sys
import threading

import pytest

from sam.data import source

CONTENT = b"a file of some data set\n" * 100
KNOWN = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
NOWHERE = {"url": "http://127.0.0.1:9/letters.zip", "known_hash": KNOWN}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of the user, and no folder of data that is named from outside."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(source.DATA_DIR, raising=False)
    return tmp_path / "cache" / "sparse-access-memory"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


@pytest.fixture
def server():
    """A server of /letters.zip, with the paths that it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            found = self.path == "/letters.zip"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(CONTENT) if found else 0))
            self.end_headers()
            self.wfile.write(CONTENT if found else b"")

        def log_message(self, *_):
            pass

    asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        serving.asked = asked
        serving.url = f"http://127.0.0.1:{serving.server_port}/letters.zip"
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("place", ["letters/letters.zip", "letters.zip"])
@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_a_given_folder_holds_the_file_in_the_data_sets_folder_or_at_its_top(
    folder, place, named_by, monkeypatch
):
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_bytes(b"another packing of the same data")
    if named_by == "environment":
        monkeypatch.setenv(source.DATA_DIR, str(folder))
    data_dir = folder if named_by == "argument" else None
    assert source.find("letters", "letters.zip", data_dir, **NOWHERE) == folder / place


def test_the_argument_goes_before_the_environment(folder, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    for each in (folder, tmp_path / "other"):
        (each / "letters.zip").write_bytes(CONTENT)
    monkeypatch.setenv(source.DATA_DIR, str(tmp_path / "other"))
    assert source.find("letters", "letters.zip", str(folder), **NOWHERE).parent == folder


def test_nothing_is_downloaded_for_a_given_folder_and_the_error_says_what_to_do(
    folder, cache, server
):
    with pytest.raises(source.DataError) as error:
        source.find("letters", "letters.zip", folder, url=server.url, known_hash=KNOWN)
    for part in (folder / "letters" / "letters.zip", folder / "letters.zip", server.url):
        assert str(part) in str(error.value)
    for way in ("data_dir", "SAM_DATA_DIR", "pip install 'sparse-access-memory[data]'"):
        assert way in str(error.value)
    assert server.asked == []
    assert files(folder) == []
    assert not cache.exists()


@pytest.mark.parametrize("named_by", ["data_dir", "SAM_DATA_DIR"])
def test_a_folder_that_does_not_exist_is_an_error_that_names_who_named_it(
    folder, named_by, monkeypatch
):
    missing = folder / "missing"
    monkeypatch.setenv("SAM_DATA_DIR", str(missing))
    data_dir = missing if named_by == "data_dir" else None
    with pytest.raises(source.DataError, match=f"{named_by}: got '{missing}', expected an exis"):
        source.find("letters", "letters.zip", data_dir, **NOWHERE)


def test_a_data_dir_that_is_no_path_is_refused():
    with pytest.raises(TypeError, match="data_dir: got 3, expected the path of a folder"):
        source.find("letters", "letters.zip", 3, **NOWHERE)


def test_a_download_goes_into_the_cache_once(cache, server, monkeypatch):
    monkeypatch.setenv(source.DATA_DIR, "")  # as good as unset
    path = source.find("letters", "letters.zip", url=server.url, known_hash=KNOWN)
    assert path == cache / "letters" / "letters.zip"
    assert path.read_bytes() == CONTENT
    assert source.find("letters", "letters.zip", url=server.url, known_hash=KNOWN) == path
    assert server.asked == ["/letters.zip"]


def test_what_was_damaged_in_the_cache_is_downloaded_again(cache, server):
    path = source.find("letters", "letters.zip", url=server.url, known_hash=KNOWN)
    path.write_bytes(CONTENT[:-1])
    assert source.find("letters", "letters.zip", url=server.url, known_hash=KNOWN) == path
    assert path.read_bytes() == CONTENT


def test_a_download_of_another_hash_is_refused_and_not_kept(cache, server):
    wrong = "md5:" + hashlib.md5(b"").hexdigest()
    with pytest.raises(source.DataError) as error:
        source.find("letters", "letters.zip", url=server.url, known_hash=wrong)
    assert server.url in str(error.value)
    assert wrong in str(error.value)
    assert files(cache) == []


def test_a_server_without_the_file_is_an_error_that_names_the_url(cache, server):
    url = server.url.replace("letters", "numbers")
    with pytest.raises(source.DataError, match=r"numbers\.zip.*404.*data_dir.*SAM_DATA_DIR"):
        source.find("letters", "letters.zip", url=url, known_hash=KNOWN)
    assert files(cache) == []


def test_no_network_is_an_error_that_names_the_url_and_the_ways_round_it(cache):
    with pytest.raises(source.DataError, match=r"127\.0\.0\.1:9/letters.*data_dir.*SAM_DATA_DIR"):
        source.find("letters", "letters.zip", **NOWHERE)
    assert files(cache) == []


def test_a_missing_pooch_says_what_installs_it_and_a_given_folder_needs_none(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pooch, .*pip install 'sparse-access-memory\[data\]'"):
        source.find("letters", "letters.zip", **NOWHERE)
    (folder / "letters.zip").write_bytes(CONTENT)
    assert source.find("letters", "letters.zip", folder, **NOWHERE) == folder / "letters.zip"
