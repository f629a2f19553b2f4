{{- /* How pods get by their label what their session has: policy, webhook or none. */ -}}
{{- define "volatile-rse.injection" -}}
{{- $general := .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" -}}
{{- if ne .Values.injection "auto" }}{{ .Values.injection }}{{ else if $general }}policy{{ else }}webhook{{ end }}
{{- end }}
