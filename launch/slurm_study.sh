#!/bin/bash
# sbatch launch/slurm_study.sh      Edit the #SBATCH lines and the last command.
# Every element of the array is a worker: it trains the runs that no other one has claimed.
#SBATCH --job-name=segjax-study
#SBATCH --array=0-7                # eight workers; more than there are runs do no harm
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120          # the run at hand is saved, and goes on with the next start
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.log
set -u
RESTARTS=${SLURM_RESTART_COUNT:-0}

# --workdir is a folder that all see, on a file system with locks (NFS 4, Lustre with -o flock).
python run.py --mode=study --study=experiments/losses/study.py --workdir=runs/losses &
worker=$!
trap 'kill -TERM "$worker" 2>/dev/null' TERM
wait "$worker" # ends early when the trap ran
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
wait "$worker"
code=$?

# 75: preempted after a saved checkpoint. 1: a run failed, or the worker did; 2 needs a person.
if [ "$code" -eq 75 ] && [ "$RESTARTS" -lt 50 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
