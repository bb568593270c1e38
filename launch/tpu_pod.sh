#!/bin/bash
# launch/tpu_pod.sh NAME ZONE [arguments of run.py]
# Starts run.py on every machine of a Cloud TPU slice; run.py finds the others from its metadata.
# The workdir must be one that all machines see (Filestore, a mounted bucket).
set -euo pipefail
NAME=${1:?name of the TPU}
ZONE=${2:?its zone}
shift 2
ARGUMENTS=${*:---config=configs/camvid.py:model=unet --workdir=/mnt/runs/unet_camvid}
all_workers() {
  gcloud alpha compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"
}

all_workers 'test -d segjax || git clone YOUR_REPOSITORY segjax'
all_workers 'cd segjax && python3 -m venv .venv && .venv/bin/pip install -q -r requirements.txt &&
  .venv/bin/pip install -q "jax[tpu]==$(.venv/bin/python -c "import jax; print(jax.__version__)")"'

# 75 asks for another start, 2 needs a person; any other failure is tried again from the checkpoint.
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  code=0
  all_workers "cd segjax && exec .venv/bin/python run.py $ARGUMENTS" || code=$?
  echo "attempt $attempt ended with $code"
  case $code in 0 | 2) exit "$code" ;; esac
  sleep 10
done
exit "$code"
