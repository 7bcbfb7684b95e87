#!/usr/bin/env bash
# Installs the toy chart into a fresh cluster and checks, one by one, what the
# test cluster promises. usage: example/test.sh   (KUBE_ID, KUBE_BIN as for kube-up)
# shellcheck disable=SC2016  # what bash -c expands
set -uo pipefail
cd "$(dirname "$0")" || exit 1
export KUBE_ID=${KUBE_ID:-60} KUBE_IMAGES=$PWD/images.yaml
out=$(KUBE_CM_FLAGS="--node-monitor-grace-period=20s" KUBE_NODE_FLAGS="${KUBE_NODE_FLAGS:-} -token-refresh 5s" ../kube-up) || exit 1
eval "$out"
trap '../kube-down' EXIT
pass=0 fail=0
ok() { local t=$1; shift; if "$@" >"$KUBE_STATE/test.out" 2>&1; then pass=$((pass+1)); echo "ok   $t"; else fail=$((fail+1)); echo "FAIL $t"; head -5 "$KUBE_STATE/test.out"; fi; }
until_ok() { local n=$(( $1 * 5 )); shift; until "$@"; do n=$((n-1)); [ $n -gt 0 ] || return 1; sleep 0.2; done; }
get() { curl -sS --max-time 3 "http://$1"; }
lb() { get "$(kubectl get svc toy-lb -o 'jsonpath={.spec.clusterIP}')$1"; }
dnsn() { lb /dns | grep -o '10\.[0-9.]*' | wc -l; }
dns_is() { [ "$(dnsn)" = "$1" ]; }
slices_is() { [ "$(lb /slices | grep -o '"ready": true' | wc -l)" = "$1" ]; }
ip() { kubectl get pod "$1" -o 'jsonpath={.status.podIP}'; }
restarts() { kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].restartCount}'; }
info() { cat "$KUBE_STATE"/pods/default_"$1"_*/info.json; }

