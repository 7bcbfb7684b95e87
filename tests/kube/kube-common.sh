# shellcheck shell=bash disable=SC2034 # used by those that source it
# Shared by kube-build, kube-up, kube-down and kube-chaos. Not run on its own.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(realpath -m "${KUBE_BIN:-${TAILRACE_CACHE:-$here/../../.cache}/kube/bin}")
id=${KUBE_ID:-0}
case $id in ''|*[!0-9]*) echo "KUBE_ID must be a number from 0 to 63" >&2; exit 2 ;; esac
[ "$id" -le 63 ] || { echo "KUBE_ID must be a number from 0 to 63" >&2; exit 2; }
state=${KUBE_STATE:-${TMPDIR:-/tmp}/kube-$id}
export KUBECACHEDIR=$state/kubectl # not in the home directory
net=10.$((128 + id))
gw=$net.0.1
dns=$net.128.10
bridge=kb$id
ula=fd00:0:0:$(printf %x $((0x100 + id)))

running() { # running <pidfile>: the recorded process is alive and one of ours
  local p
  p=$(cat "$1" 2>/dev/null) || return 1
  case $(readlink "/proc/$p/exe" 2>/dev/null) in */kube-control*|*/kube-node*|*/kube-dns*) return 0 ;; esac
  return 1
}
