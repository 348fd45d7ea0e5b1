"""Makes TRL train on pairs exactly as they are rendered: with the tokens that the teacher is asked with, and no others.

TRL lets the tokenizer put its BOS in front, where a template may have none, adds an EOS behind every other end-of-turn
token, and tokenises prompt and reply together, where a token may reach over the border. It has no setting for any of
this, so the method that tokenises the rows is replaced, for rows that carry the mark. Others are left to TRL.
"""

from typing import Any

from arte_plugin.language.rendering import token_ids

#: The column that says that a row is rendered.
MARK = "rendered"


def install() -> None:
    """Have Axolotl's DPO trainer tokenise marked rows by `ids`. Doing so twice is the same as once."""
    from accelerate import PartialState
    from axolotl.core.trainers.dpo.trainer import AxolotlDPOTrainer

    theirs = AxolotlDPOTrainer._prepare_dataset
    if getattr(theirs, "of_arte", False):
        return

    def prepare(self: Any, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        columns = dataset.column_names or []
        if MARK not in columns:
            return theirs(self, dataset, processing_class, args, dataset_name)
        if not all(dataset[MARK]):
            # Rows of other data sets are among them.
            dataset = theirs(self, dataset, processing_class, args, dataset_name)
        tokenizer = getattr(processing_class, "tokenizer", processing_class)
        # As TRL does: the other ranks find what the first one has made.
        with PartialState().main_process_first():
            return dataset.map(ids, fn_kwargs={"tokenizer": tokenizer}, desc=f"Tokenizing {dataset_name} pairs")

    prepare.of_arte = True  # type: ignore[attr-defined]
    AxolotlDPOTrainer._prepare_dataset = prepare


def ids(row: dict[str, Any], tokenizer: Any) -> dict[str, list[int]]:
    """`prompt_ids`, `chosen_ids` and `rejected_ids` of a marked row; nothing for another."""
    if not row[MARK]:
        return {}
    prompt_ids, chosen_ids = token_ids(tokenizer, row["prompt"], row["chosen"])
    _, rejected_ids = token_ids(tokenizer, row["prompt"], row["rejected"])
    return {"prompt_ids": prompt_ids, "chosen_ids": chosen_ids, "rejected_ids": rejected_ids}
