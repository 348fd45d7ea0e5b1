"""Fill in `docs/chat-templates.md` with what the templates of the installed TRL and Axolotl come to.

python -m docs.make_chat_templates [--check]

With `--check` and other versions than the table was made with, there is nothing to compare.
"""

import sys
from importlib import metadata

from docs.generated import DOCS, fill_or_check

TARGET = DOCS / "chat-templates.md"


def made_with() -> str:
    """The versions, as the table names them."""
    return f"Made with TRL {metadata.version('trl')} and Axolotl {metadata.version('axolotl')}."


def table() -> str:
    """A line for each template; those that only differ in marks for training share one."""
    from arte_plugin.errors import ConfigError
    from arte_plugin.language.chat_template import OpenThoughtError
    from arte_plugin.language.rendering import Renderer
    from tests.shipped_templates import shipped, tokenizer_for

    rows: dict[tuple[str, ...], list[str]] = {}
    for name, source in shipped().items():
        tokenizer = tokenizer_for(source)
        try:
            template = Renderer(tokenizer, "chat", date="2025-01-31").template
            assert template is not None
        except OpenThoughtError:
            row = ("teacher with `reasoning`", "", "", "")
        except ConfigError:
            row = ("refused", "", "", "")
        else:
            told = ", ".join(f"`{key}: {str(value).lower()}`" for key, value in template.kwargs.items())
            between = "an empty thought" if template.forgets_empty_thought else code(template.opening + template.space)
            row = ("works", told, between, code(template.end))
            row = (*row, "yes") if template.tells_the_date else (*row, "")
        rows.setdefault((name.removesuffix("_training"), *row), []).append(name)
    lines = ["| template | | given | between prompt and reply | end of a reply | date |", "|---|---|---|---|---|---|"]
    for (name, *cells), names in rows.items():
        both = f"{name}, {name.split('/')[1]}_training" if len(names) > 1 else names[0]
        lines.append("| " + " | ".join([both, *cells, *[""] * (5 - len(cells))]) + " |")
    return "\n".join(lines)


def code(text: str) -> str:
    """As inline code in a table, with white space to be seen."""
    shown = text.replace("\n", "⏎").replace("|", "\\|")
    return f"`{shown.replace(' ', '␣')}`" if shown else ""


def main() -> int:
    """Write or check the page."""
    if "--check" in sys.argv[1:] and made_with() not in TARGET.read_text(encoding="utf-8"):
        print(f"{TARGET.name}: made with other versions than are installed; not compared.")
        return 0
    return fill_or_check(TARGET, {"templates": f"{made_with()}\n\n{table()}"})


if __name__ == "__main__":
    raise SystemExit(main())
