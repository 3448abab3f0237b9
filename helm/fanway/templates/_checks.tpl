{{/* What the schema cannot say. Every define prints problems, one per line; checks.yaml refuses if there are any. */}}

{{- define "fanway.checks" -}}
{{- include "fanway.checks.drain" . -}}
{{- include "fanway.checks.broker" . -}}
{{- include "fanway.checks.keys" . -}}
{{- include "fanway.checks.config" . -}}
{{- include "fanway.checks.availability" . -}}
{{- include "fanway.checks.autoscaling" . -}}
{{- include "fanway.checks.network" . -}}
{{- include "fanway.checks.metrics" . -}}
{{- end -}}

{{- define "fanway.checks.drain" -}}
{{- $drain := include "fanway.drainSeconds" . | int -}}
{{- $grace := include "fanway.gracePeriod" . | int -}}
{{- $leastGrace := include "fanway.leastGracePeriod" . | int -}}
{{- $traces := include "fanway.tracesSeconds" . | int -}}
{{- if lt $grace $leastGrace }}
terminationGracePeriodSeconds is {{ $grace }}, but a drain takes {{ $drain }} s (gateway.drain){{ if $traces }} and the last traces up to {{ $traces }} s (gateway.telemetry.traces){{ end }}: nodes would be killed with connections that have not been given away. Set at least {{ $leastGrace }}, or leave it unset.
{{- end -}}
{{- $deadline := include "fanway.progressDeadline" . | int -}}
{{- $leastDeadline := include "fanway.leastProgressDeadline" . | int -}}
{{- if lt $deadline $leastDeadline }}
progressDeadlineSeconds is {{ $deadline }}, but replacing one node takes {{ $grace }} s of grace, {{ include "fanway.minReady" . }} s of readiness and up to 120 s to start: sound rollouts would be called failed. Set at least {{ $leastDeadline }}, or leave it unset.
{{- end -}}
{{- if and (eq .Values.gateway.drain.preStop "sleep") (not (include "fanway.hasSleepAction" .)) }}
gateway.drain.preStop is sleep, which Kubernetes {{ .Capabilities.KubeVersion.Version }} does not have (1.30 does). Use auto, drain or none.
{{- end -}}
{{- end -}}

