"""The quickstart's YAML on its real models, SmolLM2 and the demo teacher, at a smaller size."""

import yaml

from arte_plugin.manifest import Manifest
from arte_plugin.rows import Draft, TailoredExample, read_rows
from tests.e2e.conftest import ROOT, axolotl


def test_quickstart_on_the_real_models(demo_models, tmp_path):
    config = yaml.safe_load((ROOT / "yaml_examples/quickstart-cpu.yaml").read_text())
    config["base_model"] = str(demo_models / "teacher")
    config["output_dir"] = str(tmp_path / "out")
    block = config["arte"]
    block["student"]["base_model"] = str(demo_models / "student")
    block["tasks"] = block["tasks"][:1]
    block["tasks"][0] |= {"validation_questions": 3, "test_questions": 2}
    block["student"]["sft"]["num_epochs"] = 1
    block["elicit"]["questions"] = 2
    student = {"base_model": block["student"]["base_model"], "shots": [0, 1]}
    block["preference_set"] |= {"size": 2, "respondents": [student]}
    block["probe"]["max_new_tokens"] = 40
    block["pair"] = {"question_pairs": 1, "rationale_pairs": 1}
    block["regenerate"]["questions"] = 2
    block["evaluate"] = {"shots": [0], "max_new_tokens": 24}
    path = tmp_path / "quickstart.yaml"
    path.write_text(yaml.safe_dump(config))
    # Under `accelerate launch` the plugin would take all cores, and the test beside this one needs its own.
    done = axolotl("train", str(path), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "out" / "arte"
    drafts = read_rows(folder / "01-elicit/drafts.jsonl", Draft)
    assert {draft.technique for draft in drafts} == {"step_by_step", "split", "rule_first", "solve_then_check"}
    by_question = {
        question: [d.rationale for d in drafts if d.question == question] for question in {d.question for d in drafts}
    }
    assert any(len(set(rationales)) == 4 for rationales in by_question.values())
    examples = read_rows(folder / "06-regenerate/tailored.jsonl", TailoredExample)
    assert examples and all(example.rationale.endswith("</ans>") for example in examples)
    assert list(Manifest(folder / "manifest.json").stages())[-1] == "evaluate"
    assert "95 % interval" in done.stdout
