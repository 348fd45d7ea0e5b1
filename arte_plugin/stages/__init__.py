"""The eight stages of ARTE in order, a check, the student's own DPO, and tables that may follow.

Stage 5 is Axolotl's own DPO run and has no module here.
"""

#: Name and folder of each stage; the aligned teacher of stage 5 is in `output_dir` itself. Code that makes other rows
#: of the same inputs raises a number in `versions.py`.
STAGES = {
    "elicit": "01-elicit",
    "preference-set": "02-preference-set",
    "probe": "03-probe",
    "pair": "04-pair",
    "align": "",
    "align-check": "05-align-check",
    "regenerate": "06-regenerate",
    "sft": "07-sft",
    "student-dpo": "07b-student-dpo",
    "evaluate": "08-evaluate",
    "diagnose": "09-diagnose",
}
