{{/*
Expand the name of the chart.
*/}}
{{- define "call-history.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
The name of everything. It ends at 50 characters: Kubernetes adds a hash to the names of pods in a label of 63.
*/}}
{{- define "call-history.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Common labels
*/}}
{{- define "call-history.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "call-history.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/*
Selector labels
*/}}
{{- define "call-history.selectorLabels" -}}
app.kubernetes.io/name: {{ include "call-history.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "call-history.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "call-history.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "call-history.secretName" -}}
{{- tpl .Values.storeKeysInSecret.existingSecret . | default (include "call-history.fullname" .) }}
{{- end }}

{{/*
The secrets that are mounted, as a JSON list of setting names.
*/}}
{{- define "call-history.secretKeys" -}}
{{- if not .Values.storeKeysInSecret.enabled -}}
[]
{{- else if .Values.storeKeysInSecret.existingSecret -}}
{{ .Values.storeKeysInSecret.existingSecretKeys | uniq | toJson }}
{{- else -}}
{{ keys .Values.storeKeysInSecret.keys | sortAlpha | toJson }}
{{- end -}}
{{- end }}

{{/*
The port of callHistory.http_addr, which may be an address of IPv6.
*/}}
{{- define "call-history.port" -}}
{{- regexFind "[0-9]+$" .Values.callHistory.http_addr }}
{{- end }}

{{/*
The environment variable of a setting: livekit_url stays LIVEKIT_URL, all others are CALL_HISTORY_….
*/}}
{{- define "call-history.variable" -}}
{{- if hasPrefix "livekit_" . }}{{ upper . }}{{ else }}CALL_HISTORY_{{ upper . }}{{ end }}
{{- end }}

{{/*
A setting's value as text. Numbers of YAML are floats, and large floats would become 1e+06.
*/}}
{{- define "call-history.value" -}}
{{- if kindIs "slice" . }}{{ join "," . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}
{{- else }}{{ toString . }}
{{- end }}
{{- end }}

{{/*
What no single value shows. Templates that are always rendered include it.
*/}}
{{- define "call-history.check" -}}
{{- $least := add (int .Values.callHistory.drain_timeout) 60 }}
{{- if lt (int64 .Values.terminationGracePeriodSeconds) $least }}
{{- fail (printf "terminationGracePeriodSeconds must be at least %d: callHistory.drain_timeout and a minute more, else calls are cut off" $least) }}
{{- end }}
{{- $secrets := include "call-history.secretKeys" . | fromJsonArray }}
{{- if and (not .Values.callHistory.endpoint) (not (has "CALL_HISTORY_ENDPOINT" $secrets)) .Values.storeKeysInSecret.enabled }}
{{- fail "callHistory.endpoint is required: where records are posted" }}
{{- end }}
{{- if and .Values.callHistory.endpoint (has "CALL_HISTORY_ENDPOINT" $secrets) }}
{{- fail "the endpoint is given twice: as callHistory.endpoint and among the secret's keys" }}
{{- end }}
{{- if and (get .Values.callHistory "events_endpoint") (has "CALL_HISTORY_EVENTS_ENDPOINT" $secrets) }}
{{- fail "the endpoint of events is given twice: as callHistory.events_endpoint and among the secret's keys" }}
{{- end }}
{{- if .Values.storeKeysInSecret.enabled }}
{{- range list "LIVEKIT_API_KEY" "LIVEKIT_API_SECRET" }}
{{- if not (has . $secrets) }}
{{- fail (printf "%s is required: among storeKeysInSecret.keys, or in an existingSecret and among its existingSecretKeys" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
