{{/* Numbers that follow from other values, so that two of them cannot disagree. */}}

{{/* A duration as the Collector writes it, in whole seconds, rounded up. */}}
{{- define "tailrace.seconds" -}}
{{- $ms := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|us|µs|ns|h|m|s)?" (toString .) -1 -}}
{{- $unit := regexFind "[a-zµ]+$" . -}}
{{- $number := float64 (trimSuffix $unit .) -}}
{{- $each := get (dict "h" 3600000.0 "m" 60000.0 "s" 1000.0 "ms" 1.0 "us" 0.001 "µs" 0.001 "ns" 0.000001 "" 0.000001) $unit -}}
{{- $ms = addf $ms (mulf $number $each) -}}
{{- end -}}
{{- divf $ms 1000 | ceil | int64 -}}
{{- end -}}

{{/* A quantity of memory or disk, in whole MiB. */}}
{{- define "tailrace.mib" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- $factors := dict "Ki" 0.0009765625 "Mi" 1.0 "Gi" 1024.0 "Ti" 1048576.0 "k" 0.00095367431640625 "K" 0.00095367431640625 "M" 0.95367431640625 "G" 953.67431640625 "T" 953674.31640625 "" 0.00000095367431640625 -}}
{{- if not (hasKey $factors $unit) -}}
{{- fail (printf "the quantity %q has the unit %q, which is not one of Ki, Mi, Gi, Ti, k, M, G, T" $text $unit) -}}
{{- end -}}
{{- mulf (float64 (trimSuffix $unit $text)) (get $factors $unit) | floor | int64 -}}
{{- end -}}

{{/* Threads that carry spans: what is set, else nothing where a CPU limit says it (the program reads it), else as many as the
     CPUs requested: without a limit the program would count those of the whole node. */}}
{{- define "tailrace.workers" -}}
{{- if .workers -}}
{{- int .workers -}}
{{- else if not (dig "limits" "cpu" "" (.resources | default dict)) -}}
{{- $cpu := toString (dig "requests" "cpu" "1" (.resources | default dict)) -}}
{{- if hasSuffix "m" $cpu -}}
{{- max 1 (divf (float64 (trimSuffix "m" $cpu)) 1000 | ceil | int) -}}
{{- else -}}
{{- max 1 (float64 $cpu | ceil | int) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Seconds from a pod's deletion to its end: the hook, the drain, and a margin to end in order. */}}
{{- define "tailrace.grace" -}}
{{- $least := add .preStopSeconds .drainSeconds 5 -}}
{{- max $least (default 0 .terminationGracePeriodSeconds) -}}
{{- end -}}

{{- define "tailrace.maxReplicas" -}}
{{- if .autoscaling.enabled }}{{ int .autoscaling.maxReplicas }}{{ else }}{{ int .replicas }}{{ end -}}
{{- end -}}

{{- define "tailrace.minReplicas" -}}
{{- if .autoscaling.enabled }}{{ int .autoscaling.minReplicas }}{{ else }}{{ int .replicas }}{{ end -}}
{{- end -}}

{{/* MiB on their way to one sampler: two fifths of a balancer's memory, shared by all samplers there can be; at most the
     program's default of 64, never below its least, 4. */}}
{{- define "tailrace.lb.outboxMib" -}}
{{- with dig "limits" "memory" "" (.Values.lb.resources | default dict) -}}
{{- $share := div (mul (include "tailrace.mib" . | int) 2) (mul 5 (max 1 (include "tailrace.maxReplicas" $.Values.sampler | int))) -}}
{{- max 4 (min 64 $share) -}}
{{- end -}}
{{- end -}}

{{/* Four fifths of the journal's volume: the rest is for the file system and for segments being cleaned. */}}
{{- define "tailrace.sampler.journalMib" -}}
{{- $journal := .Values.sampler.journal -}}
{{- if $journal.maxSizeMib -}}
{{- int $journal.maxSizeMib -}}
{{- else -}}
{{- div (mul (include "tailrace.mib" $journal.persistence.size | int) 4) 5 -}}
{{- end -}}
{{- end -}}

{{/* The name that samplers' certificates carry, and callers check. */}}
{{- define "tailrace.tls.serverName" -}}
{{- default (printf "%s.%s.svc" (include "tailrace.sampler.name" .) (include "tailrace.namespace" .)) .Values.tls.serverName -}}
{{- end -}}

{{/* The file of the token that opens /traces and /reload to other machines. */}}
{{- define "tailrace.admin" -}}
endpoint: "{{ .Values.bindAddress }}:{{ .Values.ports.admin }}"
{{- if .Values.adminToken.existingSecret }}
token_file: /etc/tailrace/admin/{{ .Values.adminToken.key }}
{{- end }}
{{- end -}}
