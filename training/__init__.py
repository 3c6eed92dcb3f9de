"""Training of the starters, and what it is measured by."""

STOPPED = 130   # exit code after Ctrl-C
