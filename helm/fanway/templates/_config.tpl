{{/* The gateway's settings. Secrets never stand in them: they come as environment variables, see _pod.tpl. */}}

{{/* Merges the second map into the first, in place. Lists are replaced; what becomes null is not written later on. */}}
{{- define "fanway.merge" -}}
{{- $into := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $into $key)) -}}
{{- include "fanway.merge" (list (get $into $key) $value) -}}
{{- else -}}
{{- $_ := set $into $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Sets what has a value: list of a map, and pairs of key and value. Null and empty texts are left to the gateway. */}}
{{- define "fanway.setGiven" -}}
{{- $into := index . 0 -}}
{{- range rest . -}}
{{- $value := index . 1 -}}
{{- if not (or (kindIs "invalid" $value) (and (kindIs "string" $value) (empty $value))) -}}
{{- $_ := set $into (index . 0) $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fanway.fleet" -}}
{{- $name := printf "%s-%s" .Release.Namespace (include "fanway.fullname" .) | replace "." "-" -}}
{{- if gt (len $name) 64 -}}
{{- $name = printf "%s-%s" (trunc 55 $name) (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- default $name .Values.redis.fleet -}}
{{- end -}}

{{/* All settings as JSON. */}}
{{- define "fanway.settings" -}}
{{- $gateway := .Values.gateway -}}

{{- $server := dict
  "listen" (printf "%s:%d" $gateway.listenAddress (int $gateway.ports.client))
  "api_listen" (printf "%s:%d" $gateway.listenAddress (int $gateway.ports.api))
  "internal_listen" (printf "%s:%d" $gateway.listenAddress (int $gateway.ports.internal))
  "max_connections" $gateway.limits.maxConnections -}}
{{- include "fanway.setGiven" (list $server
  (list "accept_rate" $gateway.limits.acceptRate)
  (list "accept_burst" $gateway.limits.acceptBurst)) -}}
{{- if $gateway.tls.enabled -}}
{{- $_ := set $server "tls" (dict
  "cert_file" (printf "/etc/fanway-tls/%s" $gateway.tls.certKey)
  "key_file" (printf "/etc/fanway-tls/%s" $gateway.tls.keyKey)) -}}
{{- end -}}

{{- $drain := dict
  "propagation_delay" (printf "%ss" (include "fanway.ownPropagationDelay" .))
  "window" (printf "%ds" (int $gateway.drain.windowSeconds))
  "close_timeout" (printf "%ds" (int $gateway.drain.closeTimeoutSeconds)) -}}

{{- $auth := dict "keys" list -}}
{{- range .Values.auth.keys -}}
{{- $key := dict "algorithm" .algorithm -}}
{{- include "fanway.setGiven" (list $key (list "kid" .kid) (list "issuer" .issuer) (list "public_key" .publicKey)) -}}
{{- $_ := set $auth "keys" (append $auth.keys $key) -}}
{{- end -}}
{{- if .Values.auth.allowAnonymous }}{{ $_ := set $auth "allow_anonymous" true }}{{ end -}}
{{- if .Values.auth.anonymousTokens }}{{ $_ := set $auth "anonymous_tokens" true }}{{ end -}}
{{- include "fanway.setGiven" (list $auth (list "max_token_lifetime" .Values.auth.maxTokenLifetime)) -}}
{{- with .Values.auth.allowedOrigins }}{{ $_ := set $auth "allowed_origins" . }}{{ end -}}

{{- $api := dict "keys" list -}}
{{- range .Values.api.keys -}}
{{- $key := dict "id" .id -}}
{{- include "fanway.setGiven" (list $key (list "hash" .hash) (list "scopes" .scopes) (list "expires" .expires)) -}}
{{- $_ := set $api "keys" (append $api.keys $key) -}}
{{- end -}}

{{- if .Values.api.allowKeyInQuery }}{{ $_ := set $api "allow_key_in_query" true }}{{ end -}}

{{- $telemetry := dict "log_level" $gateway.telemetry.logLevel "log_format" $gateway.telemetry.logFormat -}}
{{- with $gateway.telemetry.traces -}}
{{- if .endpoint -}}
{{- $traces := dict "endpoint" .endpoint "timeout" (printf "%ds" (int .timeoutSeconds)) -}}
{{- include "fanway.setGiven" (list $traces (list "sample_ratio" .sampleRatio)) -}}
{{- $_ := set $telemetry "traces" $traces -}}
{{- end -}}
{{- end -}}

{{- $settings := dict
  "server" $server
  "broker" (dict "engine" .Values.broker.engine)
  "auth" $auth
  "api" $api
  "drain" $drain
  "telemetry" $telemetry -}}

{{- if eq .Values.broker.engine "redis" -}}
{{- $redis := dict "url" .Values.redis.url "database" .Values.redis.database "fleet" (include "fanway.fleet" .) -}}
{{- include "fanway.setGiven" (list $redis (list "user" .Values.redis.user)) -}}
{{- if .Values.redis.tls.existingSecret -}}
{{- $_ := set $redis "tls_ca_file" (printf "/etc/fanway-redis/%s" .Values.redis.tls.caKey) -}}
{{- end -}}
{{- $_ := set $settings "redis" $redis -}}
{{- end -}}

{{- $rebalance := dict -}}
{{- with $gateway.rebalance -}}
{{- include "fanway.setGiven" (list $rebalance
  (list "max_connection_age" .maxConnectionAge)
  (list "max_connection_age_jitter" .maxConnectionAgeJitter)
  (list "shed" .shed)
  (list "shed_ratio" .shedRatio)
  (list "shed_target" .shedTarget)
  (list "shed_threshold" .shedThreshold)
  (list "shed_rate" .shedRate)
  (list "heartbeat_interval" .heartbeatInterval)
  (list "settle_time" (.settleTime | default (include "fanway.settleTime" $)))) -}}
{{- end -}}
{{- with $rebalance }}{{ $_ := set $settings "rebalance" . }}{{ end -}}

{{- include "fanway.merge" (list $settings (.Values.config | default dict)) -}}
{{- toJson $settings -}}
{{- end -}}

{{/* A value as TOML. JSON's texts, numbers and lists of them are TOML's as well; maps become inline tables. */}}
{{- define "fanway.tomlValue" -}}
{{- if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $pairs = append $pairs (printf "%s = %s" (include "fanway.tomlKey" $key) (include "fanway.tomlValue" $value)) -}}
{{- end -}}
{{- end -}}
{ {{ join ", " $pairs }} }
{{- else if kindIs "slice" . -}}
{{- $items := list -}}
{{- range . }}{{ $items = append $items (include "fanway.tomlValue" .) }}{{ end -}}
[{{ join ", " $items }}]
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{- define "fanway.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/* A table as TOML: list of the map and its path. Values stand before tables, as TOML wants it. */}}
{{- define "fanway.tomlTable" -}}
{{- $path := index . 1 -}}
{{- range $key, $value := index . 0 -}}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "fanway.tomlKey" $key }} = {{ include "fanway.tomlValue" $value }}
{{- end -}}
{{- end -}}
{{- range $key, $value := index . 0 -}}
{{- if kindIs "map" $value -}}
{{- $inner := append $path (include "fanway.tomlKey" $key) }}

[{{ join "." $inner }}]
{{- include "fanway.tomlTable" (list $value $inner) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The file. */}}
{{- define "fanway.toml" -}}
{{- include "fanway.tomlTable" (list (include "fanway.settings" . | fromJson) list) | trim -}}
{{- end -}}
