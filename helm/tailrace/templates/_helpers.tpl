{{/* Names and labels. Selectors are immutable: they hold name, instance and component, never a version. */}}

{{- define "tailrace.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 44 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 44 characters: the StatefulSet's name, 8 longer, gets a 11-character suffix in a label of 63. */}}
{{- define "tailrace.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 44 | trimSuffix "-" -}}
{{- else if contains (default .Chart.Name .Values.nameOverride) .Release.Name -}}
{{- .Release.Name | trunc 44 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) | trunc 44 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tailrace.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "tailrace.lb.name" -}}{{ include "tailrace.fullname" . }}-lb{{- end -}}
{{- define "tailrace.sampler.name" -}}{{ include "tailrace.fullname" . }}-sampler{{- end -}}

{{- define "tailrace.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tailrace.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object of a component: {root, component}. */}}
{{- define "tailrace.labels" -}}
{{ include "tailrace.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: tailrace
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata: of an object: {root, component, name, annotations, labels}. */}}
{{- define "tailrace.metadata" -}}
name: {{ .name }}
namespace: {{ include "tailrace.namespace" .root }}
labels:
  {{- include "tailrace.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The image of a component; a digest wins over a tag. */}}
{{- define "tailrace.image" -}}
{{- $image := merge (dict) (.component.image | default dict) .root.Values.image -}}
{{- $repository := $image.repository -}}
{{- with $image.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "tailrace.serviceAccountName" -}}
{{- if .values.serviceAccount.create -}}
{{- default .name .values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The pod of helm test carries a name of its own, so that no service of ours selects it. */}}
{{- define "tailrace.test.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tailrace.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tailrace.test.labels" -}}
{{ include "tailrace.test.selectorLabels" . }}
app.kubernetes.io/part-of: tailrace
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
