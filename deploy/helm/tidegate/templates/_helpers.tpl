{{- define "tidegate.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tidegate.secret" -}}
{{ .Values.cluster.existingSecret | default (printf "%s-cluster" (include "tidegate.name" .)) }}
{{- end }}

{{/* The voters' peer addresses. */}}
{{- define "tidegate.peers" -}}
{{- $name := include "tidegate.name" . }}
{{- $peers := list }}
{{- range $n := until (int .Values.voters) }}
{{- $peers = append $peers (printf "%s-%d.%s-peers.%s.svc:7081" $name $n $name $.Release.Namespace) }}
{{- end }}
{{- join "," $peers }}
{{- end }}

{{/* A node's container. Takes: root, advertise (a value of TIDEGATE_ADVERTISE), leaves (a boolean), resources. */}}
{{- define "tidegate.container" -}}
{{- $root := .root }}
{{- with $root }}
name: tidegate
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve]
ports:
  - {name: http, containerPort: 8080}
  - {name: https, containerPort: 8443}
  {{- if .Values.service.http3 }}
  - {name: http3, containerPort: 8443, protocol: UDP}
  {{- end }}
  {{- if .Values.admin.tlsSecret }}
  - {name: admin, containerPort: 7080}
  {{- end }}
  - {name: peer, containerPort: 7081, protocol: UDP}
env:
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: TIDEGATE_NAME, value: $(POD_NAME)}
  - {name: TIDEGATE_DATA, value: /var/lib/tidegate}
  - {name: TIDEGATE_ADVERTISE, value: {{ $.advertise | quote }}}
  - {name: TIDEGATE_INITIAL_PEERS, value: {{ include "tidegate.peers" . | quote }}}
  - {name: TIDEGATE_CLUSTER_SECRET_FILE, value: /etc/tidegate/secret/cluster}
  - {name: TIDEGATE_FIRST_ADMIN_TOKEN_FILE, value: /etc/tidegate/secret/admin}
  - {name: TIDEGATE_DRAIN_WAIT, value: {{ .Values.drain.wait | quote }}}
  - {name: TIDEGATE_DRAIN_TIMEOUT, value: {{ .Values.drain.timeout | quote }}}
  {{- if not (hasKey .Values.env "TIDEGATE_FORGET_AFTER") }}
  # Pods that keep nothing never come back.
  - {name: TIDEGATE_FORGET_AFTER, value: 1h}
  {{- end }}
  {{- if $.leaves }}
  - {name: TIDEGATE_LEAVE, value: "true"}
  {{- end }}
  {{- if .Values.admin.tlsSecret }}
  - {name: TIDEGATE_ADMIN, value: "0.0.0.0:7080"}
  - {name: TIDEGATE_ADMIN_CERT, value: /etc/tidegate/admin/tls.crt}
  - {name: TIDEGATE_ADMIN_KEY, value: /etc/tidegate/admin/tls.key}
  {{- end }}
  {{- range $name, $value := .Values.env }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
  {{- range .Values.secretEnv }}
  - {name: {{ .name }}, valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}}
  {{- end }}
{{- $probe := ternary "curl -fsk https://127.0.0.1:7080" "curl -fs http://127.0.0.1:7080" (ne .Values.admin.tlsSecret "") }}
# The admin port stays within the pod unless it has TLS: asked from inside. A node that looks for the others is alive.
startupProbe:
  exec: {command: [sh, -c, "{{ $probe }}/healthz"]}
  periodSeconds: 2
  failureThreshold: 900
livenessProbe:
  exec: {command: [sh, -c, "{{ $probe }}/healthz"]}
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  exec: {command: [sh, -c, "{{ $probe }}/readyz"]}
  periodSeconds: 2
  failureThreshold: 2
resources: {{- toYaml $.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: data, mountPath: /var/lib/tidegate}
  - {name: secret, mountPath: /etc/tidegate/secret, readOnly: true}
  {{- if .Values.admin.tlsSecret }}
  - {name: admin, mountPath: /etc/tidegate/admin, readOnly: true}
  {{- end }}
{{- end }}
{{- end }}

{{/* What voters and extra nodes have in common, apart from containers. */}}
{{- define "tidegate.pod" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
automountServiceAccountToken: false
terminationGracePeriodSeconds: {{ .Values.drain.graceSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tidegate.volumes" -}}
- {name: secret, secret: {secretName: {{ include "tidegate.secret" . }}, defaultMode: 0440}}
{{- with .Values.admin.tlsSecret }}
- {name: admin, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- end }}
