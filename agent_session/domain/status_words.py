"""A session's status in words: what it does, what waits, what it has cost, what went wrong.

Pure. For a terminal, a slash command and an engineer at 3 a.m. alike.
"""

from agent_session.domain.beats import SKIPS
from agent_session.domain.status import Status


def status_lines(status: Status, now_s: int) -> list[str]:
    """One line each; the first stands for itself in a list of sessions."""
    head = f"{status.key} · {status.state}"
    if status.turn:
        since = ago(status.since_s, now_s)
        head += f" {since} · turn {status.n or '?'}, step {status.step} ({status.turn})"
    lines = [f"{head} · {status.model}" if status.model else head]
    if status.answered_by != "worker":
        lines.append("  no worker answers; this is what Temporal itself knows")
    for tool in status.tools:
        sign = "?" if tool.state == "asks" else "⚙"
        lines.append(f"  {sign} {tool.tool}  {tool.state} {ago(tool.since_s, now_s)}  {tool.call}")
    if status.queue or status.deliveries:
        lines.append(f"  queue {status.queue} · deliveries {status.deliveries}")
    if status.deliveries_dropped:
        lines.append(f"  {status.deliveries_dropped} deliveries were dropped: their channel stayed away too long")
    lines.append(
        f"  {status.turns} turns · {status.turns_in_run} in this run · {status.roll_overs} roll-overs · "
        f"{usage_words(status.input_tokens, status.output_tokens, status.cached_tokens, status.cost_microusd)}"
    )
    if status.choice:
        lines.append(f"  model chosen for this session: {status.choice}")
    if status.shell:
        lines.append(f"  shell: {status.shell}")
    if status.allowed:
        lines.append(f"  allowed for this session: {' · '.join(status.allowed)}")
    lines += beat_lines(status, now_s)
    if status.last_reply:
        lines.append(f"  last reply ({status.last_outcome}): {status.last_reply[:300]}")
    if status.last_error:
        lines.append(
            f"  last error {ago(status.last_error_s, now_s)} ago: {status.last_error}, "
            f"agent-session logs --id {status.last_error_id}"
        )
    return lines


def beat_lines(status: Status, now_s: int) -> list[str]:
    """A line on heartbeats, where there have been any."""
    parts: list[str] = []
    if status.beats:
        used = f", {amount(status.beat_tokens)} tokens today" if status.beat_tokens else ""
        parts.append(f"{status.beats} ran, the last {ago(status.beat_s, now_s)} ago: {status.beat_outcome}{used}")
    if status.beats_skipped:
        why = SKIPS.get(status.beat_skip, status.beat_skip)
        parts.append(f"{status.beats_skipped} skipped, the last {ago(status.beat_skip_s, now_s)} ago: {why}")
    return [f"  heartbeats: {' · '.join(parts)}"] if parts else []


def usage_words(input_tokens: int, output_tokens: int, cached_tokens: int, cost_microusd: int) -> str:
    """`412k tokens (300k cached) · $1.93`."""
    words = f"{amount(input_tokens + output_tokens)} tokens"
    if cached_tokens:
        words += f" ({amount(cached_tokens)} cached)"
    return f"{words} · {dollars(cost_microusd)}" if cost_microusd else words


def amount(count: int) -> str:
    """412, 1.2k, 38k, 1.5M."""
    if count < 1_000:
        return str(count)
    if count < 1_000_000:
        return f"{count / 1_000:.1f}k" if count < 10_000 else f"{count // 1_000}k"
    return f"{count / 1_000_000:.1f}M"


def dollars(microusd: int) -> str:
    """With as many digits as tell something."""
    value = microusd / 1_000_000
    return f"${value:.2f}" if value >= 1 else f"${value:.4f}"


def ago(since_s: int, now_s: int) -> str:
    """How long since, as minutes and seconds, or hours too."""
    minutes, seconds = divmod(max(0, now_s - since_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
