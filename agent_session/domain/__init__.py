"""Pure values and rules of a session: no I/O, no clock, no temporalio.

Safe inside the workflow sandbox, where this package is passed through.
"""
