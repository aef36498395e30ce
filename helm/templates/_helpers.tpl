{{/* Names. Objects are <full name>-<component>, short enough for the host names of pods made from them. */}}
{{- define "lg.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "lg.fullname" -}}
{{- $name := include "lg.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels. The list (root, component) is what all of these take. */}}
{{- define "lg.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "lg.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "lg.labels" -}}
{{- $root := index . 0 -}}
{{ include "lg.selector" . }}
app.kubernetes.io/part-of: lingma-gateway
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Those of pods have no versions in them: another version of the chart alone replaces no pod. */}}
{{- define "lg.podLabels" -}}
{{ include "lg.selector" . }}
app.kubernetes.io/part-of: lingma-gateway
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "lg.metadata" -}}
name: {{ include "lg.fullname" (index . 0) }}-{{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "lg.labels" . | nindent 2 }}
{{- end -}}

{{/* (image values, default tag) */}}
{{- define "lg.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (index . 1) $image.tag }}
{{- end -}}
{{- end -}}

{{- define "lg.serviceAccountName" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.serviceAccount.name -}}
{{ $root.Values.serviceAccount.name }}
{{- else if $root.Values.serviceAccount.create -}}
{{ include "lg.fullname" $root }}-{{ index . 1 }}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* What is run and what is not. Templates ask `eq (include …) "true"`. */}}
{{- define "lg.trialRedis" -}}
{{- $redis := .Values.redis -}}
{{- if and $redis.trial.enabled (not $redis.url) (not $redis.existingSecret) -}}true{{- end -}}
{{- end -}}

{{/* Seconds between the wish that a pod stops and its end. A gateway waits, listens, drains, cancels what is left (5 s) and
closes; a worker drains, cancels what is left (4 s) and stops its Lingmas. With the defaults it is 20 s more than the
deadline for both. */}}
{{- define "lg.gracePeriod" -}}
{{- $drain := (index . 0).Values.drain -}}
{{- if eq (index . 1) "gateway" -}}
{{ add (ceil $drain.deadlineSeconds) (max 20 (add (ceil $drain.listenSeconds) (ceil $drain.preStopSeconds) 10)) }}
{{- else -}}
{{ add (ceil $drain.deadlineSeconds) 20 }}
{{- end -}}
{{- end -}}

