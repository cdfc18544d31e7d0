#!/usr/bin/env bash
#GLOBUS stage-in archive:/run-2018/ scratch:/%j/in/ --label 'demo: raw data'
#GLOBUS stage-out scratch:/%j/out/ results:/run-2018/ --label 'demo: results'
#
# A job as it goes to any scheduler: reads every file that was staged in, and writes one result for each, and a list of
# checksums. $SCRATCH is where the scratch collection is mounted.
set -euo pipefail

job=${SLURM_JOB_ID:-${PBS_JOBID:-${GLOBUSWRAP_JOB_ID:-}}}
cd -- "$SCRATCH/$job/in"
mkdir -p ../out/shouted

count=0
while IFS= read -r -d '' file; do
  mkdir -p -- "../out/shouted/${file%/*}"
  tr '[:lower:]' '[:upper:]' <"$file" >"../out/shouted/$file"
  count=$((count + 1))
done < <(find . -type f -print0)
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum -- >../out/checksums.txt
printf 'read %d files in %s\n' "$count" "$PWD"
