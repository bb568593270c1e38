#!/bin/bash
# sbatch launch/slurm.sh            Edit the #SBATCH lines and the last command.
#SBATCH --job-name=segjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8        # one process for each GPU: JAX takes the one of its local rank
#SBATCH --gpus-per-node=8          # not --gpus-per-task, which would hide the others from NCCL
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue                  # after a node failure SLURM starts the job again by itself
#SBATCH --signal=TERM@120          # to the job's processes, two minutes before the time is up
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log

# Exit codes of run.py: 75 asks for another start; 2 needs a person; after others it may be tried
# again a few times, since the run continues from its last checkpoint.
set -u
RESTARTS=${SLURM_RESTART_COUNT:-0}

# run.py finds its place in the job from SLURM's variables.
srun --kill-on-bad-exit=0 --label \
  python run.py --config=configs/camvid.py:model=unet --workdir=runs/unet_camvid &
step=$!
# A signal to the batch script alone (scancel --batch, preemption) reaches the processes too.
trap 'kill -TERM "$step" 2>/dev/null' TERM
wait "$step" # ends early when the trap ran
while kill -0 "$step" 2>/dev/null; do wait "$step"; done
wait "$step" # bash remembers how it ended
code=$?

if [ "$code" -eq 75 ] || { [ "$code" -ne 0 ] && [ "$code" -ne 2 ] && [ "$RESTARTS" -lt 5 ]; }; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
