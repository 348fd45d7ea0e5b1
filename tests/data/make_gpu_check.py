"""Take what `tests/unit/test_gpu_check.py` reads from a finished rehearsal:

    python -m benchmarks.gpu_check --device cpu --size small --model-student tests/models/taught \
        --model-teacher tests/models/taught --out OUT
    python tests/data/make_gpu_check.py OUT
"""

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGET = Path(__file__).parent / "gpu_check"


def main(out: Path) -> None:
    [made] = [path for path in out.glob("*.json") if path.name not in ("state.json", "replies.json")]
    shutil.rmtree(TARGET, ignore_errors=True)
    for run in sorted(out.glob("run-*")):
        take(run, TARGET / run.name, out)
    (TARGET / "results.json").write_text(anywhere(made.read_text(), out))


def take(run: Path, target: Path, out: Path) -> None:
    """What is read of one loop."""
    states = sorted(run.glob("checkpoint-*/trainer_state.json"))
    files = ["arte/manifest.json", "arte/07-sft/student.yaml", "arte/08-evaluate/results.json"]
    adapter = ["adapter_model.safetensors"] if (run / "adapter_model.safetensors").is_file() else []
    for name in [*files, *adapter, *(str(path.relative_to(run)) for path in states)]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".json", ".yaml")):
            (target / name).write_text(anywhere((run / name).read_text(), out))
        else:
            shutil.copyfile(run / name, target / name)
    # Of each probe its outcome; of the log what the trainer said.
    rows = [json.loads(line)["outcome"] for line in (run / "arte/03-probe/probes.jsonl").read_text().splitlines()]
    (target / "arte/03-probe").mkdir()
    (target / "arte/03-probe/probes.jsonl").write_text("".join(json.dumps({"outcome": one}) + "\n" for one in rows))
    log = (run / "arte/07-sft/train.log").read_text().replace("\r", "\n").splitlines()
    said = [line[line.index("{'loss'") :] for line in log if "{'loss'" in line]
    (target / "arte/07-sft/train.log").write_text("\n".join(said) + "\n")


def anywhere(text: str, out: Path) -> str:
    """Without the places of one machine."""
    return text.replace(f"{out.absolute()}/", "").replace(f"{ROOT}/", "")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
