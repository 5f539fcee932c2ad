#!/bin/bash
# One per node under srun: puts the rank of this node and the address of the first one into the
# command of accelerate, right behind its name. $@ is: python -m accelerate.commands.launch …
set -eu
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec "$1" "$2" "$3" --machine_rank "$SLURM_NODEID" --main_process_ip "$first" \
  --main_process_port "${MASTER_PORT:-29500}" "${@:4}"
