"""What our HTML pages share: the template environment, and with it page.css and the head of page_head.html. Nothing is rendered here."""

from pathlib import Path

import jinja2


def environment() -> jinja2.Environment:
    """Templates beside this file; everything is escaped, and a name that is not given is an error."""
    here = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=here, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
