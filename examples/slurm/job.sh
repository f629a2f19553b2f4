#!/bin/sh
#SBATCH --job-name=vrse
# What submit.sh submits: runs a command with the session's variables, and holds the session meanwhile.
#   sbatch job.sh FOLDER COMMAND...
# A job that is lost without a word ends its session half an hour later, and what it wrote is kept.
set -eu
folder=$1
shift
. "$folder/environment.sh"
name=slurm-$SLURM_JOB_ID
lease "$name" 30m
(while sleep 600; do lease "$name" 30m || true; done) &
renewing=$!
trap 'kill "$renewing"; release "$name" || true' EXIT
"$@"
