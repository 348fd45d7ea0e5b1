"""What is known of each task's preference set, as `arte status` shows it."""

from collections.abc import Mapping
from typing import Any

from arte_plugin.diagnostics.preference_set import preference_set_lines
from arte_plugin.show.tables import Lines, format_table

#: Columns of the preference set's table that need no check of its consistency.
_OF_THE_SET = 7


def preference_set_tables(report: Mapping[str, Any]) -> str:
    """What is known of each task's preference set, and, below it, how far probes on it agree with those on all."""
    # Of one task after another: where one has the lines of the task before, they are not to be taken for those.
    of_tasks = [preference_set_lines({name: task}) for name, task in report.items()]
    known = [list(dict.fromkeys(tuple(line[:_OF_THE_SET]) for line in lines)) for _, *lines in of_tasks]
    tables: list[Lines] = [[of_tasks[0][0][:_OF_THE_SET], *(list(line) for lines in known for line in lines)]]
    students = list(dict.fromkeys(student for task in report.values() for student in task["consistency"]))
    for student in students:
        lines = []
        for name, task in report.items():
            if found := task["consistency"].get(student):
                head, *lines_of_task = preference_set_lines({name: {**task, "consistency": {student: found}}})
                lines += [[*line[:2], *line[_OF_THE_SET:]] for line in lines_of_task]
        first = f"task, by {student}" if len(students) > 1 else "task"
        tables.append([[first, "preference set", *head[_OF_THE_SET:]], *lines])
    return "".join(f"\n{format_table(table)}\n" for table in tables)
