{{/* What pods of both tiers share. Each takes {root, values, component, name}; values are those of the tier. */}}

{{- define "tailrace.pod.scheduling" -}}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
  {{- if .values.topologySpreadConstraints }}
  {{- tpl (toYaml .values.topologySpreadConstraints) .root | nindent 2 }}
  {{- else }}
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    {{- if eq $.component "lb" }}
    matchLabelKeys: [pod-template-hash]
    {{- end }}
    labelSelector:
      matchLabels:
        {{- include "tailrace.selectorLabels" $ | nindent 8 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "tailrace.pod.metadata" -}}
{{- /* Without the chart's version: a new chart alone must not make pods roll. */}}
labels:
  {{- include "tailrace.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/part-of: tailrace
  {{- with merge (dict) .values.podLabels .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  kubectl.kubernetes.io/default-container: {{ .component }}
  {{- range $name, $sum := .checksums }}
  checksum/{{ $name }}: {{ $sum }}
  {{- end }}
  {{- with merge (dict) .values.podAnnotations .root.Values.commonAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "tailrace.pod.common" -}}
serviceAccountName: {{ include "tailrace.serviceAccountName" . }}
{{- /* The token is there for the resolver that asks the API server, and for nobody else. */}}
automountServiceAccountToken: {{ eq (include "tailrace.asksApiServer" .) "true" }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "tailrace.grace" .values }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .values.podSecurityContext | nindent 2 }}
{{- include "tailrace.pod.scheduling" . | nindent 0 }}
{{- with .values.initContainers }}
initContainers:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Whether a tier asks the API server: balancers by the k8s resolver, samplers too once they look for each other. */}}
{{- define "tailrace.asksApiServer" -}}
{{- and (eq .root.Values.resolver.type "k8s") (or (eq .component "lb") .root.Values.sampler.handoff.enabled) -}}
{{- end -}}

{{- define "tailrace.container.common" -}}
image: {{ include "tailrace.image" (dict "root" .root "component" .values) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .values.containerSecurityContext | nindent 2 }}
env:
  {{- range $name, $field := dict "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" "POD_IP" "status.podIP" }}
  - {name: {{ $name }}, valueFrom: {fieldRef: {fieldPath: {{ $field }}}}}
  {{- end }}
  {{- with .values.extraEnv }}
  {{- tpl (toYaml .) $.root | nindent 2 }}
  {{- end }}
{{- with .values.extraEnvFrom }}
envFrom:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
{{- with get $.values $probe }}
{{ $probe }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- if gt (int .values.preStopSeconds) 0 }}
lifecycle:
  preStop: {sleep: {seconds: {{ int .values.preStopSeconds }}}}
{{- end }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end -}}

{{/* Secrets that both tiers may have, as volumes and where they are mounted. */}}
{{- define "tailrace.secrets.mounts" -}}
{{- if .Values.tls.enabled }}
- {name: tls, mountPath: /etc/tailrace/tls, readOnly: true}
{{- end }}
{{- if .Values.adminToken.existingSecret }}
- {name: admin-token, mountPath: /etc/tailrace/admin, readOnly: true}
{{- end }}
{{- end -}}

{{- define "tailrace.secrets.volumes" -}}
{{- if .Values.tls.enabled }}
- {name: tls, secret: {secretName: {{ .Values.tls.existingSecret }}, defaultMode: 0440}}
{{- end }}
{{- if .Values.adminToken.existingSecret }}
- {name: admin-token, secret: {secretName: {{ .Values.adminToken.existingSecret }}, defaultMode: 0440}}
{{- end }}
{{- end -}}
