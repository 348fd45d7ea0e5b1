"""A renderer that adds nothing, for tests of what is asked and how replies are taken."""


class PlainRenderer:
    """Prompts and replies as they are."""

    style = "plain"
    thought = None

    def prompt(self, text: str, prefill: str = "") -> str:
        return text + prefill

    def asking(self, text: str, prefill: str = "") -> str:
        return text + prefill

    def said(self, text: str) -> str:
        return text

    def special_strings_in(self, text: str) -> list[str]:
        return []
