"""The promise that no model is in memory twice, nor beside another, by counting what is alive in this process."""

import pytest
import torch

from arte_plugin.engines.transformers import TransformersEngine
from arte_plugin.errors import StageError
from arte_plugin.loop import loop
from arte_plugin.run.run import Run
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.pair import Pair
from arte_plugin.stages.student_lm import Candidate, loaded_student
from tests.alive import alive_models, embedding_shape, watch_engines


@pytest.fixture
def run(write_config, monkeypatch):
    """A run of the tiny config, of which no stage has been run."""
    from axolotl.cli.config import load_cfg

    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "1")
    return Run(load_cfg(str(write_config({"arte.elicit.questions": 3, "arte.elicit.max_new_tokens": 120}))))


@pytest.fixture
def shape(taught):
    return embedding_shape(taught)


def test_each_model_is_alone_while_it_generates_and_gone_afterwards(run, shape, monkeypatch):
    assert alive_models(shape) == 0
    loaded = []
    watch_engines(lambda: loaded.append(alive_models(shape)), monkeypatch)
    for stage, in_all in (("elicit", 1), ("preference-set", 2), ("probe", 3)):
        loop.until(run, stage)
        # Teacher and student are of one kind here, so that a teacher beside a student would be counted too.
        assert loaded == [1] * in_all
        assert alive_models(shape) == 0
    kept = torch.nn.Parameter(torch.zeros(shape))
    assert alive_models(shape) == 1
    del kept


def test_stages_that_ask_the_same_model_load_it_once_and_it_is_gone_before_the_training(run, shape, monkeypatch):
    loaded, paired = [], []
    watch_engines(lambda: loaded.append(alive_models(shape)), monkeypatch)
    pair = Pair.do
    monkeypatch.setattr(Pair, "do", lambda self, run: (pair(self, run), paired.append(alive_models(shape))))
    loop.until(run, "pair")
    # The teacher; the student, as a respondent and for the probes.
    assert loaded == [1, 1]
    assert paired == [0]
    assert alive_models(shape) == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_model_is_gone_after_an_error_amid_a_stage(run, shape, monkeypatch, error):
    def fails(self, rows):
        assert alive_models(shape) == 1
        raise error("amid a batch")

    monkeypatch.setattr(TransformersEngine, "_run_shared", fails)
    try:
        loop.until(run, "elicit")
    except error as problem:
        # Another one, of the counting for example, is no answer.
        assert str(problem) == "amid a batch"
    else:
        pytest.fail("the error was lost")
    assert alive_models(shape) == 0
    monkeypatch.undo()


@pytest.mark.parametrize("fails", [False, True])
def test_an_evaluated_student_is_gone_even_where_its_model_is_held(run, shape, taught, fails):
    candidate = Candidate("base", "base", run.args.students[0], TrainedStudent(str(taught)))
    held = []
    try:
        with loaded_student(candidate, run.cfg, plain_greedy=True) as (model, _):
            held.append(model)
            assert alive_models(shape) == 1
            if fails:
                raise StageError("amid an answer")
    except StageError:
        assert fails
    assert alive_models(shape) == 0
