#!/usr/bin/env bash
# A PBS job with its data: sums up the files of one run.
#
#   RUN=2018-06-01 globuswrap submit pbs-job.sh
#
# The names archive, scratch and results are collections (globuswrap collection add ...). PBS starts the job in $HOME and hands
# on no environment: -v names what it needs. Without globuswrap the same script runs under plain qsub, if the data has been staged.
#PBS -N sum-up
#PBS -l select=1:ncpus=1
#PBS -l walltime=00:10:00
#PBS -j oe
#PBS -v SCRATCH
#GLOBUS stage-in  archive:/${RUN}/      scratch:/%j/in/
#GLOBUS stage-out scratch:/%j/out/      results:/${RUN}/
#GLOBUS stage-out scratch:/%j/partial/  results:/${RUN}-failed/  --when failure --if-present
#GLOBUS cleanup   scratch:/%j/in/
set -euo pipefail

cd -- "${SCRATCH:?set it to where the scratch collection is mounted}/$PBS_JOBID"
mkdir -p partial
find in -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum -- >partial/checksums.txt

# What is in out/ when the job succeeds is staged out; what is in partial/ only when it fails.
mv partial out
printf '%d files summed up\n' "$(wc -l <out/checksums.txt)"
