{{/* What the two programs read. Each is made from values, then values' `config` is laid over it. */}}

{{/* How samplers are found by balancers. */}}
{{- define "tailrace.resolver" -}}
{{- $service := include "tailrace.sampler.name" . -}}
{{- if eq .Values.resolver.type "k8s" }}
k8s:
  service: {{ $service }}
  ports: [{{ .Values.ports.grpc }}]
  {{- with .Values.resolver.k8s }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- else }}
{{ include "tailrace.resolver.dns" (dict "root" . "service" $service) }}
{{- end }}
{{- end -}}

{{/* How samplers find each other, before they are ready too: EndpointSlices show all, DNS needs a service that does. */}}
{{- define "tailrace.resolver.peers" -}}
{{- if eq .Values.resolver.type "k8s" }}
{{- include "tailrace.resolver" . }}
{{- else }}
{{ include "tailrace.resolver.dns" (dict "root" . "service" (printf "%s-peers" (include "tailrace.sampler.name" .))) }}
{{- end }}
{{- end -}}

{{/* SRV records: the names of pods, which stay when their addresses change. The closing dot keeps search domains out. */}}
{{- define "tailrace.resolver.dns" -}}
dns:
  hostname: "_otlp-grpc._tcp.{{ .service }}.${env:POD_NAMESPACE}.svc.{{ .root.Values.clusterDomain }}."
  {{- with .root.Values.resolver.dns }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* A client of samplers: balancers, and samplers among themselves. */}}
{{- define "tailrace.tls.client" -}}
{{- if .Values.tls.enabled }}
ca_file: /etc/tailrace/tls/ca.crt
server_name_override: {{ include "tailrace.tls.serverName" . }}
{{- if .Values.tls.mutual }}
cert_file: /etc/tailrace/tls/tls.crt
key_file: /etc/tailrace/tls/tls.key
{{- end }}
{{- else }}
insecure: true
{{- end }}
{{- end -}}

{{- define "tailrace.telemetry" -}}
logs: {level: {{ .Values.log.level }}, encoding: {{ .Values.log.encoding }}}
{{- end -}}

{{- define "tailrace.lb.receivers.tls" -}}
{{- with .Values.lb.tls }}
{{- if .existingSecret }}
tls:
  cert_file: /etc/tailrace/clients/tls.crt
  key_file: /etc/tailrace/clients/tls.key
  {{- if .clientCertificates }}
  client_ca_file: /etc/tailrace/clients/ca.crt
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "tailrace.lb.config" -}}
{{- $made := include "tailrace.lb.config.made" . | fromYaml -}}
{{- with $made.Error }}{{ fail (printf "lb: %s" .) }}{{ end -}}
{{- mergeOverwrite $made (deepCopy .Values.lb.config) | toYaml -}}
{{- end -}}

{{- define "tailrace.lb.config.made" -}}
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: "{{ .Values.bindAddress }}:{{ .Values.ports.grpc }}"
        {{- with .Values.lb.maxConnectionAge }}
        keepalive: {server_parameters: {max_connection_age: {{ . }}}}
        {{- end }}
        {{- include "tailrace.lb.receivers.tls" . | nindent 8 }}
      http:
        endpoint: "{{ .Values.bindAddress }}:{{ .Values.ports.http }}"
        {{- include "tailrace.lb.receivers.tls" . | nindent 8 }}
exporters:
  loadbalancing:
    routing_key: traceID
    protocol:
      otlp:
        timeout: 5s
        tls:
          {{- include "tailrace.tls.client" . | nindent 10 }}
    resolver:
      {{- include "tailrace.resolver" . | nindent 6 }}
service:
  telemetry:
    {{- include "tailrace.telemetry" . | nindent 4 }}
  pipelines:
    traces: {receivers: [otlp], exporters: [loadbalancing]}