ok "helm install --wait" helm install toy toy --wait --timeout 60s
ok "helm test (Job-like pod, DNS search path, ClusterIP, pod-N name)" helm test toy
ok "EndpointSlices read by the lb with its own token and CA" slices_is 3
ok "headless name resolves to 3 addresses" dns_is 3
ok "one sampler per zone" bash -c '[ "$(kubectl get pod -l app=toy-sampler -o jsonpath="{range .items[*]}{.spec.nodeName}{\"\n\"}{end}" | sort -u | wc -l)" = 3 ]'
ok "runs as the image's user" bash -c 'kubectl logs toy-sampler-0 | grep -q "sampler up 65532 1 toy-sampler-0"'
ok "kubectl exec" bash -c '[ "$(kubectl exec toy-sampler-1 -- hostname)" = toy-sampler-1 ]'
ok "read-only root file system" bash -c '! kubectl exec deploy/toy-lb -- touch /x'
t=$(date +%s%N)
ok "scale to 5 changes slices" bash -c 'kubectl scale sts toy-sampler --replicas=5 && kubectl rollout status sts toy-sampler --timeout=30s'
echo "     scale 3->5 took $(( ($(date +%s%N) - t) / 1000000 )) ms"
ok "5 endpoints in the slices" until_ok 10 slices_is 5
ok "5 addresses in DNS" until_ok 10 dns_is 5
t=$(date +%s%N)
ok "scale to 2" kubectl scale sts toy-sampler --replicas=2
ok "draining pods show as serving, terminating, not ready" until_ok 3 bash -c "curl -s $(kubectl get svc toy-lb -o 'jsonpath={.spec.clusterIP}')/slices | grep -q '\"ready\": false, \"serving\": true, \"terminating\": true'"
ok "2 addresses in DNS" until_ok 15 dns_is 2
ok "their claims go with them (whenScaled: Delete)" until_ok 20 bash -c '[ "$(kubectl get pvc --no-headers | wc -l)" = 2 ]'
echo "     scale 5->2 with preStop and drain took $(( ($(date +%s%N) - t) / 1000000 )) ms"
ok "ConfigMap change reaches the mounted file" bash -c 'kubectl create cm toy-config --from-literal=greeting=changed --dry-run=client -o yaml | kubectl apply -f - 2>/dev/null && for i in $(seq 30); do curl -s '"$(ip toy-sampler-0)"':8080/ | grep -q changed && exit 0; sleep 0.2; done; exit 1'
a=$(get "$(ip toy-sampler-0):8080/" | awk '{print $4}')
pid=$(info toy-sampler-0 | grep -o '"sampler": [0-9]*' | grep -o '[0-9]*')
kill -9 "$pid"
ok "kill -9: container restarts in the same pod and address" until_ok 10 bash -c "[ \"\$(kubectl get pod toy-sampler-0 -o 'jsonpath={.status.containerStatuses[0].restartCount}')\" = 1 ] && curl -s $(ip toy-sampler-0):8080/ | grep -q changed"
ok "its volume kept the data" bash -c "[ $(( a + 1 )) = \$(curl -s $(ip toy-sampler-0):8080/ | awk '{print \$4}') ]"
ok "exit code 137 is reported" bash -c '[ "$(kubectl get pod toy-sampler-0 -o jsonpath="{.status.containerStatuses[0].lastState.terminated.exitCode}")" = 137 ]'
kubectl exec toy-sampler-1 -- touch /var/lib/toy/notready
ok "failed readiness leaves DNS" until_ok 10 dns_is 1
kubectl exec toy-sampler-1 -- rm /var/lib/toy/notready
ok "and comes back" until_ok 10 dns_is 2
kubectl exec toy-sampler-1 -- touch /tmp/dead
ok "failed liveness restarts (after preStop and SIGTERM)" until_ok 20 bash -c '[ "$(kubectl get pod toy-sampler-1 -o jsonpath="{.status.containerStatuses[0].restartCount}")" = 1 ]'
ok "preStop hook ran" until_ok 10 bash -c 'kubectl exec toy-sampler-1 -- grep -q prestop /var/lib/toy/hooks'
t1=$(kubectl exec deploy/toy-lb -- cat /var/run/secrets/kubernetes.io/serviceaccount/token)
ok "service-account token file rotates" until_ok 15 bash -c "[ \"\$(kubectl exec deploy/toy-lb -- cat /var/run/secrets/kubernetes.io/serviceaccount/token)\" != '$t1' ]"
ok "SRV records with pod hostnames" bash -c "../dnsq.py 10.$((128 + KUBE_ID)).128.10 _http._tcp.toy-sampler.default.svc.cluster.local SRV | grep -q toy-sampler-0.toy-sampler"
../kube-chaos cut default/toy-sampler-1
ok "a pulled network link fails readiness" until_ok 15 dns_is 1
../kube-chaos heal default/toy-sampler-1
ok "plugged in again it is back" until_ok 15 dns_is 2
ok "rolling restart respects readiness" bash -c 'kubectl rollout restart sts toy-sampler && kubectl rollout status sts toy-sampler --timeout=60s'
ok "PodDisruptionBudget refuses a second eviction" bash -c '
  ev() { kubectl create --raw /api/v1/namespaces/default/pods/$1/eviction -f - <<< "{\"apiVersion\":\"policy/v1\",\"kind\":\"Eviction\",\"metadata\":{\"name\":\"$1\",\"namespace\":\"default\"}}"; }
  ev toy-sampler-0 && ! ev toy-sampler-1'
ok "pod is back" kubectl wait --for=condition=Ready pod/toy-sampler-0 --timeout=30s
ok "an OOM kill is reported" bash -c 'kubectl run oom --image=busybox --restart=Never --overrides="{\"spec\":{\"containers\":[{\"name\":\"oom\",\"image\":\"x/toy\",\"args\":[\"-c\",\"x=bytearray(200<<20)\"],\"resources\":{\"limits\":{\"memory\":\"64Mi\"}}}]}}" && for i in $(seq 50); do kubectl get pod oom -o yaml | grep -q OOMKilled && exit 0; sleep 0.2; done; exit 1'
../kube-chaos node-down node-3
ok "a dead node becomes NotReady" until_ok 60 bash -c 'kubectl get node node-3 --no-headers | grep -q NotReady'
../kube-chaos node-up node-3
ok "and returns with its pods" bash -c 'kubectl wait --for=condition=Ready node/node-3 --timeout=30s && kubectl wait --for=condition=Ready pod -l app=toy-sampler --timeout=30s'
ok "helm upgrade --set sampler.replicas=4" helm upgrade toy toy --set sampler.replicas=4 --wait --timeout 60s
ok "server-side validation refuses a bad object" bash -c '! kubectl apply --dry-run=server -f - <<< "{\"apiVersion\":\"apps/v1\",\"kind\":\"StatefulSet\",\"metadata\":{\"name\":\"x\"},\"spec\":{\"replicsa\":1}}"'
ok "helm uninstall ends every process" bash -c 'kubectl delete pod oom toy-test --now && helm uninstall toy --wait && for i in $(seq 100); do ls "$KUBE_STATE"/pods/*/info.json >/dev/null 2>&1 || exit 0; sleep 0.2; done; exit 1'
echo "$pass passed, $fail failed"
[ $fail = 0 ]
