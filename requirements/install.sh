#!/usr/bin/env bash
# Make the virtual environment and install the project into it. Usage: install.sh VENV [cpu|cuda|auto]
set -euo pipefail
venv=$1
device=${2:-auto}
here=$(cd "$(dirname "$0")/.." && pwd)
[ "${venv#/}" != "$venv" ] || venv=$PWD/$venv

if [ "$device" = auto ]; then
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then device=cuda; else device=cpu; fi
fi
stamp="$venv/.installed-$device"
# Kernels of scores and sets are compiled by their first call and kept beside their sources, half a
# minute for all: the examples call them here, so that nobody's first command and no test waits.
compile_kernels() {
  local done="$here/factory/scores/__pycache__/kernels.done"
  if [ -e "$done" ] && [ -z "$(find "$here/factory" -name '*_kernels.py' -newer "$done")" ]; then return; fi
  echo "compiling kernels, half a minute"
  (
    unset PYTHONDONTWRITEBYTECODE
    cd "$here/docs/examples"
    factory() { PYTHONPATH="$here" "$venv/bin/python" -m factory "$@" --out - -q >/dev/null 2>&1; }
    factory score traces.jsonl && factory dedup traces.jsonl &&
      factory decontaminate traces.jsonl --against prompts.jsonl && touch "$done"
  ) || echo "kernels are not compiled: the first factory score will be slow" >&2
}
if [ -e "$stamp" ] && [ ! "$here/pyproject.toml" -nt "$stamp" ] && [ ! "$here/requirements/constraints.txt" -nt "$stamp" ]; then
  compile_kernels
  exit 0
fi

echo "setting up $venv for $device ($(uname -m), $(nproc --all) cores)"
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or newer is needed; set PYTHON to one" >&2; exit 2; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q uv

# uv does not read pip's configuration: pass on where pip looks for wheels on this machine.
links=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$("$venv/bin/python" -m pip config get global.find-links 2>/dev/null || true)}}
args=(--python "$venv/bin/python" --constraints "$here/requirements/constraints.txt")
if [ "$device" = cpu ]; then
  args+=(--overrides "$here/requirements/cpu-overrides.txt")
  # Without such a place, uv knows PyTorch's own CPU builds.
  [ -n "$links" ] || args+=(--torch-backend=cpu)
  extras=cpu,train,ray,browse,dev
else
  [ -n "$links" ] || args+=(--torch-backend=auto)
  extras=gpu,train,ray,browse,dev
fi
[ -z "$links" ] || export UV_FIND_LINKS=$links
(cd "$here" && "$venv/bin/uv" pip install -q "${args[@]}" -e ".[$extras]")
touch "$stamp"
compile_kernels
echo "installed: $(du -sh "$venv" | cut -f1) in $venv, device $device"
