"""Events on their way to people: log, live view, table, report, JSON lines."""
