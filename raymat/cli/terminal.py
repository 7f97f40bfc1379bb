"""The one kind of Rich console: it takes no text for markup, and shows no control characters.

Ids such as ``[/x]`` would else be read as Rich's markup, and ``ESC ]0;`` would set the title of a
window.
"""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from raymat.cli.streams import plain_lines


class Terminal(Console):
    """A console on which text is text.

    Args:
        options: of Rich's console.
    """

    def __init__(self, **options: Any) -> None:
        stream = sys.stderr if options.get("stderr") else sys.stdout
        own = {"markup": False, "emoji": False, "highlight": False}
        # Named here, as a live display puts something else in the place of the stream.
        file = getattr(stream, "rich_proxied_file", None)
        super().__init__(**{"file": file, **own, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Give text as Rich draws it; its width is that of what is shown."""
        return super().render_str(plain_lines(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Draw something; only Rich's own control codes remain."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else plain_lines(text), style, control)
