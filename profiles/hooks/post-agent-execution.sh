#!/bin/sh
# After each agent: print its reason and the machine's available memory.
#
#     [hooks]
#     after_agent = ["hooks/post-agent-execution.sh"]
#
# The output is in the run's folder, under @hooks. The event is on stdin as JSON, and its main values are in SEQSUP_*.
# An exit code other than 0 is reported; with hooks.on_error = "stop" it stops the run. No GC is needed here: the agent's
# processes are gone, and seqsup has proved that their memory is back.

set -eu

available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
echo "$SEQSUP_RUN $SEQSUP_AGENT: $SEQSUP_REASON; $((available / 1024)) MiB available"

least=${LEAST_AVAILABLE_MIB:-256} # below it the next agent could run out of memory
if [ $((available / 1024)) -lt "$least" ]; then
    echo "less than $least MiB are available; the largest processes:" >&2
    ps -eo rss=,pid=,args= --sort=-rss 2>/dev/null | head -5 | cut -c -80 >&2 || true
    exit 1
fi
