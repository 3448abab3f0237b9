{{/* Parts that the nodes and the pod of `helm test` share. */}}

{{/* Secrets as environment variables, which win over the file. */}}
{{- define "fanway.secretEnv" -}}
{{- $redis := .Values.redis.auth -}}
{{- if and (eq .Values.broker.engine "redis") $redis.existingSecret }}
- name: FANWAY__REDIS__PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $redis.existingSecret }}
      key: {{ $redis.passwordKey }}
{{- end }}
{{- range $index, $key := .Values.auth.keys }}
{{- with $key.existingSecret }}
- name: FANWAY__AUTH__KEYS__{{ $index }}__{{ ternary "SECRET" "PUBLIC_KEY" (hasPrefix "HS" $key.algorithm) }}
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- range $index, $key := .Values.api.keys }}
{{- with $key.existingSecret }}
- name: FANWAY__API__KEYS__{{ $index }}__HASH
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "fanway.env" -}}
# Every command of the binary finds the settings by this: `kubectl exec ... -- fanway token` as well.
- name: FANWAY_CONFIG
  value: /etc/fanway/fanway.toml
{{- include "fanway.secretEnv" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fanway.volumeMounts" -}}
- name: config
  mountPath: /etc/fanway
  readOnly: true
{{- if .Values.gateway.tls.enabled }}
- name: tls
  mountPath: /etc/fanway-tls
  readOnly: true
{{- end }}
{{- if and (eq .Values.broker.engine "redis") .Values.redis.tls.existingSecret }}
- name: redis-tls
  mountPath: /etc/fanway-redis
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fanway.volumes" -}}
- name: config
  configMap:
    name: {{ include "fanway.fullname" . }}
{{- with .Values.gateway.tls }}
{{- if .enabled }}
- name: tls
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- with .Values.redis.tls.existingSecret }}
{{- if eq $.Values.broker.engine "redis" }}
- name: redis-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
