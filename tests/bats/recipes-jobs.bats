#!/usr/bin/env bats
# The job scripts in recipes/, each run as it stands: on a real Slurm, and through the PBS double.
# bats file_tags=slow
# shellcheck disable=SC2154 # stderr is set by run

load helper

setup() {
  isolate
  export SCRATCH RUN=2018-06-01
}

# in_sandbox COMMANDS: a bash script of COMMANDS in a fresh sandbox, with $archive, $scratch, $results as directories.
in_sandbox() {
  cat >inside.sh <<SCRIPT
set -euo pipefail
archive=\$GLOBUS_SANDBOX_BASE/collections/archive
scratch=\$GLOBUS_SANDBOX_BASE/collections/scratch
results=\$GLOBUS_SANDBOX_BASE/collections/results
export SCRATCH=\$scratch PATH=$REPOSITORY/bin:\$PATH
$1
SCRIPT
  run --separate-stderr "${@:2}" "$LAUNCHER" sandbox run -- bash inside.sh
  printf '%s\n%s\n' "$output" "$stderr"
}

# The commands of a recipe that goes through a chain; $1 is the scheduler.
chain() {
  cat <<SCRIPT
mkdir -p "\$archive/\$RUN/deep er"
printf 'a\n' >"\$archive/\$RUN/a b"
printf 'c\n' >"\$archive/\$RUN/deep er/-c"
chain=\$(globuswrap submit --poll 1 --scheduler $1 "$REPOSITORY/recipes/$1-job.sh")
for _ in {1..600}; do
  if [[ -e \$XDG_STATE_HOME/globuswrap/chains/\$chain/g1/ended ]]; then break; fi
  sleep 0.5
done
globuswrap status "\$chain" --json
cd "\$results/\$RUN"
(cd "\$archive/\$RUN" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) | sed 's, \./, in/,' | cmp - checksums.txt
find "\$scratch" -path '*/in/*' -type f -print
ls "\$results"
SCRIPT
}

# bats test_tags=slurm
@test "slurm-job.sh" {
  need slurmctld
  in_sandbox "$(chain slurm)" "$PYTHON" "$REPOSITORY/tests/py/slurm"
  assert_status 0
  [[ $output == *'"state": "done",'* && $output != *'"failed"'* ]]
  [[ ${lines[-1]} == "$RUN" ]]
}

@test "pbs-job.sh" {
  printf 'PBS_HOME=%s/pbs\nHISTORY=1\n' "$PWD" >pbs.conf
  in_sandbox "export PATH=$REPOSITORY/tests/doubles/pbs:\$PATH; $(chain pbs)" env "PBS_CONF_FILE=$PWD/pbs.conf"
  assert_status 0
  [[ $output == *'"state": "done",'* && $output != *'"failed"'* ]]
  [[ ${lines[-1]} == "$RUN" ]]
}

by_element() {
  cat <<SCRIPT
for index in 1 2 3; do
  mkdir -p "\$archive/runs/\$index"
  printf 'run %s\n' "\$index" >"\$archive/runs/\$index/x y"
done
$1 "$REPOSITORY/recipes/inline-job.sh"
for _ in {1..600}; do
  if [[ -e \$results/runs/1/all && -e \$results/runs/2/all && -e \$results/runs/3/all ]]; then break; fi
  sleep 0.5
done
cat "\$results/runs/"{1,2,3}/all
[[ ! -e \$results/failed ]]
SCRIPT
}

# bats test_tags=slurm
@test "inline-job.sh on Slurm" {
  need slurmctld
  in_sandbox "$(by_element 'sbatch --parsable')" "$PYTHON" "$REPOSITORY/tests/py/slurm"
  assert_status 0
  [[ $output == *$'RUN 1\nRUN 2\nRUN 3'* ]]
}

@test "inline-job.sh on PBS" {
  printf 'PBS_HOME=%s/pbs\nHISTORY=1\n' "$PWD" >pbs.conf
  in_sandbox "export PATH=$REPOSITORY/tests/doubles/pbs:\$PATH; $(by_element qsub)" env "PBS_CONF_FILE=$PWD/pbs.conf"
  assert_status 0
  [[ $output == *$'RUN 1\nRUN 2\nRUN 3'* ]]
}
