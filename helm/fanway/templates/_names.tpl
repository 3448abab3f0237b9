{{/* Names, labels and the image: what nearly every template needs. */}}

{{- define "fanway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 46 characters: Kubernetes makes the name of a pod of it, of two hyphens and of 10 and 5 characters of its own, and cuts
what is longer than 63, after which KEDA's query would not find the pods. The longest suffix of a Service fits too. */}}
{{- define "fanway.fullname" -}}
{{- $name := include "fanway.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 46 | trimSuffix "-" -}}
{{- end -}}

{{/* What selects the nodes. A Deployment's selector can never change, so this stays as it is. */}}
{{- define "fanway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fanway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end -}}

{{/* Labels of a resource: list of the root, its component and further labels. */}}
{{- define "fanway.labels" -}}
{{- $root := index . 0 -}}
{{- $labels := dict
  "app.kubernetes.io/name" (include "fanway.name" $root)
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/component" (index . 1)
  "app.kubernetes.io/version" ($root.Chart.AppVersion | toString | trunc 63)
  "app.kubernetes.io/part-of" "fanway"
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- $further := dict -}}
{{- if gt (len .) 2 -}}{{- $further = index . 2 -}}{{- end -}}
{{- merge $labels $further $root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/* Labels of the nodes' pods: no version in them, so that a new version of the chart alone replaces no node. */}}
{{- define "fanway.podLabels" -}}
{{- $labels := include "fanway.selectorLabels" . | fromYaml -}}
{{- merge $labels (dict "app.kubernetes.io/part-of" "fanway") .Values.podLabels .Values.commonLabels | toYaml -}}
{{- end -}}

{{- define "fanway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fanway.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "fanway.image" -}}
{{- $image := .Values.image -}}
{{- $registry := default $image.registry .Values.global.imageRegistry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{/* The names of both lists as references, each once. */}}
{{- define "fanway.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (.Values.global.imagePullSecrets | default list) (.Values.image.pullSecrets | default list) | uniq -}}
{{- $secrets = append $secrets (dict "name" .) -}}
{{- end -}}
{{- with $secrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}
