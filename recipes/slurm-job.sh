#!/usr/bin/env bash
# A Slurm job with its data: sums up the files of one run.
#
#   RUN=2018-06-01 globuswrap submit slurm-job.sh
#
# The names archive, scratch and results are collections (globuswrap collection add ...); $SCRATCH is where scratch is mounted.
# Without globuswrap the same script runs under plain sbatch, if the data has been staged.
#SBATCH --job-name=sum-up
#SBATCH --time=00:10:00
#SBATCH --output=%x-%j.out
#GLOBUS stage-in  archive:/${RUN}/      scratch:/%j/in/
#GLOBUS stage-out scratch:/%j/out/      results:/${RUN}/
#GLOBUS stage-out scratch:/%j/partial/  results:/${RUN}-failed/  --when failure --if-present
#GLOBUS cleanup   scratch:/%j/in/
set -euo pipefail

cd -- "${SCRATCH:?set it to where the scratch collection is mounted}/$SLURM_JOB_ID"
mkdir -p partial
find in -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum -- >partial/checksums.txt

# What is in out/ when the job succeeds is staged out; what is in partial/ only when it fails.
mv partial out
printf '%d files summed up\n' "$(wc -l <out/checksums.txt)"
