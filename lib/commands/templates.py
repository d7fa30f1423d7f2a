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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(f"{template}.jinja").render(words)