{{/* Parts of pods */}}
{{- define "lg.pod" -}}
{{- $root := index . 0 -}}
{{- $own := index . 2 -}}
serviceAccountName: {{ include "lg.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ include "lg.gracePeriod" . }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A soft spread: (selector labels, topology key) */}}
{{- define "lg.spread" -}}
- maxSkew: 1
  topologyKey: {{ index . 2 }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "lg.selector" . | nindent 6 }}
{{- end -}}

{{/* Variables */}}
{{- define "lg.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
      {{- if .optional }}
      optional: true
      {{- end }}
{{- end -}}

{{/* `config` as far as it concerns one kind of process; files/settings.json knows whose a name is. Numbers through toJson:
Helm has them as floats, and 134217728 would become 1.34e+08. */}}
{{- define "lg.configEnv" -}}
{{- $root := index . 0 -}}
{{- $known := index ($root.Files.Get "files/settings.json" | fromJson) (index . 1) -}}
{{- range $name, $value := $root.Values.config }}
{{- if and (has $name $known) (ne (kindOf $value) "invalid") }}
- name: {{ $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "lg.storeEnv" -}}
{{- $root := index . 0 -}}
{{- $full := include "lg.fullname" $root -}}
{{- $redis := $root.Values.redis -}}
{{- if $redis.existingSecret }}
{{ include "lg.secretEnv" (dict "name" "REDIS_URL" "secret" $redis.existingSecret "key" $redis.existingSecretKey) }}
{{- else if $redis.url }}
{{ include "lg.secretEnv" (dict "name" "REDIS_URL" "secret" (printf "%s-store" $full) "key" "REDIS_URL") }}
{{- else if $redis.trial.enabled }}
- name: REDIS_URL
  value: redis://{{ $full }}-redis:6379/0
{{- else }}
{{- fail "give redis.url or redis.existingSecret, or let redis.trial.enabled be true" }}
{{- end }}
{{- if and $redis.passwordSecret (or $redis.existingSecret $redis.url) }}
{{ include "lg.secretEnv" (dict "name" "REDIS_PASSWORD" "secret" $redis.passwordSecret "key" $redis.passwordSecretKey) }}
{{- end }}
{{- $ring := $root.Values.stateKeys }}
{{- if $ring.existingSecret }}
{{ include "lg.secretEnv" (dict "name" "STATE_KEYS" "secret" $ring.existingSecret "key" $ring.existingSecretKey) }}
{{- else if $ring.values }}
{{ include "lg.secretEnv" (dict "name" "STATE_KEYS" "secret" (printf "%s-store" $full) "key" "STATE_KEYS") }}
{{- end }}
{{- end -}}

{{- define "lg.tracingEnv" -}}
{{- $root := index . 0 -}}
{{- $tracing := $root.Values.tracing -}}
{{- $endpoint := $tracing.endpoint -}}
{{- if and (not $endpoint) $tracing.jaeger.enabled -}}
{{- $endpoint = printf "http://%s-jaeger:4318" (include "lg.fullname" $root) -}}
{{- end -}}
{{- if $endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ $endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ $tracing.protocol }}
{{- with $tracing.headersSecret }}
{{- if .name }}
{{ include "lg.secretEnv" (dict "name" "OTEL_EXPORTER_OTLP_HEADERS" "secret" .name "key" .key) }}
{{- end }}
{{- end }}
{{- with $tracing.sampler }}
- name: OTEL_TRACES_SAMPLER
  value: {{ . }}
{{- end }}
{{- with $tracing.samplerArg }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ . | quote }}
{{- end }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ $attributes := list (printf "k8s.namespace.name=%s" $root.Release.Namespace) "k8s.pod.name=$(POD_NAME)" }}
  {{- range $name, $value := $tracing.resourceAttributes }}
  {{- $attributes = append $attributes (printf "%s=%s" $name $value) }}
  {{- end }}
  {{- $attributes | join "," | quote }}
{{- end }}
{{- end -}}

{{/* Files */}}
{{- define "lg.files" -}}/etc/lingma-gateway{{- end -}}

{{/* A token that is given, else the one in the cluster, else a new one: (root, given, key, prefix) */}}
{{- define "lg.kept" -}}
{{- $root := index . 0 -}}
{{- $key := index . 2 -}}
{{- if index . 1 -}}
{{ index . 1 }}
{{- else -}}
{{- $old := (lookup "v1" "Secret" $root.Release.Namespace (printf "%s-gateway" (include "lg.fullname" $root))).data | default dict -}}
{{- if index $old $key -}}
{{ index $old $key | b64dec }}
{{- else -}}
{{ index . 3 }}{{ randAlphaNum 40 }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Changes of secrets that the chart makes restart pods. Of what was given, for what is made at random must not. */}}
{{- define "lg.gatewayChecksum" -}}
{{- list .Values.auth .Values.keyFile .Values.stateKeys .Values.upstreams .Values.redis.url | toJson | sha256sum -}}
{{- end -}}
{{- define "lg.workerChecksum" -}}
{{- list .Values.lingma .Values.stateKeys .Values.redis.url | toJson | sha256sum -}}
{{- end -}}

{{/* The secret with keys of clients and tokens, and the key in it: (root, which) */}}
{{- define "lg.authSecret" -}}
{{- default (printf "%s-gateway" (include "lg.fullname" .)) .Values.auth.existingSecret -}}
{{- end -}}
{{- define "lg.authKey" -}}
{{- $auth := (index . 0).Values.auth -}}
{{- if $auth.existingSecret -}}
{{ index $auth.existingSecretKeys (index . 1) }}
{{- else -}}
{{ index (dict "apiKeys" "API_KEYS" "adminToken" "ADMIN_TOKEN" "metricsToken" "METRICS_TOKEN") (index . 1) }}
{{- end -}}
{{- end -}}

{{- define "lg.lingmaKey" -}}
{{- $lingma := (index . 0).Values.lingma -}}
{{- if $lingma.existingSecret -}}
{{ index $lingma.existingSecretKeys (index . 1) }}
{{- else if index $lingma (index . 1) -}}
{{ index (dict "accounts" "LINGMA_ACCOUNTS" "sessionBundle" "LINGMA_SESSION_BUNDLE" "password" "LINGMA_PASSWORD") (index . 1) }}
{{- end -}}
{{- end -}}

{{- define "lg.lingmaSecret" -}}
{{- $lingma := .Values.lingma -}}
{{- if $lingma.existingSecret -}}
{{ $lingma.existingSecret }}
{{- else if or $lingma.accounts $lingma.sessionBundle $lingma.password -}}
{{ include "lg.fullname" . }}-lingma
{{- end -}}
{{- end -}}
