"""What tells a model's files from any other's: the content of a folder, or a revision on the Hub."""

import functools
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from arte_plugin.errors import ConfigError

_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
#: Files of a checkpoint that decide neither what it computes nor how text becomes tokens.
_BESIDE_THE_POINT = ("README.md", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth")

#: Files up to this size are read whole.
_WHOLE = 64 << 20
#: What is read at a time of larger ones: a page of the disk.
_SAMPLE = 1 << 12
#: Samples of each tensor, its first and last page among them. Training and merging change a tensor all over.
_SAMPLES = 4
#: Of formats whose tensors can't be found without loading them: a sample in so many bytes.
_STRIDE = 1 << 20


def fingerprint_model(path: str, revision: str | None = None) -> str:
    """The identity of a model as a YAML names it: its content on disk, or its revision on the Hub (`NAME@COMMIT`).

    A snapshot in the Hub's cache, given as a folder, is the same model as its name and revision. Raises `ConfigError`
    where there is no such model, and for a `revision` of a folder.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        if revision:
            raise ConfigError(f"{path} is a folder here, which has no revisions: take `revision: {revision}` out.")
        return _snapshot(folder) or fingerprint_files(folder)
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise ConfigError(f"There is no model directory {path} (seen from {Path.cwd()}).")
    return _hub_revision(path, revision)


def fingerprint_files(folder: Path) -> str:
    """The identity of what lies in a folder, wherever it has come from. Raises `ConfigError` where that is no model."""
    return _combined(digests(folder))


def same_model(recorded: Any, path: str, revision: str | None = None) -> bool:
    """Whether a fingerprint that a run has `recorded` is this model's, in today's form or the first version's."""
    if recorded == fingerprint_model(path, revision):
        return True
    folder = Path(path).expanduser()
    return folder.is_dir() and recorded in (fingerprint_files(folder), _combined(digests(folder, _as_at_first)))


def digests(folder: Path, hashed: Callable[[Path], str] | None = None) -> dict[str, str]:
    """The files of a model that decide what it computes or how text becomes tokens, by name, each with its hash.

    Files up to 64 MiB are hashed whole; of larger ones, all names, shapes and places of tensors, and samples of every
    tensor: 140 GB need not be read. Raises `ConfigError` where there is no model.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and _counts(file))
    if not any(file.name in ("config.json", "adapter_config.json") for file in files):
        raise ConfigError(f"No model in {folder}: expected config.json (or adapter_config.json) there.")
    if any(file.name == "adapter_config.json" for file in files):
        # A DPO run with LoRA leaves a full-size model.safetensors beside the adapter that is not read.
        files = [file for file in files if file.name.startswith("adapter_")]
    return {file.name: (hashed or _hash_file)(file) for file in files}


def _combined(of_files: dict[str, str]) -> str:
    content = "".join(f"{name}\0{digest}\0" for name, digest in of_files.items())
    return hashlib.sha256(content.encode()).hexdigest()


def _counts(file: Path) -> bool:
    if file.name in _BESIDE_THE_POINT or file.name.startswith("."):
        return False
    return file.suffix in (*_WEIGHTS, ".json", ".jinja", ".model", ".txt") and file.name != "trainer_state.json"


def _hash_file(file: Path) -> str:
    state = file.stat()
    return _hash_once(file.resolve(), state.st_size, state.st_mtime_ns, state.st_ino)


@functools.lru_cache(maxsize=4096)
def _hash_once(file: Path, size: int, *_state: int) -> str:
    """Once a process for as long as the file is the same."""
    with file.open("rb") as stream:
        if size <= _WHOLE:
            return hashlib.sha256(stream.read()).hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for begin, end in _spans(stream, size) if file.suffix == ".safetensors" else [(0, size)]:
            for place in _places(begin, end, _SAMPLES if file.suffix == ".safetensors" else -(-size // _STRIDE)):
                stream.seek(place)
                digest.update(stream.read(min(_SAMPLE, end - place)))
    return digest.hexdigest()


def _spans(stream: IO[bytes], size: int) -> Iterator[tuple[int, int]]:
    """The header of a safetensors file, cut so that all of it is read, and each tensor's bytes."""
    (length,) = struct.unpack("<Q", stream.read(8))
    try:
        header = json.loads(stream.read(min(length, size)))
        tensors = sorted(one["data_offsets"] for name, one in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not what its name says: whoever loads it will say so.
        yield 0, size
        return
    first = 8 + length
    yield from ((begin, min(begin + _SAMPLE, first)) for begin in range(0, first, _SAMPLE))
    yield from ((first + begin, first + end) for begin, end in tensors if end > begin)


def _places(begin: int, end: int, samples: int) -> list[int]:
    """Where to read in a span: evenly, its very beginning and end among them."""
    last = max(begin, end - _SAMPLE)
    count = min(samples, 1 + -(-(last - begin) // _SAMPLE))
    return [begin + i * (last - begin) // max(1, count - 1) for i in range(count)]


def _as_at_first(file: Path) -> str:
    """The hash of the first version, which runs have recorded: 66 samples of a large file."""
    digest, size, sample = hashlib.sha256(), file.stat().st_size, 1 << 16
    with file.open("rb") as stream:
        if size <= _WHOLE:
            return hashlib.sha256(stream.read()).hexdigest()
        digest.update(str(size).encode())
        for i in range(66):
            stream.seek(i * (size - sample) // 65)
            digest.update(stream.read(sample))
    return digest.hexdigest()


def _snapshot(folder: Path) -> str | None:
    """`NAME@COMMIT` of a folder in the Hub's cache, `models--ORG--NAME/snapshots/COMMIT`."""
    place = folder.resolve()
    kind, *name = place.parent.parent.name.split("--")
    if place.parent.name != "snapshots" or kind != "models" or not name:
        return None
    return f"{'/'.join(name)}@{place.name}"


@functools.lru_cache(maxsize=256)
def _hub_revision(repository: str, revision: str | None) -> str:
    """Asked for once a process: a branch that moves meanwhile makes no other model of the one that is loaded."""
    from huggingface_hub import hf_hub_download

    try:
        config = Path(hf_hub_download(repository, "config.json", revision=revision))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        offline = " HF_HUB_OFFLINE is set." if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
        wanted = f"{repository} at revision {revision}" if revision else repository
        raise ConfigError(
            f"{wanted} is no directory here, and not to be had from the Hub either ({reason}).{offline} "
            "Check the name; for a local model give its path."
        ) from error
    # …/snapshots/REVISION/config.json
    return f"{repository}@{config.parent.name}"


def tokenizer_hash(tokenizer) -> str:
    """Axolotl may change the tokenizer (chat template, added tokens), so the files do not tell all."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{content}\0{tokenizer.chat_template}\0{tokenizer.special_tokens_map}".encode()).hexdigest()
