#!/bin/bash
# launch/openmpi.sh HOSTFILE NUM_PROCESSES [arguments of run.py]
# Rank and size come from mpirun. Open MPI 4 also tells where rank 0 runs, Open MPI 5 does not:
# hence --coordinator. JAX talks over its own connections, MPI only starts the processes.
set -euo pipefail
HOSTFILE=${1:?a file with one host per line}
PROCESSES=${2:?how many processes}
shift 2
FIRST=$(awk 'NF && $1 !~ /^#/ { print $1; exit }' "$HOSTFILE")
ARGUMENTS=("$@")
[ $# -gt 0 ] || ARGUMENTS=(--config=configs/camvid.py:model=unet --workdir=runs/unet_camvid)

# SIGTERM to mpirun reaches every process; 75 (preempted after a checkpoint) starts them again.
code=75
while [ "$code" -eq 75 ]; do
  code=0
  mpirun --hostfile "$HOSTFILE" -n "$PROCESSES" --tag-output \
    python run.py --coordinator="$FIRST:1234" "${ARGUMENTS[@]}" || code=$?
done
exit "$code"
