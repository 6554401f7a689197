{{/* Labels that select the pods of a component. Argument: dict "root" $ "component" NAME. */}}
{{- define "selvage.selectorLabels" -}}
app.kubernetes.io/name: selvage
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of every object. Argument as above. */}}
{{- define "selvage.labels" -}}
{{ include "selvage.selectorLabels" . }}
app.kubernetes.io/part-of: selvage
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image's reference. Argument: dict "root" $ "image" VALUES. */}}
{{- define "selvage.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Environment that every program reads: where the API server is, how to log. Argument: $. */}}
{{- define "selvage.env" -}}
- name: SELVAGE_LOG_LEVEL
  value: {{ .Values.log.level | quote }}
- name: SELVAGE_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
{{- with .Values.apiServer }}
{{- if .host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .port | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Probes of a program that serves on the host network. Argument: the port. */}}
{{- define "selvage.probes" -}}
livenessProbe:
  httpGet:
    path: /healthz
    port: {{ . }}
  initialDelaySeconds: 5
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ . }}
  periodSeconds: 3
  timeoutSeconds: 3
{{- end }}

{{/* What operator and teardown may do on their node: nothing. */}}
{{- define "selvage.unprivileged" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
{{- end }}