{{- define "fanway.checks.broker" -}}
{{- $redis := .Values.redis -}}
{{- if eq .Values.broker.engine "memory" -}}
{{- if .Values.autoscaling.enabled }}
autoscaling.enabled needs broker.engine redis: nodes with the memory engine do not know each other.
{{- else if gt (int .Values.replicaCount) 1 }}
replicaCount is {{ int .Values.replicaCount }}, but broker.engine memory is for one node: clients of one node would miss what is published on another. Set replicaCount 1, or broker.engine redis and redis.url.
{{- end -}}
{{- else -}}
{{- if ne $redis.mode "standalone" }}
redis.mode {{ $redis.mode }} is not there yet; only standalone is (one server, or one with replicas behind one address).
{{- end -}}
{{- if not $redis.url }}
redis.url is not set. Set it (redis://host:port, or rediss:// for TLS); for one node without Redis set broker.engine memory and replicaCount 1.
{{- else if contains "@" $redis.url }}
redis.url holds a user or password, which would stand in a ConfigMap. Set redis.user and redis.auth.existingSecret instead.
{{- else if and $redis.tls.existingSecret (not (hasPrefix "rediss://" $redis.url)) }}
redis.tls.existingSecret is set, but redis.url does not ask for TLS. Begin it with rediss://.
{{- end -}}
{{- if and $redis.user (not $redis.auth.existingSecret) }}
redis.user is set without a password. Set redis.auth.existingSecret.
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fanway.checks.keys" -}}
{{- if not (or .Values.auth.keys .Values.auth.allowAnonymous) }}
auth.keys is empty, so no client could connect. Add a key, or set auth.allowAnonymous if clients need no token.
{{- end -}}
{{- if and .Values.auth.anonymousTokens (not .Values.auth.keys) }}
auth.anonymousTokens is set without auth.keys, so that no token at all would be valid. Add a key, or leave it to auth.allowAnonymous.
{{- end -}}
{{- range $index, $key := .Values.auth.keys -}}
{{- if hasPrefix "HS" .algorithm -}}
{{- if or .publicKey (not .existingSecret) }}
auth.keys[{{ $index }}] is for {{ .algorithm }}, whose secret must come from existingSecret (name and key), and which has no publicKey.
{{- end -}}
{{- else if eq (empty .publicKey) (empty .existingSecret) }}
auth.keys[{{ $index }}] is for {{ .algorithm }} and needs either publicKey or existingSecret.
{{- end -}}
{{- end -}}
{{- range $index, $key := .Values.api.keys -}}
{{- if eq (empty .hash) (empty .existingSecret) }}
api.keys[{{ $index }}] needs either hash or existingSecret with the hash.
{{- end -}}
{{- end -}}
{{- if and .Values.gateway.tls.enabled (not .Values.gateway.tls.existingSecret) }}
gateway.tls.enabled needs gateway.tls.existingSecret with certificate and key.
{{- end -}}
{{- end -}}

{{/* What the chart computes with, and secrets, cannot be changed behind its back. */}}
{{- define "fanway.checks.config" -}}
{{- $instead := dict
  "server.listen" "gateway.ports.client"
  "server.api_listen" "gateway.ports.api"
  "server.internal_listen" "gateway.ports.internal"
  "server.max_connections" "gateway.limits.maxConnections"
  "server.tls" "gateway.tls"
  "broker" "broker.engine"
  "redis.url" "redis.url"
  "redis.user" "redis.user"
  "redis.password" "redis.auth.existingSecret"
  "redis.fleet" "redis.fleet"
  "redis.tls_ca_file" "redis.tls.existingSecret"
  "auth.keys" "auth.keys"
  "auth.allow_anonymous" "auth.allowAnonymous"
  "auth.anonymous_tokens" "auth.anonymousTokens"
  "auth.max_token_lifetime" "auth.maxTokenLifetime"
  "api.keys" "api.keys"
  "api.allow_key_in_query" "api.allowKeyInQuery"
  "drain" "gateway.drain"
  "telemetry.traces" "gateway.telemetry.traces" -}}
{{- $config := .Values.config | default dict -}}
{{- range $path, $value := $instead -}}
{{- $parts := splitList "." $path -}}
{{- $section := get $config (first $parts) -}}
{{- $given := hasKey $config (first $parts) -}}
{{- if gt (len $parts) 1 -}}
{{- $given = and (kindIs "map" $section) (hasKey ($section | default dict) (last $parts)) -}}
{{- end -}}
{{- if $given }}
config.{{ $path }} is not taken from there. Set {{ $value }}.
{{- end -}}
{{- end -}}
{{- $server := get $config "server" -}}
{{- if and (kindIs "map" $server) (get ($server | default dict) "public_metrics") }}
config.server.public_metrics would show metrics to clients. They are on gateway.ports.internal; have that scraped (metrics.podMonitor, metrics.serviceMonitor or serviceMetrics).
{{- end -}}
{{- with .Values.gateway.ports -}}
{{- if ne 3 (list (int .client) (int .api) (int .internal) | uniq | len) }}
gateway.ports.client, api and internal are {{ int .client }}, {{ int .api }} and {{ int .internal }}. Each needs a port of its own: who may reach one must not reach the others.
{{- end -}}
{{- end -}}
{{- with .Values.gateway.limits -}}
{{- if and (kindIs "invalid" .acceptRate) (not (kindIs "invalid" .acceptBurst)) }}
gateway.limits.acceptBurst means nothing without gateway.limits.acceptRate.
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fanway.checks.availability" -}}
{{- $budget := .Values.podDisruptionBudget -}}
{{- $least := $budget.minAvailable -}}
{{- if $budget.enabled -}}
{{- if not (or (kindIs "invalid" $budget.maxUnavailable) (kindIs "invalid" $least)) }}
podDisruptionBudget has both maxUnavailable and minAvailable, which Kubernetes refuses. Set one.
{{- else if or (eq (toString $least) "100%") (eq (toString $budget.maxUnavailable) "0") (eq (toString $budget.maxUnavailable) "0%") }}
podDisruptionBudget lets no node go, so that no machine could ever be drained. Let at least one go.
{{- else if not (or (kindIs "invalid" $least) (kindIs "string" $least)) -}}
{{- $nodes := ternary .Values.autoscaling.minReplicas .Values.replicaCount .Values.autoscaling.enabled | int -}}
{{- if ge (int $least) $nodes }}
podDisruptionBudget.minAvailable is {{ int $least }} of {{ $nodes }} nodes, so that no machine could ever be drained. Set at most {{ sub $nodes 1 }}, or use maxUnavailable.
{{- end -}}
{{- end -}}
{{- end -}}
{{- $strategy := .Values.strategy -}}
{{- if and (has (toString $strategy.maxSurge) (list "0" "0%")) (has (toString $strategy.maxUnavailable) (list "0" "0%")) }}
strategy.maxSurge and strategy.maxUnavailable are both 0: no node could ever be replaced.
{{- end -}}
{{- end -}}

{{- define "fanway.checks.autoscaling" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if not $scaling.enabled -}}
{{- /* The live fleet may be larger than what the values say, as long as an autoscaler has its way. */ -}}
{{- $name := include "fanway.fullname" . -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace $name | dig "spec" "replicas" 0 | int -}}
{{- if gt $live (int .Values.replicaCount) -}}
{{- range list $name (printf "keda-hpa-%s" $name) -}}
{{- if lookup "autoscaling/v2" "HorizontalPodAutoscaler" $.Release.Namespace . }}
autoscaling.enabled was switched off while the fleet has {{ $live }} nodes, and replicaCount, {{ int $.Values.replicaCount }}, would stop the others at once. Set replicaCount {{ $live }} for now, and lower it by one per drain afterwards.
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $scaling.enabled -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
autoscaling.minReplicas is {{ int $scaling.minReplicas }}, more than maxReplicas, {{ int $scaling.maxReplicas }}.
{{- end -}}
{{- $target := include "fanway.targetConnections" . | int -}}
{{- $limit := int .Values.gateway.limits.maxConnections -}}
{{- if or (lt $target 1) (ge $target $limit) }}
autoscaling.targetConnections is {{ $target }}, but must be at least 1 and below gateway.limits.maxConnections, {{ $limit }}: full nodes refuse clients before others are added.
{{- end -}}
{{- /* The smallest fleet without one of its nodes. A fleet of one has nobody to fall back on anyway. */ -}}
{{- $least := int $scaling.minReplicas -}}
{{- $bearable := div (mul $limit (sub $least 1)) (max $least 1) | int -}}
{{- if and (gt $least 1) (gt $target $bearable) }}
autoscaling aims at {{ $target }} of {{ $limit }} connections per node, so that of {{ $least }} nodes none could be lost: the others would refuse clients. Aim at {{ $bearable }} at most (autoscaling.targetUtilization, targetConnections), or set autoscaling.minReplicas higher.
{{- end -}}
{{- $drain := include "fanway.drainSeconds" . | int -}}
{{- $down := $scaling.behavior.scaleDown -}}
{{- if not $down -}}
{{- $period := include "fanway.scaleDownPeriod" . | int -}}
{{- if gt $period 1800 }}
gateway.drain takes {{ $drain }} s, so that scaling down would go by one node per {{ $period }} s; Kubernetes allows no more than 1800. Drain within 1740 s, or set autoscaling.behavior.scaleDown.
{{- end -}}
{{- else if ne (get $down "selectPolicy" | toString) "Disabled" -}}
{{- if not $down.policies }}
autoscaling.behavior.scaleDown has no policies, and Kubernetes' own takes every surplus node away at once. Set policies with periodSeconds of at least {{ $drain }}.
{{- end -}}
{{- range $index, $policy := $down.policies -}}
{{- if lt (int .periodSeconds) $drain }}
autoscaling.behavior.scaleDown.policies[{{ $index }}].periodSeconds is {{ int .periodSeconds }}, but a drain takes {{ $drain }} s (gateway.drain): nodes would go while those before are still giving connections away. Set at least {{ $drain }}.
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fanway.checks.network" -}}
{{- if and .Values.gatewayApi.enabled (not .Values.gatewayApi.parentRefs) }}
gatewayApi.enabled needs gatewayApi.parentRefs: a route without a gateway takes no traffic.
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
ingress.enabled needs ingress.hosts.
{{- end -}}
{{- if and .Values.service.loadBalancerClass (ne .Values.service.type "LoadBalancer") }}
service.loadBalancerClass is for service.type LoadBalancer.
{{- end -}}
{{- end -}}

{{- define "fanway.checks.metrics" -}}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled }}
metrics.podMonitor and metrics.serviceMonitor are both enabled: every node would be scraped, counted and scaled for twice. Enable one.
{{- end -}}
{{- $names := .Values.metrics.prometheusRule.names -}}
{{- /* KEDA's autoscaler is called after the ScaledObject. */ -}}
{{- $longest := printf "%s%s" (ternary "keda-hpa-" "" (and .Values.autoscaling.enabled (eq .Values.autoscaling.type "keda"))) (include "fanway.fullname" .) -}}
{{- if and .Values.metrics.prometheusRule.enabled (not (and (regexMatch (printf "^(%s)$" $names) (include "fanway.fullname" .)) (regexMatch (printf "^(%s)$" $names) $longest))) }}
metrics.prometheusRule.names, {{ $names }}, does not match {{ $longest }}, so that alerts about its Deployment and autoscaler would never fire. Set it to .*{{ include "fanway.fullname" . }}.*, or to what matches all fleets.
{{- end -}}
{{- if and .Values.metrics.dashboards.grafanaOperator.enabled (not .Values.metrics.dashboards.enabled) }}
metrics.dashboards.grafanaOperator needs metrics.dashboards.enabled: it reads the dashboards' ConfigMaps.
{{- end -}}
{{- end -}}