tailrace:
  admin:
    {{- include "tailrace.admin" . | nindent 4 }}
  {{- with include "tailrace.workers" .Values.lb }}
  workers: {{ . }}
  {{- end }}
  drain_timeout: {{ .Values.lb.drainSeconds }}s
  {{- if and (eq .Values.resolver.type "k8s") .Values.resolver.dnsFallback }}
  resolver_fallback:
    {{- include "tailrace.resolver.dns" (dict "root" . "service" (include "tailrace.sampler.name" .)) | nindent 4 }}
  {{- end }}
  {{- with include "tailrace.lb.outboxMib" . }}
  outbox: {limit_mib: {{ . }}}
  {{- end }}
{{- end -}}

{{- define "tailrace.sampler.config" -}}
{{- $made := include "tailrace.sampler.config.made" . | fromYaml -}}
{{- with $made.Error }}{{ fail (printf "sampler: %s" .) }}{{ end -}}
{{- mergeOverwrite $made (deepCopy .Values.sampler.config) | toYaml -}}
{{- end -}}

{{/* The backend, where values name one; exporters in sampler.config stand beside it or in its place. */}}
{{- define "tailrace.sampler.exporter" -}}
{{- with .Values.backend }}
{{ .protocol }}:
  endpoint: {{ .endpoint | quote }}
  {{- $tls := .tls }}
  {{- if and (hasPrefix "http://" .endpoint) (eq .protocol "otlp") }}
  {{- $tls = merge (dict "insecure" true) .tls }}
  {{- end }}
  {{- with $tls }}
  tls:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .headers }}
  headers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "tailrace.sampler.config.made" -}}
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: "{{ .Values.bindAddress }}:{{ .Values.ports.grpc }}"
        {{- if .Values.tls.enabled }}
        tls:
          cert_file: /etc/tailrace/tls/tls.crt
          key_file: /etc/tailrace/tls/tls.key
          {{- if .Values.tls.mutual }}
          client_ca_file: /etc/tailrace/tls/ca.crt
          {{- end }}
        {{- end }}
{{- if .Values.backend.endpoint }}
exporters:
  {{- include "tailrace.sampler.exporter" . | nindent 2 }}
{{- end }}
service:
  telemetry:
    {{- include "tailrace.telemetry" . | nindent 4 }}
  pipelines:
    traces:
      receivers: [otlp]
      processors: [tail_sampling]
      {{- if .Values.backend.endpoint }}
      exporters: [{{ .Values.backend.protocol }}]
      {{- end }}
tailrace:
  admin:
    {{- include "tailrace.admin" . | nindent 4 }}
  {{- with include "tailrace.workers" .Values.sampler }}
  workers: {{ . }}
  {{- end }}
  drain_timeout: {{ .Values.sampler.drainSeconds }}s
  early_keep: {{ .Values.sampler.earlyKeep }}
  memory: {at_limit: {{ .Values.sampler.memoryAtLimit }}}
  cluster:
    self: "${env:POD_NAME}"
    {{- if .Values.sampler.handoff.enabled }}
    name: {{ default (printf "${env:POD_NAMESPACE}/%s" (include "tailrace.fullname" .)) .Values.sampler.handoff.clusterName | quote }}
    {{- /* In brackets, as it may be IPv6; those of an IPv4 address are taken off. */}}
    advertise: "[${env:POD_IP}]:{{ .Values.ports.grpc }}"
    handoff_timeout: {{ .Values.sampler.handoff.timeout }}
    resolver:
      {{- include "tailrace.resolver.peers" . | nindent 6 }}
    {{- if .Values.tls.enabled }}
    tls:
      {{- include "tailrace.tls.client" . | nindent 6 }}
    {{- end }}
    {{- end }}
  {{- if .Values.sampler.journal.enabled }}
  journal:
    directory: /var/lib/tailrace
    sync: {{ .Values.sampler.journal.sync }}
    max_size_mib: {{ include "tailrace.sampler.journalMib" . }}
  {{- end }}
{{- end -}}

{{/* The block tail_sampling as values have it, in a file of its own. */}}
{{- define "tailrace.policies" -}}
{{- dict "processors" (dict "tail_sampling" .Values.tailSampling) | toYaml -}}
{{- end -}}
