#!/bin/sh
# Where sbatch is: submits a command as a job of the session, and holds the session for the time in the queue.
#   sh submit.sh FOLDER TIME COMMAND...     TIME: how long it may wait in the queue at most, such as 24h (7d at most)
# Prints the job's number.
set -eu
folder=$(cd "$1" && pwd) time=$2
shift 2
. "$folder/environment.sh"
# Held until there is a lease of its name: the job makes that one shorter when it starts, and releases it when it ends.
id=$(sbatch --parsable --hold "$(dirname "$0")/job.sh" "$folder" "$@")
if ! lease "slurm-${id%%;*}" "$time"; then
  scancel "${id%%;*}"
  exit 1
fi
scontrol release "${id%%;*}"
echo "${id%%;*}"
