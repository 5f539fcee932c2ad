#!/usr/bin/env bash
# Make the virtual environment and install the project into it. Usage: install.sh VENV [cpu|cuda|auto]
set -euo pipefail
venv=$1
device=${2:-auto}
here=$(cd "$(dirname "$0")/.." && pwd)

if [ "$device" = auto ]; then
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then device=cuda; else device=cpu; fi
fi
stamp="$venv/.installed-$device"
if [ -e "$stamp" ] && [ ! "$here/pyproject.toml" -nt "$stamp" ] && [ ! "$here/requirements/constraints.txt" -nt "$stamp" ]; then
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
echo "installed: $(du -sh "$venv" | cut -f1) in $venv, device $device"
