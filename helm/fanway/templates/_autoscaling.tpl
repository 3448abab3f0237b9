{{/* What the two ways of scaling share. */}}

{{/* Connections per node that are aimed at. */}}
{{- define "fanway.targetConnections" -}}
{{- $scaling := .Values.autoscaling -}}
{{- $computed := mulf (float64 .Values.gateway.limits.maxConnections) (float64 $scaling.targetUtilization) | floor | int -}}
{{- ternary $computed (int $scaling.targetConnections) (kindIs "invalid" $scaling.targetConnections) -}}
{{- end -}}

{{/* One node at a time, and only when the one before has given its connections away and they have settled. */}}
{{- define "fanway.scaleDownPeriod" -}}
{{- add (include "fanway.drainSeconds" . | int) 60 -}}
{{- end -}}

{{- define "fanway.behavior" -}}
{{- $behavior := .Values.autoscaling.behavior -}}
scaleUp:
{{- with $behavior.scaleUp }}
  {{- toYaml . | nindent 2 }}
{{- else }}
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies:
    - type: Percent
      value: 100
      periodSeconds: 30
    - type: Pods
      value: 4
      periodSeconds: 30
{{- end }}
scaleDown:
{{- with $behavior.scaleDown }}
  {{- toYaml . | nindent 2 }}
{{- else }}
  stabilizationWindowSeconds: 600
  selectPolicy: Min
  policies:
    - type: Pods
      value: 1
      periodSeconds: {{ include "fanway.scaleDownPeriod" . }}
{{- end }}
{{- end -}}

{{/* The sum over all nodes. One that is still there and cannot be scraped counts with what it had last, for up to an hour: a
lost scrape shrinks nothing. One that is gone, or has only begun, does not count. The same as in deploy/prometheus/keda.yaml. */}}
{{- define "fanway.kedaQuery" -}}
{{- $pods := printf `namespace="%s",pod=~"%s-[a-z0-9]+-[a-z0-9]+"` .Release.Namespace (include "fanway.fullname" .) -}}
{{- $computed := printf `sum(fanway_connections{%[1]s} or last_over_time(fanway_connections{%[1]s}[1h]) and on (namespace, pod) up{%[1]s} == 0)` $pods -}}
{{- default $computed .Values.autoscaling.keda.query -}}
{{- end -}}

{{/*
The Deployment's `replicas`, or nothing.

A field that was in the last manifest and is not in this one is removed, and a Deployment without it has one replica. So
whether an autoscaler's fleet may leave it out depends on how it began:
- installed with autoscaling: it never stood in a manifest and never does; upgrades and rollbacks leave the fleet alone;
- switched on later: it stands there, so it stays, with the number that is live.
The annotation `fanway/replicas` of the live Deployment tells which.
*/}}
{{- define "fanway.replicas" -}}
{{- if not .Values.autoscaling.enabled -}}
{{- int .Values.replicaCount -}}
{{- else -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (include "fanway.fullname" .) -}}
{{- if not $live -}}
{{- with .Values.autoscaling.seedReplicas }}{{ int . }}{{ end -}}
{{- else if ne (dig "metadata" "annotations" "fanway/replicas" "" $live) "autoscaler" -}}
{{- max (dig "spec" "replicas" 1 $live | int) (int .Values.autoscaling.minReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
