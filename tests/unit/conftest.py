"""A tiny model, its tokenizer and what renders for it, made once for each module that asks for them."""

from pathlib import Path

import pytest

from tests.tiny import tiny_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the model lies."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def renderer(tokenizer):
    """Of plain prompts."""
    from arte_plugin.language.rendering import Renderer

    return Renderer(tokenizer, "plain")


@pytest.fixture
def in_the_repository(monkeypatch):
    """In the repository's folder, where the paths in the examples begin."""
    monkeypatch.chdir(ROOT)
