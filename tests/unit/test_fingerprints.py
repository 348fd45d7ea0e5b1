"""What tells a model's files from any other's."""

import json
import shutil
import struct

import pytest

from arte_plugin.errors import ConfigError
from arte_plugin.models import identity
from arte_plugin.models.identity import fingerprint_files, fingerprint_model, same_model
from tests.hub_cache import put_model

FIRST, SECOND = "1" * 40, "2" * 40
MIB = 1 << 20


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    identity._hub_revision.cache_clear()
    yield tmp_path / "hub"
    identity._hub_revision.cache_clear()


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "model/model.safetensors").write_bytes(b"weights")
    return tmp_path / "model"


def large(file, tensors: dict[str, int]) -> dict[str, int]:
    """A safetensors file of zeros that takes no disk; the tensors' sizes in bytes. Returns where they begin."""
    header, end = {}, 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)
    return {name: 8 + len(text) + one["data_offsets"][0] for name, one in header.items()}


def write(file, place: int, content: bytes) -> None:
    changed = file.with_suffix(".changed")
    shutil.copyfile(file, changed)
    with changed.open("r+b") as stream:
        stream.seek(place)
        stream.write(content)
    changed.replace(file)


LAYERS = {f"layers.{i}.{part}": size for i in range(24) for part, size in (("norm", 8192), ("mlp", 4 * MIB))}


@pytest.mark.parametrize("name", ["layers.0.norm", "layers.7.norm", "layers.11.mlp", "layers.23.mlp"])
def test_a_change_of_any_one_tensor_of_a_large_file_is_seen(model, name):
    file = model / "model.safetensors"
    places = large(file, LAYERS)
    before = fingerprint_files(model)
    # As training or merging does it: all over the tensor.
    write(file, places[name], b"\x01" * LAYERS[name])
    assert fingerprint_files(model) != before


def test_a_tensor_of_another_name_or_type_is_another_model(model):
    file = model / "model.safetensors"
    large(file, LAYERS)
    before = fingerprint_files(model)
    write(file, file.read_bytes()[:200].index(b"U8"), b"I8")
    assert fingerprint_files(model) != before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.gguf"])
def test_of_other_large_files_no_mebibyte_is_passed_over(model, name):
    (model / name).touch()
    with (model / name).open("r+b") as stream:
        stream.truncate(80 * MIB)
    before = fingerprint_files(model)
    write(model / name, 41 * MIB + 12345, b"\x01" * MIB)
    assert fingerprint_files(model) != before


def test_a_file_that_is_no_safetensors_file_is_no_reason_to_stop(model):
    with (model / "model.safetensors").open("wb") as stream:
        stream.write(b"\xff" * 16)
        stream.truncate(80 * MIB)
    assert fingerprint_files(model)


def test_what_the_first_version_recorded_of_a_large_file_is_known_again(model):
    large(model / "model.safetensors", LAYERS)
    recorded = identity._combined(identity.digests(model, identity._as_at_first))
    assert recorded != fingerprint_files(model)
    assert same_model(recorded, str(model)) and same_model(fingerprint_files(model), str(model))
    assert not same_model("another", str(model))


def test_a_snapshot_in_the_hub_s_cache_is_the_same_model_as_its_name(hub, model, tmp_path):
    snapshot = put_model(hub, "me/tiny", model, FIRST, "main")
    assert fingerprint_model(str(snapshot)) == fingerprint_model("me/tiny") == f"me/tiny@{FIRST}"
    (tmp_path / "link").symlink_to(snapshot)
    assert fingerprint_model(str(tmp_path / "link")) == f"me/tiny@{FIRST}"
    assert same_model(fingerprint_files(snapshot), str(snapshot)), "as the first version recorded it"
    elsewhere = shutil.copytree(snapshot, tmp_path / "elsewhere")
    assert fingerprint_model(str(elsewhere)) == fingerprint_files(snapshot) == fingerprint_model(str(model))


def test_a_revision_is_part_of_the_identity(hub, model):
    put_model(hub, "me/tiny", model, FIRST, "main")
    put_model(hub, "me/tiny", model, SECOND, "next")
    assert fingerprint_model("me/tiny", "next") == fingerprint_model("me/tiny", SECOND) == f"me/tiny@{SECOND}"
    assert fingerprint_model("me/tiny", "main") == fingerprint_model("me/tiny") == f"me/tiny@{FIRST}"


def test_a_revision_that_is_not_there_and_one_of_a_folder_are_refused(hub, model):
    put_model(hub, "me/tiny", model, FIRST, "main")
    with pytest.raises(ConfigError, match="me/tiny at revision gone is no directory here, and not to be had"):
        fingerprint_model("me/tiny", "gone")
    with pytest.raises(ConfigError, match="a folder here, which has no revisions"):
        fingerprint_model(str(model), "main")
