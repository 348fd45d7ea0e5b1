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


@pytest.fixture
def serve():
    """Starts servers in this process that give staged answers."""
    from tests.staged_server import Staged

    made = []

    def start(*answers, **more):
        made.append(Staged(*answers, **more))
        return made[-1]

    yield start
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture
def engine_for(renderer):
    """A server engine for such servers."""
    from arte_plugin.config.engines import ServerEngineArgs
    from arte_plugin.engines.dialects import Writer
    from arte_plugin.engines.server import ServerEngine

    def make(*servers, api="vllm", adapter=None, api_key=None, **settings):
        urls = [server if isinstance(server, str) else server.url for server in servers]
        given = {"kind": "server", "api": api, "teacher": {"base_urls": urls}, "patience": 5, "timeout": 5, **settings}
        writer = Writer(api, renderer, "the-model", "arte-123" if adapter else None)
        return ServerEngine(
            writer, ServerEngineArgs.model_validate(given), urls, adapter=adapter, api_key=api_key
        )  # fmt: skip

    return make
