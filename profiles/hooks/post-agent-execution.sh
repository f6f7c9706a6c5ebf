#!/bin/sh
# After each agent: one line about it, and what the machine's memory is then.
#
#     [hooks]
#     after_agent = ["hooks/post-agent-execution.sh"]
#
# No collection is forced here: a garbage collector clears the process it runs in, and the agent's is gone, with all that
# it started. That its memory is back has been proven before this runs; this is the place to be told, to count, to ask
# for attention. What it prints is kept in the run's folder, under @hooks. A hook reads the event as JSON on its standard
# input; the most useful parts stand in its environment, too. Its exit code is 0 when all is well: any other is shown,
# and ends the run where hooks.on_error = "stop".

set -eu

available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
echo "$SEQSUP_RUN $SEQSUP_AGENT: $SEQSUP_REASON; $((available / 1024)) MiB available"

# At less than this the next agent would begin in want of memory
least=${LEAST_AVAILABLE_MIB:-256}
if [ $((available / 1024)) -lt "$least" ]; then
    echo "less than $least MiB are available; the largest processes:" >&2
    ps -eo rss=,pid=,args= --sort=-rss 2>/dev/null | head -5 | cut -c -80 >&2 || true
    exit 1
fi
