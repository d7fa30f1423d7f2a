"""Code and Markdown, no HTML, from the templates in `template/`."""

from pathlib import Path

FOLDER = Path(__file__).parent / "template"


def fill(template: str, **words: object) -> str:
    """Return the text of a template.

    Parameters
    ----------
    template : str
        Name of a file in `template/`, without ``.jinja``.
    **words : object
        What the template names.

    Raises
    ------
    jinja2.UndefinedError
        If it names anything else.
    """
    from jinja2 import StrictUndefined, Template

    text = (FOLDER / f"{template}.jinja").read_text(encoding="utf-8")
    return Template(text, undefined=StrictUndefined, keep_trailing_newline=True).render(words)
