"""The tables of diagnostics fit the screen, whatever a task is called."""

from arte_plugin.diagnostics.diversity import Diversity, DiversitySettings
from arte_plugin.diagnostics.length import Length
from arte_plugin.plugs import Evidence, NoSettings
from arte_plugin.show.diagnosed import shown
from arte_plugin.show.tables import WIDTH
from tests.diagnosed import Offline, a_draft, a_pair, a_task, an_example

TASKS = [a_task("boolean_expressions_with_brackets"), a_task("sums")]


def evidence() -> dict[str, Evidence]:
    found = {}
    for task in TASKS:
        words = [f"question number {i} " + "and so on " * (i % 4) for i in range(30)]
        drafts = [a_draft(text, f"because of {text}", task=task.name) for text in words]
        examples = [an_example(text + "again", task=task.name) for text in words[:12]]
        pairs = [a_pair("a long rationale " * (2 + i % 3), "short " * (1 + i % 5)) for i in range(9)]
        found[task.name] = Evidence(
            drafts=drafts, examples={"arte": examples, "unaligned": examples[::-1]}, pairs=pairs
        )
    return found


def test_tables_by_task_fit(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for diagnostic in (Length(NoSettings()), Diversity(DiversitySettings())):
        lines = diagnostic.table(TASKS, evidence(), [], Offline())
        text = shown(lines)
        assert max(map(len, text.splitlines())) <= WIDTH
        assert all(f"{task.name}:\n" in text for task in TASKS)
        if isinstance(diagnostic, Diversity):
            intervals = [cell for row in lines[1:] for cell in row if " to " in cell]
            assert intervals and all(one in text for one in intervals)


def test_a_row_without_a_name_is_of_the_task_above():
    text = shown([["task", "n"], ["sums", "1"], ["", "2"], ["more", "3"]])
    assert text == "sums:\n\nn\n-\n1\n2\n\nmore:\n\nn\n-\n3"
    assert shown([["measure", "n"], ["s_r", "1"]]).startswith("measure")
