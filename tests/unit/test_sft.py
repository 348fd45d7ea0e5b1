"""Stage 7: the student's config, its environment, and a training that fails."""

import fcntl
import json
import subprocess
import sys

import pytest
import yaml

from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import StageError
from arte_plugin.rows import TailoredExample, write_rows
from arte_plugin.stages import batch
from arte_plugin.stages import fine_tuning as sft
from arte_plugin.training import child as child_process
from tests.tiny import tiny_model

TEACHER = {
    "base_model": "teacher",
    "adapter": "qlora",
    "load_in_4bit": True,
    "lora_r": 8,
    "lora_target_linear": True,
    "lora_mlp_kernel": False,
    "rl": "dpo",
    "rl_beta": 0.1,
    "plugins": ["arte_plugin.ArtePlugin"],
    "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
    "arte": {"student": {"base_model": "student"}},
    "deepspeed": "zero3.json",
    "fsdp_config": {"x": 1},
    "learning_rate": 1e-7,
    "micro_batch_size": 16,
    "max_steps": 3,
    "val_set_size": 0.1,
    "chat_template": "llama3",
    "special_tokens": {"pad_token": "<pad>"},
    "wandb_project": "w",
    "hub_model_id": "me/it",
    "hf_use_auth_token": True,
    "sequence_len": 1024,
    "bf16": False,
    "tf32": True,
    "attn_implementation": "sdpa",
    "gradient_checkpointing": True,
}


@pytest.fixture
def tailored(tmp_path):
    path = tmp_path / "tailored.jsonl"
    write_rows(path, [TailoredExample("t", f"q{i}", "1", "r <ans>1</ans>", "1", f"prompt {i}") for i in range(3)])
    return path


def config(tailored, teacher=TEACHER, made_from=None, **sft_keys):
    student = StudentArgs(base_model="org/student", prompt_style="plain", sft=sft_keys)
    return sft.student_config(teacher, student, tailored, tailored.parent / "07-sft", 7, made_from=made_from)


def test_config_holds_the_recipe_and_the_machine_but_nothing_of_the_teacher(tailored):
    made = config(tailored)
    shared = {"sequence_len", "bf16", "tf32", "attn_implementation", "gradient_checkpointing"}
    own = {"base_model", "datasets", "learning_rate", "micro_batch_size", "val_set_size"}
    assert set(TEACHER) & set(made) == shared | own
    assert all(made[key] == TEACHER[key] for key in shared)
    assert made["base_model"] == "org/student"
    recipe = ("num_epochs", "learning_rate", "warmup_ratio", "lr_scheduler", "val_set_size", "seed")
    assert [made[key] for key in recipe] == [1, 2e-5, 0.03, "linear", 0, 7]
    (entry,) = made["datasets"]
    assert (entry["path"], entry["type"]) == (str(tailored), "arte_plugin.strategies.tailored")
    assert entry["input_format"] == "plain"
    assert made["output_dir"] == str(tailored.parent / "07-sft" / "student")


def test_the_users_keys_win(tailored):
    made = config(tailored, learning_rate=1e-4, adapter="lora", lora_r=4, sequence_len=64, save_steps=5)
    assert (made["learning_rate"], made["adapter"], made["sequence_len"], made["lora_r"]) == (1e-4, "lora", 64, 4)
    assert made["lora_mlp_kernel"] is False
    assert "saves_per_epoch" not in made
    assert "lora_mlp_kernel" not in config(tailored)


def test_new_rows_get_a_new_cache(tailored):
    before = config(tailored)["dataset_prepared_path"]
    assert config(tailored)["dataset_prepared_path"] == before
    write_rows(tailored, [TailoredExample("t", "other", "1", "r", "1", "p")])
    assert config(tailored)["dataset_prepared_path"] != before


def test_another_student_under_the_same_name_is_another_training(tailored):
    """So is the same by another version of the code: neither prepared rows nor checkpoints are taken over."""
    first, second = (config(tailored, made_from={"student": f"org/student@{commit}"}) for commit in "12")
    assert first["dataset_prepared_path"] != second["dataset_prepared_path"]
    assert sft.decisive(first, {}) == sft.decisive(second, {}), "which the stage's inputs tell, and no path"


#: Keys of a student that another machine, another tracker or another disk asks for.
BESIDE = {
    "logging_steps": 10, "dataset_num_proc": 7, "wandb_project": "mine", "save_total_limit": 3, "save_steps": 5,
    "dataloader_num_workers": 2, "gradient_checkpointing": True,
}  # fmt: skip


def test_only_what_decides_the_student_trains_it_again(tailored):
    known = sft.decisive(config(tailored), {})
    assert {"learning_rate", "lr_scheduler", "micro_batch_size", "seed", "sequence_len"} <= known.keys()
    assert sft.decisive(config(tailored, **BESIDE), {}) == known
    assert sft.decisive(config(tailored, {**TEACHER, "dataset_num_proc": 12}), {}) == known
    for key, value in {"learning_rate": 1.0, "weight_decay": 0.1, "adapter": "lora", "optimizer": "lion"}.items():
        assert sft.decisive(config(tailored, **{key: value}), {}) != known
    # Which of the checkpoints is the student depends on when they are made.
    chosen = {"load_best_model_at_end": True}
    assert sft.decisive(config(tailored, **chosen, **BESIDE), {}) != sft.decisive(config(tailored, **chosen), {})


