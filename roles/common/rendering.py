"""Templates to text: strict, and before anything is sent."""

from email.header import Header
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError
from pydantic import SecretStr

from roles.common.errors import SiteError
from roles.common.site import ROOT


def _finalize(value: Any) -> Any:
    """Write a secret in clear, and refuse what would read `None` in a configuration file."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if value is None:
        raise ValueError("a value is None; expected text, or a condition around it")
    if isinstance(value, bool):
        raise TypeError("a value is a boolean; expected the daemon's own word for it")
    return value


@cache
def _environment(templates: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )


def render(name: str, values: dict[str, Any], templates: Path = ROOT / "templates") -> str:
    """Render a template below `templates/`.

    Args:
        name: its path, such as `mta/etc/postfix/main.cf.j2`.
        values: what it may use; anything else is an error.
        templates: the folder of templates.

    Raises:
        SiteError: naming the template and the place.
    """
    try:
        return _environment(templates).get_template(name).render(values)
    except (TemplateError, ValueError, TypeError) as error:
        line = getattr(error, "lineno", None) or _line_of(error, name)
        raise SiteError(
            f"{templates / name}{f', line {line}' if line else ''}: cannot be rendered: {error}"
        ) from error


def _line_of(error: Exception, name: str) -> int | None:
    """The line of the template in which `error` was raised: the deepest frame that is its code."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(name):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def encoded(text: str) -> str:
    """`text` as encoded words of a header field (RFC 2047), on one line."""
    return Header(text, "utf-8", maxlinelen=75).encode().replace("\n", "")
