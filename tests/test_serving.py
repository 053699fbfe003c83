"""Who answers for a model, and where a model's weights are found."""

from pathlib import Path

import fsspec
import pytest

from reinstruct.errors import RecipeError
from reinstruct.plan import Model
from reinstruct.serving import existing_model, location, parse_servers, urls_of
from reinstruct.store import LocalStore

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}"}


def folder_with(path: Path, names) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(FILES[name])
    return path


def test_a_folder_is_fingerprinted_by_its_files(tmp_path: Path):
    folder = folder_with(tmp_path / "m", FILES)
    before = existing_model(str(folder))
    assert before == existing_model(str(folder))
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert existing_model(str(folder)).id != before.id


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused(tmp_path: Path, missing: str):
    folder = folder_with(tmp_path / "m", set(FILES) - {missing})
    for uri in (str(folder), f"file://{folder}"):
        with pytest.raises(RecipeError, match=r"no model at .*config\.json.*scratch:tiny"):
            existing_model(uri)


def test_a_hub_id_is_taken_at_its_word(tmp_path: Path):
    assert existing_model("org/name") == Model(uri="org/name")
    assert location(Model(uri="org/name"), LocalStore(tmp_path)) == "org/name"


def test_a_model_in_a_bucket_is_fetched_once(tmp_path: Path):
    bucket = fsspec.filesystem("memory")
    for name, data in FILES.items():
        bucket.pipe(f"/bucket/models/m/{name}", data)
    model = existing_model("memory://bucket/models/m")
    store = LocalStore(tmp_path)
    place = Path(location(model, store))
    assert {file.name: file.read_bytes() for file in place.iterdir()} == FILES
    bucket.rm("/bucket/models/m", recursive=True)
    assert location(model, store) == str(place)


def test_an_unknown_bucket_is_named():
    with pytest.raises(RecipeError, match="nosuch://bucket/m"):
        existing_model("nosuch://bucket/m")


def test_servers_are_named_for_one_model_or_for_all():
    servers = parse_servers(["http://a:1", "backward=http://b:1, http://c:1"])
    assert servers == {"": ("http://a:1",), "backward": ("http://b:1", "http://c:1")}
    assert urls_of(Model(uri="org/name"), servers) == ("http://a:1",)


@pytest.mark.parametrize("flag", ["backward", "backward=", "backward=ftp://x", "x=http://a,nonsense"])
def test_servers_that_are_no_urls_are_refused(flag: str):
    with pytest.raises(RecipeError, match="--server is"):
        parse_servers([flag])
