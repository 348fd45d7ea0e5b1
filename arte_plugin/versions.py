"""Versions of the code that decides what a run's rows are.

A stage is done for its inputs, and these numbers are among them. Who changes code so that the same inputs give other
rows raises the number here, and runs that were made before make that stage anew when they go on. A change that alters
no row (a comment, a faster loop, a message) raises nothing. `tests/unit/test_versions.py` holds the behaviour of what
is easily changed unawares against committed digests, and says which number to raise. What needs no number: the prompts,
which are hashed as they come out (`wording`), and the questions of a task, whose rows are hashed themselves.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from arte_plugin.language import answers, prompts

#: How a reply is read: `language/answers.py`, where the number stands, `language/answer_tags.py`,
#: `language/question_tags.py`.
READING = answers.VERSION

#: How prompts and completions become text and tokens: `language/rendering.py`, `language/chat_template.py`,
#: `strategies/`, `training/dpo_rows.py`.
RENDERING = 2

#: How an engine turns a request into a completion (`engines/`): sampling, stop strings, what is cut off and left out.
#: It is part of every cached answer's key: raise it where an answer comes out otherwise, and all is asked anew.
ENGINES = {"transformers": 2, "server": 1}

#: The stages' own code: all that lies between a stage's inputs and its rows and is not told of above.
STAGES = {
    # stages/elicit.py, stages/new_questions.py, stages/rationales.py
    "elicit": 3,
    # stages/worked_examples.py
    "elicit/worked": 1,
    # stages/respond.py, stages/choosing.py, stages/irt.py
    "preference-set": 1,
    # stages/probing.py, stages/racing.py, stages/scoring.py; the signals answers and likelihood, where one is alone
    "probe": 1,
    # stages/set_consistency.py
    "probe/consistency": 1,
    # stages/pairing.py, pairings/best_worst.py, stages/ties.py, stages/shrinkage.py; stages/gaps.py, stages/cells.py,
    # stages/chance.py
    "pair": 6,
    # training/align.py, and what is set in Axolotl's config for the teacher's training
    "align": 1,
    # stages/before_after.py, stages/align_report.py, stages/liking.py, stages/new_questions.py, stages/rationales.py
    "align-check": 1,
    # stages/tailoring.py, stages/arms.py, stages/new_questions.py, stages/rationales.py
    "regenerate": 2,
    # stages/fine_tuning.py beyond the config that it writes, which is hashed
    "sft": 1,
    # stages/student_dpo.py, pairings/attempts.py
    "student-dpo": 1,
    # stages/evaluation.py, stages/lm_eval_files.py, stages/compare.py, show/results.py
    "evaluate": 1,
    # stages/diagnose.py, run/evidence.py, diagnostics/ beyond each one's own version
    "diagnose": 1,
    # loop/rounds.py, run/merging.py; a round is a run, and depends on all of the above as well
    "rounds": 1,
}

#: What a stage depends on beside its own code; stages that are not here depend on all of it.
_PARTS: dict[str, tuple[str, ...]] = {
    "pair": ("prompts", "rendering"),
    "align": ("rendering",),
    "sft": ("rendering",),
}


def stage_inputs(stage: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs` of a stage, by its name in the manifest (`sft/ARM` is one of `sft`), with the versions of its code.

    Raises `KeyError` for a stage that has no version.
    """
    name = stage if stage in STAGES else stage.partition("/")[0]
    parts = {"prompts": wording, "reading": lambda: READING, "rendering": lambda: RENDERING}
    of_parts = {part: parts[part]() for part in _PARTS.get(name, tuple(parts))}
    # Nothing in a later round is made of what the diagnostics say, nor of the student of stage 7b.
    of_round = {one: number for one, number in STAGES.items() if one not in ("diagnose", "student-dpo")}
    return {**inputs, "versions": {"stage": of_round if name == "rounds" else STAGES[name], **of_parts}}


def engine(kind: str) -> str:
    """An engine in a model's identity. The first version goes by the bare name, as it did before there were others."""
    return kind if ENGINES[kind] == 1 else f"{kind}/{ENGINES[kind]}"


_SEEDS = [("1 + 1", "2"), ("2 + 2", "4")]
_EXAMPLES = [("2 + 3", "Two and three. <ans>5</ans>")]

#: What each function of `prompts` is given to be hashed by what it returns.
FIXED_INPUTS: dict[str, tuple[Any, ...]] = {
    "question_prompt": ("Add up.", _SEEDS, 5),
    "tagged_question": (3, "3 + 3", "6"),
    "question_prefill": (2,),
    "technique_prompt": ("Add up.", "First guess, then check.", "number", "3 + 4"),
    "solve_prompt": ("Add up.", "choice", "3 + 4", _EXAMPLES),
    "solve_prefix": ("Add up.", "boolean", _EXAMPLES),
    "solve_rest": ("3 + 4",),
    "bare_rationale": ("7",),
    "closed_answer": (" = 7.\nNext",),
}


def wording() -> str:
    """SHA-256 of every word of `prompts`: its constants, and what its functions return for fixed inputs."""
    constants = {name: value for name, value in vars(prompts).items() if name.isupper()}
    said = {name: getattr(prompts, name)(*given) for name, given in FIXED_INPUTS.items()}
    content = json.dumps([constants, said], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()
