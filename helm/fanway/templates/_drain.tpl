{{/* Times of a stopping node and what follows from them. Checked in _checks.tpl. */}}

{{/* From the decision to stop to the exit, in seconds. */}}
{{- define "fanway.drainSeconds" -}}
{{- with .Values.gateway.drain -}}
{{- add (int .propagationDelaySeconds) (int .windowSeconds) (int .closeTimeoutSeconds) -}}
{{- end -}}
{{- end -}}

{{/* For so long a node that has drained waits until the collector has the last spans. */}}
{{- define "fanway.tracesSeconds" -}}
{{- with .Values.gateway.telemetry.traces -}}
{{- ternary (int .timeoutSeconds) 0 (not (empty .endpoint)) -}}
{{- end -}}
{{- end -}}

{{/* Kubernetes kills after this; 5 s are for starting the hook and ending the process. */}}
{{- define "fanway.leastGracePeriod" -}}
{{- add (include "fanway.drainSeconds" . | int) (include "fanway.tracesSeconds" . | int) 5 -}}
{{- end -}}

{{- define "fanway.gracePeriod" -}}
{{- $set := .Values.terminationGracePeriodSeconds -}}
{{- ternary (include "fanway.leastGracePeriod" .) (toString (int $set)) (kindIs "invalid" $set) -}}
{{- end -}}

{{/* A Deployment goes on as soon as the new node has been ready for so long, whether or not the old one has stopped. So, for
one node at a time to close its connections, no less than that takes. */}}
{{- define "fanway.minReady" -}}
{{- $set := .Values.minReadySeconds -}}
{{- $computed := ternary 0 .Values.gateway.drain.windowSeconds (eq .Values.broker.engine "memory") | int | toString -}}
{{- ternary $computed (toString (int $set)) (kindIs "invalid" $set) -}}
{{- end -}}

{{/* A rollout that waits for a drain is no failed one: drain, proof of the new node, and 120 s for its image and start. */}}
{{- define "fanway.leastProgressDeadline" -}}
{{- add (include "fanway.gracePeriod" . | int) (include "fanway.minReady" . | int) 120 -}}
{{- end -}}

{{- define "fanway.progressDeadline" -}}
{{- $set := .Values.progressDeadlineSeconds -}}
{{- $computed := max 600 (include "fanway.leastProgressDeadline" . | int) | toString -}}
{{- ternary $computed (toString (int $set)) (kindIs "invalid" $set) -}}
{{- end -}}

{{- define "fanway.hasSleepAction" -}}
{{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}yes{{ end -}}
{{- end -}}

{{/* Who waits for load balancers: sleep, drain or none. */}}
{{- define "fanway.preStop" -}}
{{- $how := .Values.gateway.drain.preStop -}}
{{- if eq $how "auto" -}}
{{- $how = ternary "sleep" "drain" (include "fanway.hasSleepAction" . | eq "yes") -}}
{{- end -}}
{{- if and (eq $how "sleep") (eq 0 (int .Values.gateway.drain.propagationDelaySeconds)) }}none{{ else }}{{ $how }}{{ end -}}
{{- end -}}

{{/* What is left for the node itself to wait: nothing if the kubelet has waited already. */}}
{{- define "fanway.ownPropagationDelay" -}}
{{- if include "fanway.preStop" . | eq "sleep" }}0{{ else }}{{ int .Values.gateway.drain.propagationDelaySeconds }}{{ end -}}
{{- end -}}

{{/* Longer than the steps of a rollout are apart, 20 s being for the start of a node: nobody sheds between them. At most what the
     gateway takes. */}}
{{- define "fanway.settleTime" -}}
{{- $step := add (include "fanway.minReady" . | int) (int .Values.gateway.drain.propagationDelaySeconds) 20 | int -}}
{{- printf "%ds" (min 3600 (max 60 $step)) -}}
{{- end -}}
