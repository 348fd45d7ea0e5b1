"""Question-level pairs: trained where they were written, under a prompt that was seen, and without an end."""

from collections import Counter

import pytest
from transformers import AutoTokenizer

from arte_plugin.config.pair import PairArgs
from arte_plugin.language import prompts
from arte_plugin.language.question_tags import begun_before, parse_questions, place_behind
from arte_plugin.rows import Draft
from arte_plugin.stages.pairing import pair
from arte_plugin.stages.question_pairs import prompts_note
from arte_plugin.strategies.pairs import render_pair
from arte_plugin.training.dpo_rows import ids
from tests.tiny import tiny_model

CALLS = 16


def asked(call):
    return prompts.question_prompt("Add.", [(f"{call} + {i}", str(call + i)) for i in range(3)], 5)


def replied(call, questions=5):
    """A reply with a few words in front, and its questions as a teacher may write them."""
    return "Sure!\n" + "\n".join(
        f"<Question_{4 + i}>\n<input>{call} * {i}</input><target>{call * i}</target></Question_{4 + i}>"
        for i in range(questions)
    )


def drafts_of(calls):
    """One draft for each question of each call, and scores that have nothing to do with where a question stands."""
    drafts, scored = [], {}
    for call in calls:
        reply = replied(call)
        for place, (question, begun) in enumerate(zip(parse_questions(reply)[0], begun_before(reply), strict=True)):
            name = f"q{call}-{place}"
            drafts.append(
                Draft(
                    f"{name}-t",
                    "sums",
                    name,
                    question.question,
                    question.target,
                    "t",
                    "<ans>1</ans>",
                    "1",
                    asked(call),
                    "solve",
                    begun,
                )
            )
            scored[f"{name}-t"] = (call * 7 + place * 13) % 29 / 29
    return drafts, scored


def made(drafts, scored, **settings):
    pairs, _ = pair(drafts, scored, PairArgs(rationale_pairs=0, **settings), 42, lambda prompt, completion: True)
    return pairs


def test_the_places_of_questions_in_a_reply():
    reply = replied(1) + "<Question_9>cut off"
    assert [place_behind(begun) for begun in begun_before(reply)] == [0, 1, 2, 3, 4]
    assert begun_before(reply)[0] == "Sure!\n"
    assert all(reply.startswith(begun + "<Question_") for begun in begun_before(reply))
    assert (begun_before("no tags"), place_behind("")) == ([], 0)


def test_within_a_call_the_earlier_question_stands_where_it_was_written():
    drafts, scored = drafts_of(range(CALLS))
    by_id = {draft.question_id: draft for draft in drafts}
    pairs = [one for one in made(drafts, scored) if one.prompt_of == "both"]
    assert len(pairs) > 5
    earlier_is = Counter()
    for one in pairs:
        chosen, rejected = by_id[one.chosen_id], by_id[one.rejected_id]
        earlier, which = min((chosen, "chosen"), (rejected, "rejected"), key=lambda of: len(of[0].question_begun))
        earlier_is[which] += 1
        assert chosen.question_prompt == rejected.question_prompt == one.prompt
        call = int(one.chosen_id[1:].split("-")[0])
        # The prompt and what the teacher wrote, to the letter, and then that very question under its number.
        assert replied(call).startswith(one.begun) and one.begun == earlier.question_begun
        number = 4 + int(earlier.question_id.split("-")[1])
        for text, draft in ((one.chosen, chosen), (one.rejected, rejected)):
            assert text == prompts.tagged_question(number, draft.question, draft.target)
            assert draft.question not in one.begun
    assert min(earlier_is.values()) > 0


def test_pairs_within_a_call_come_first():
    drafts, scored = drafts_of(range(CALLS))
    everything = Counter(one.prompt_of for one in made(drafts, scored, question_pairs=10_000))
    assert Counter(one.prompt_of for one in made(drafts, scored, question_pairs=everything["both"])) == {
        "both": everything["both"]
    }
    assert everything["chosen"] + everything["rejected"] > everything["both"] > 0


def test_pairs_of_two_calls_take_turns_in_whose_prompt_they_have():
    """Else the chosen text would be the one that was written for the prompt, and that is what would be learned."""
    drafts, scored = drafts_of(range(CALLS))
    by_id = {draft.question_id: draft for draft in drafts}
    apart = [one for one in made(drafts, scored, question_pairs=10_000) if one.prompt_of != "both"]
    counts = Counter(one.prompt_of for one in apart)
    assert abs(counts["chosen"] - counts["rejected"]) <= 1
    for one in apart:
        place = by_id[one.chosen_id if one.prompt_of == "chosen" else one.rejected_id]
        assert (one.prompt, one.begun) == (place.question_prompt, place.question_begun)
        number = f"<Question_{4 + int(place.question_id.split('-')[1])}><input>"
        assert one.chosen.startswith(number) and one.rejected.startswith(number)


def test_drafts_of_an_earlier_version_stand_behind_the_prompt():
    drafts, scored = drafts_of(range(CALLS))
    old = [Draft(**{**vars(draft), "question_begun": ""}) for draft in drafts]
    pairs = made(old, scored)
    assert {one.begun for one in pairs} == {""}
    assert all(one.chosen.startswith("<Question_4><input>") for one in pairs)
    assert all(one.chosen_id[:3] == one.rejected_id[:3] for one in pairs if one.prompt_of == "both")


@pytest.mark.parametrize("chat", [True, False])
def test_what_is_trained_on_continues_the_reply_and_ends_no_turn(tmp_path, chat):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model(tmp_path / "model", chat_template=chat))
    begun = replied(1, 2) + "\n"
    texts = {"prompt": asked(1), "begun": begun, "chosen": "<Question_6>a</Question_6>", "rejected": "<Question_6>b"}
    pair_ = {**texts, "level": "question"}
    trained = ids(render_pair(pair_, tokenizer, "auto"), tokenizer)
    turn = "<|im_end|>\n<|im_start|>assistant\n" if chat else " "
    assert tokenizer.decode(trained["prompt_ids"]).endswith(asked(1) + turn + begun)
    assert tokenizer.decode(trained["chosen_ids"]) == texts["chosen"]
    assert tokenizer.decode(trained["rejected_ids"]) == texts["rejected"]
    # White space in front of a reply's first question is the template's, and not there twice.
    led = {key: ids(render_pair({**pair_, "begun": text}, tokenizer, "auto"), tokenizer) for key, text in
           {"none": "", "some": "\n\n"}.items()}  # fmt: skip
    assert led["some"] == led["none"]
    # At the beginning of a reply likewise; a rationale ends its reply as ever.
    first = ids(render_pair({**pair_, "begun": ""}, tokenizer, "auto"), tokenizer)
    assert tokenizer.decode(first["chosen_ids"]).strip() == "<Question_6>a</Question_6>"
    rationale = ids(render_pair({**pair_, "begun": "", "level": "rationale"}, tokenizer, "auto"), tokenizer)
    assert rationale["chosen_ids"][:-1] == first["chosen_ids"]
    assert rationale["chosen_ids"][-1] == tokenizer.eos_token_id


def test_whose_prompts_the_pairs_have_is_told():
    assert prompts_note(["both", "chosen", "both", "rejected"]) == (
        "2 share a call, 1 the chosen one's prompt, 1 the rejected one's"
    )
    assert prompts_note(["", ""]) == ""
