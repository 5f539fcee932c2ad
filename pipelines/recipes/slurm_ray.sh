#!/usr/bin/env bash
# A Ray cluster on Slurm, one engine replica per node, and one `factory generate` that drives it.
#
#   sbatch --nodes=4 --gpus-per-node=8 pipelines/recipes/slurm_ray.sh RECIPE.yaml STORE
#
# The recipe's engine: {kind: ray, model: …, replicas: 4, num_gpus: 8,
#                       options: {tensor_parallel_size: 8}}
# Only the driver writes; the other nodes need the model and nothing else. A job that is preempted
# or runs out of time is submitted again as it is: what is in the store is not asked for again.
#SBATCH --job-name=factory-generate
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:INT@300
set -euo pipefail
recipe=${1:?usage: slurm_ray.sh RECIPE.yaml STORE}
store=${2:?usage: slurm_ray.sh RECIPE.yaml STORE}
port=${RAY_PORT:-6379}
export RAY_USAGE_STATS_ENABLED=0

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')

srun --nodes=1 --ntasks=1 -w "$head" --overlap \
    ray start --head --node-ip-address="$address" --port="$port" --include-dashboard=false --block &
sleep 15
if ((${#nodes[@]} > 1)); then
    others=$(IFS=,; echo "${nodes[*]:1}")
    srun --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) -w "$others" --overlap \
        ray start --address="$address:$port" --block &
    sleep 15
fi

# Slurm sends INT five minutes before the end: what is in flight is finished and kept.
RAY_ADDRESS="$address:$port" factory generate "$recipe" --store "$store" &
driver=$!
trap 'kill -INT $driver' INT TERM
status=0
wait $driver || status=$?
while kill -0 $driver 2>/dev/null; do wait $driver || status=$?; done
exit $status
