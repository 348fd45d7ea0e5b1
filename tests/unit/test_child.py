"""The end of a child's log, as an error message shows it."""

from arte_plugin.training import child

LEAKS = """nanobind: leaked 4 instances!
 - leaked instance 0x7f08bffb68c8 of type "triton._C.libtriton.ir.attribute"
nanobind: leaked 514 functions!
 - leaked function "create_exp2"
 - ... skipped remainder
nanobind: this is likely caused by a reference counting issue in the binding code.
See https://nanobind.readthedocs.io/en/latest/refleaks.html
"""


def test_what_a_library_counts_at_its_end_hides_no_error(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("ValueError: no_such_optimizer\n" + LEAKS * 4)
    said = child.failure(1, log)
    assert said.endswith(f"{log}:\nValueError: no_such_optimizer") and said.startswith("ended with exit code 1.")
