#!/usr/bin/env bash
# An array in which each element brings its own data and takes its own results away, by the shell toolkit.
#
#   sbatch inline-job.sh            (or: qsub inline-job.sh)
#
# Data goes to a directory of the element's own, on the scratch collection. A node is held while it is staged: for large data
# use #GLOBUS lines and `globuswrap submit`, which does not.
#SBATCH --job-name=by-element
#SBATCH --array=1-3
#SBATCH --time=00:10:00
#SBATCH --signal=B:TERM@60
#SBATCH --output=%x-%A-%a.out
#PBS -N by-element
#PBS -J 1-3
#PBS -l walltime=00:10:00
#PBS -j oe
#PBS -V
set -euo pipefail

index=${SLURM_ARRAY_TASK_ID:-${PBS_ARRAY_INDEX:-1}}
job=${SLURM_JOB_ID:-$PBS_JOBID}
# shellcheck source=/dev/null
source "$(globuswrap toolkit)"

gw_stage_in "archive:/runs/$index/" "scratch:/$job/in/"
gw_stage_out "scratch:/$job/out/" "results:/runs/$index/"
gw_stage_out "scratch:/$job/in/" "results:/failed/$index/" --when failure

cd -- "${SCRATCH:?set it to where the scratch collection is mounted}/$job"
mkdir -p out
# TERM reaches the payload 60 s before the walltime; what it has written until then is staged out by its exit code.
gw_run --stop-before 60 -- bash -c 'cat in/* | tr "[:lower:]" "[:upper:]" >out/all'
