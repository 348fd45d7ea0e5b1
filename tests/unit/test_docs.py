"""What is written by hand in the docs: links lead somewhere, and each system says what a reader wants to know of it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")]
SYSTEMS = sorted(ROOT.glob("docs/systems/*.md"))


def links(page: Path) -> list[str]:
    """Where links within the repository lead to, code and anchors left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`(?!\])", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [link for link in found if link and "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    # The text of docs/fewer-calls.md is written as from there.
    beside = ROOT / "docs" if page.name == "page.md" else page.parent
    assert [link for link in links(page) if not (beside / link).exists()] == []


def test_links_are_found():
    assert "docs/configuration.md" in links(ROOT / "README.md")


@pytest.mark.parametrize("page", SYSTEMS, ids=lambda page: page.stem)
def test_a_system_says_what_it_is_when_to_use_it_what_it_costs_and_how_it_was_checked(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# ") and text.count("\n# ") == 0
    for part in ("Paper", "What it is", "When to use it", "What it costs", "How it was checked"):
        assert f"**{part}.** " in text, part
    assert re.search(r"arXiv \d{4}\.\d{4,5}", text)
    assert any(link.startswith("../../yaml_examples/") for link in links(page)), "no YAML that runs it"
