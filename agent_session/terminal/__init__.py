"""The interactive chat: prompt, streamed answers, tool lines, approvals, status line.

Talks to a session through `SessionClient` only and keeps nothing but the prompt's history: a terminal
that dies loses nothing. Imported by the `cli` channel and the commands, lazily.
"""
