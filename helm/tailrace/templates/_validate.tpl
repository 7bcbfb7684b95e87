{{/* What the schema cannot say: each sentence names the value and what to do. */}}
{{- define "tailrace.validate" -}}
{{- $exporters := dig "service" "pipelines" "traces" "exporters" list .Values.sampler.config -}}
{{- if not .Values.backend.endpoint -}}
  {{- if not $exporters -}}
  {{- fail "backend.endpoint is not set: say where kept traces go, such as --set backend.endpoint=http://tempo.monitoring:4317 (or give sampler.config exporters and the list service.pipelines.traces.exporters)" -}}
  {{- end -}}
{{- else if not (regexMatch "^https?://" .Values.backend.endpoint) -}}
  {{- fail (printf "backend.endpoint is %q without a scheme: write http://%s for plain text or https://%s for TLS" .Values.backend.endpoint .Values.backend.endpoint .Values.backend.endpoint) -}}
{{- end -}}
{{- if and .Values.backend.endpoint (eq .Values.backend.protocol "otlp") (not (regexMatch "(:[0-9]+|\\$\\{.*\\})/?$" .Values.backend.endpoint)) -}}
  {{- fail (printf "backend.endpoint is %q without a port: OTLP over gRPC is usually on 4317, as in %s:4317" .Values.backend.endpoint .Values.backend.endpoint) -}}
{{- end -}}
{{- if and .Values.tls.enabled (not .Values.tls.existingSecret) -}}
  {{- fail "tls.enabled is true and tls.existingSecret is empty: name a secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- if and .Values.lb.tls.clientCertificates (not .Values.lb.tls.existingSecret) -}}
  {{- fail "lb.tls.clientCertificates is true and lb.tls.existingSecret is empty: name a secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}
{{- range $tier := list "lb" "sampler" -}}
  {{- $values := get $.Values $tier -}}
  {{- $least := add $values.preStopSeconds $values.drainSeconds 5 -}}
  {{- $grace := int $values.terminationGracePeriodSeconds -}}
  {{- if and (gt $grace 0) (lt $grace (int $least)) -}}
    {{- fail (printf "%s.terminationGracePeriodSeconds is %d, less than preStopSeconds + drainSeconds + 5 = %d: pods would be killed while they drain; set it to 0 or lower %s.drainSeconds" $tier $grace $least $tier) -}}
  {{- end -}}
  {{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
    {{- fail (printf "%s.autoscaling.minReplicas is %d, above maxReplicas %d" $tier (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
  {{- end -}}
{{- end -}}
{{- if dig "processors" "tail_sampling" false .Values.sampler.config -}}
  {{- fail "sampler.config.processors.tail_sampling: policies go to tailSampling, which has a ConfigMap of its own" -}}
{{- end -}}
{{- end -}}