def test_config_passes_axolotls_own_check(tailored, tmp_path):
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault

    student = StudentArgs(base_model=str(tiny_model(tmp_path / "tiny")), prompt_style="chat")
    made = sft.student_config({"sequence_len": 64}, student, tailored, tmp_path / "07-sft", 7)
    checked = validate_config(DictDefault(yaml.safe_load(yaml.safe_dump(made))))
    assert checked.datasets[0].input_format == "chat"
    assert checked.warmup_ratio == 0.03


def test_over_long_examples_are_counted(tmp_path, tailored):
    student = StudentArgs(base_model=str(tiny_model(tmp_path / "tiny")), sft={"sequence_len": 100})
    made = sft.student_config({}, student, tailored, tmp_path, 7)
    short = TailoredExample("t", "short", "1", "r <ans>1</ans>", "1", "p")
    long = TailoredExample("t", "long", "1", "r" * 100, "1", "p")
    (dropped,) = sft.too_long([short, long], made)
    assert (dropped.stage, dropped.reason, dropped.task) == ("sft", "longer_than_sequence_len", "t")
    assert dropped.text.endswith("tokens: long")
    with pytest.raises(StageError, match="All 1 tailored examples"):
        sft.too_long([long], made)


def test_the_child_sees_nothing_of_the_teachers_launcher(monkeypatch):
    gone = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "ACCELERATE_USE_FSDP", "FSDP_VERSION", "WANDB_PROJECT"]
    kept = ["HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "MY_RANK"]
    for name in (*gone, *kept, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    environment = child_process.environment()
    assert not {*gone, "OMP_NUM_THREADS"} & environment.keys()
    assert {*kept} <= environment.keys()
    for name in gone:
        monkeypatch.delenv(name)
    # What is left of other launchers' names in the tester's own shell does not count.
    for name in [name for name in child_process.os.environ if child_process._INHERITED_ENVIRONMENT.fullmatch(name)]:
        monkeypatch.delenv(name)
    assert child_process.environment()["OMP_NUM_THREADS"] == "1"


RUN = subprocess.run


class Child:
    """A Python program in the place of `axolotl train`."""

    def __init__(self, monkeypatch, program):
        def run(command, **kwargs):
            self.command = command
            return RUN([sys.executable, "-c", program], **kwargs)

        monkeypatch.setattr(child_process.subprocess, "run", run)


def test_a_failure_shows_the_end_of_the_log(tailored, tmp_path, monkeypatch):
    program = (
        "print(*map('line {}'.format, range(30)), ' 10%|# | 1/9\\r 20%|# | 2/9', '', sep='\\n'); raise SystemExit(3)"
    )
    child = Child(monkeypatch, program)
    with pytest.raises(StageError) as caught:
        sft.train(config(tailored), tmp_path / "07-sft")
    message = str(caught.value)
    assert "ended with exit code 3" in message
    assert message.endswith("\n".join(f"line {i}" for i in range(15, 30)))
    assert child.command[3:] == ["train", str(tmp_path / "07-sft/student.yaml"), "--launcher", "python"]
    text = (tmp_path / "07-sft/student.yaml").read_text()
    assert yaml.safe_load(text) == config(tailored)
    assert f"axolotl train {tmp_path / '07-sft/student.yaml'}" in text


def test_a_killed_child_and_a_child_without_a_model_are_told_apart(tailored, tmp_path, monkeypatch):
    Child(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(StageError, match="was killed by signal 9"):
        sft.train(config(tailored), tmp_path / "07-sft")
    Child(monkeypatch, "")
    with pytest.raises(StageError, match=r"left no config\.json"):
        sft.train(config(tailored), tmp_path / "07-sft")


def test_a_training_that_still_runs_is_not_started_twice(tailored, tmp_path, monkeypatch):
    folder = tmp_path / "07-sft"
    folder.mkdir()
    with (folder / "train.log").open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        monkeypatch.setattr(child_process.lock, "__defaults__", (0.1,))
        with pytest.raises(StageError, match="still going on"):
            sft.train(config(tailored), folder)


def test_it_goes_on_only_from_whole_checkpoints_of_the_same_config(tailored, tmp_path, monkeypatch):
    folder = tmp_path / "07-sft"
    made = config(tailored)
    student = folder / "student"
    finish = f"open({str(student / 'config.json')!r}, 'w').close()"

    def leave_checkpoints():
        for step, state in ((1, json.dumps({"global_step": 1})), (2, '{"glob')):
            (student / f"checkpoint-{step}").mkdir(parents=True)
            (student / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
        (student / "model.safetensors").write_text("half")

    seen = "import os; print(sorted(os.listdir({0!r})) if os.path.isdir({0!r}) else [])".format(str(student))
    leave_checkpoints()
    Child(monkeypatch, f"{seen}; os.makedirs({str(student)!r}, exist_ok=True); {finish}")
    assert sft.train(made, folder) == sft.TrainedStudent(str(student))
    assert (folder / "train.log").read_text().strip() == "[]"

    leave_checkpoints()
    sft.train(made, folder)
    assert (folder / "train.log").read_text().strip() == "['checkpoint-1']"
    assert [path.name for path in student.iterdir()] == ["config.json"]

    # Keys that say where it is told of, what is kept and how the rows come in change no student.
    leave_checkpoints()
    sft.train({**made, **BESIDE}, folder)
    assert (folder / "train.log").read_text().strip() == "['checkpoint-1']"

    for other in ({"learning_rate": 1.0}, {"dataset_prepared_path": str(folder / "prepared/of-other-rows")}):
        leave_checkpoints()
        sft.train({**made, **other}, folder)
        assert (folder / "train.log").read_text().strip() == "[]"

    (folder / "student.yaml").write_text("half: [")
    leave_checkpoints()
    sft.train(made, folder)
    assert (folder / "train.log").read_text().strip() == "[]"

    leave_checkpoints()
    sft.train({**made, "learning_rate": 1.0}, folder)
    assert (folder / "train.log").read_text().strip() == "[]"


def test_an_adapter_is_returned_on_its_base(tailored, tmp_path, monkeypatch):
    folder = tmp_path / "07-sft"
    made = config(tailored, adapter="lora")
    out = made["output_dir"]
    Child(monkeypatch, f"import os; os.makedirs({out!r}); open({out + '/adapter_config.json'!r}, 'w').close()")
    assert sft.train(made, folder) == sft.TrainedStudent("org/student", out)


def test_an_adapter_has_a_rate_of_its_own(tailored):
    made = config(tailored, adapter="lora")
    assert made["learning_rate"] == 10 * sft.RECIPE["learning_rate"]
    assert (made["lora_r"], made["lora_alpha"], made["lora_target_linear"]) == (16, 16, True)
    assert config(tailored, adapter="qlora", lora_r=4)["lora_alpha"] == 4
    assert "lora_target_linear" not in config(tailored, adapter="lora", lora_target_modules=["q_proj"])
    assert config(tailored)["learning_rate"] == sft.RECIPE["learning_rate"]


@pytest.mark.parametrize("own", [{}, {"bf16": True}])
def test_weights_are_trained_in_float32_unless_told_otherwise(tailored, own):
    made = config(tailored, TEACHER | {"bf16": True}, **own)
    assert (made["bf16"], made.get("plugins")) == ((True, None) if own else (False, ["arte_plugin.Float32Weights"]))


@pytest.fixture
def gpus(monkeypatch):
    """`gpus(4)`: so many on this machine."""
    monkeypatch.setattr(child_process, "has_bf16", lambda: True)
    monkeypatch.setattr("arte_plugin.training.precision._memory", lambda: None)
    return lambda count: monkeypatch.setattr(child_process, "gpus", lambda: count)


@pytest.mark.parametrize(("count", "processes"), [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (6, 4), (8, 8), (16, 8)])
def test_the_batch_is_the_recipe_s_on_any_number_of_gpus(count, processes, tailored, gpus, tmp_path, monkeypatch):
    gpus(count)
    made = config(tailored)
    assert processes * made["micro_batch_size"] * made["gradient_accumulation_steps"] == 8
    # Nor is the student trained again where the run goes on with another number.
    assert sft.decisive(made, {})["micro_batch_size"] == 8 and "processes" not in sft.decisive(made, {})
    child = Child(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(StageError, match="exit code 3"):
        sft.train(made, tmp_path / "07-sft", batch.processes({}, count))
    started = child.command[child.command.index("train") + 2 :]
    several = ["--launcher", "torchrun", "--", "--standalone", "--nproc_per_node", str(processes)]
    assert started == (several if processes > 1 else ["--launcher", "python"])


@pytest.mark.parametrize(
    "own", [{"micro_batch_size": 2}, {"gradient_accumulation_steps": 2}], ids=lambda own: next(iter(own))
)
def test_a_batch_of_one_s_own_is_each_process_s_and_their_number_counts(own, tailored, gpus):
    found = []
    for count in (1, 4, 3):
        gpus(count)
        made = config(tailored, **own)
        assert made["micro_batch_size"] == own.get("micro_batch_size", 8)
        assert batch.processes(own, count) == count
        found.append(sft.decisive(made, own).get("processes", 1))
    assert found == [1, 4, 3]


def test_processes_that_share_their_examples_are_counted_as_one():
    assert batch.batch({"context_parallel_size": 2}, 4)["micro_batch_size"] == 4
    assert batch.processes({"context_parallel_size": 2}, 6) == 4
