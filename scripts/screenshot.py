"""Write docs/pictures/chat.svg: a real talk with the offline model, in a real terminal (tmux), as it stood there.

PYTHONPATH=. python scripts/screenshot.py
"""

import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.e2e.tmux import Tmux

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "chat.svg"
COLUMNS, ROWS = 88, 34
ANSWER = (
    "remember this:\n\n## How a message travels\n\n"
    "1. `agent-session chat` **signals** it to the workflow\n"
    "2. a worker asks the model and runs the tools\n"
    "3. the answer streams back\n\n"
    "```python\nreply = await client.ask('main', 'hello')\n```"
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"AGENT_SESSION_TOOLS__SHELL__SANDBOX": "none", "AGENT_SESSION_TOOLS__ASK": '["write_file"]'}
        chat = Tmux(Path(folder) / "data", columns=COLUMNS, rows=ROWS, **settings)
        try:
            chat.idle()
            chat.type("run sleep 2 && echo 12 passed")
            chat.until("\n12 passed")
            chat.idle()
            chat.paste(ANSWER)
            chat.keys("Enter")
            chat.until("I will remember")
            chat.idle()
            chat.type("write notes.md done")
            chat.until("allow?", "waits for you")
            draw(chat.screen("-e"))
        finally:
            chat.close()


def draw(screen: str) -> None:
    console = Console(record=True, width=COLUMNS, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi(screen))
    PICTURE.parent.mkdir(exist_ok=True)
    console.save_svg(str(PICTURE), title="agent-session chat")


if __name__ == "__main__":
    main()
