{{- /* An image by its digest, if it has one, else by its tag; without either by the chart's version. (list . "image")
A repository that says a tag or a digest itself is the whole name. */ -}}
{{- define "volatile-rse.image" -}}
{{- $root := index . 0 -}}
{{- $what := index . 1 -}}
{{- $image := index $root.Values $what -}}
{{- $name := required (printf "%s.repository names no image" $what) $image.repository -}}
{{- if or (contains "@" $name) (contains ":" (splitList "/" $name | last)) -}}
{{- $name -}}
{{- else if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "volatile-rse.serviceAccount" -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}

{{- define "volatile-rse.labelLines" -}}
app.kubernetes.io/name: volatile-rse
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- range $key, $value := .Values.commonLabels }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "volatile-rse.labels" -}}
{{ include "volatile-rse.labelLines" . | fromYaml | toJson }}
{{- end -}}

{{- /* Of pods: none that changes with the chart's version, since that would start them anew. */ -}}
{{- define "volatile-rse.podLabels" -}}
{{ merge (dict "app.kubernetes.io/name" "volatile-rse") .Values.podLabels .Values.commonLabels | toJson }}
{{- end -}}

{{- /* What a pod of ours has of the site's: from where images come, and on which nodes it may run. */ -}}
{{- define "volatile-rse.placed" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}
