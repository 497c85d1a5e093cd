package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files are all that the check reads.
var files = []string{"deploy", "docs", "compose.yaml", ".env.example", "Cargo.toml", "Dockerfile", "README.md", "CONTRIBUTING.md"}

func TestWhatIsInTheRepositoryIsRight(t *testing.T) {
	if found := mistakes(t, "../.."); found != "" {
		t.Error(found)
	}
}

// Each mistake is made in a copy of the files.
func TestEveryMistakeIsFound(t *testing.T) {
	const (
		set        = "deploy/kubernetes/statefulset.yaml"
		service    = "deploy/kubernetes/service.yaml"
		config     = "deploy/kubernetes/configmap.yaml"
		chart      = "deploy/helm/call-history/templates/statefulset.yaml"
		values     = "deploy/helm/call-history/values.yaml"
		guide      = "deploy/README.md"
		chartGuide = "deploy/helm/call-history/README.md"
	)
	for name, m := range map[string]struct{ file, from, to, found string }{
		"a misspelt field":                {set, "terminationGracePeriodSeconds:", "terminationGracePeriodSecond:", `unknown field "spec.template.spec.terminationGracePeriodSecond"`},
		"a field in other letters":        {set, "readinessProbe:", "readinessprobe:", `unknown field "spec.template.spec.containers[0].readinessprobe"`},
		"a field twice":                   {set, "  replicas: 2\n", "  replicas: 2\n  replicas: 3\n", "already set"},
		"a number where a text must be":   {config, `"600"`, "600", "ConfigMap"},
		"a short grace":                   {set, "terminationGracePeriodSeconds: 660", "terminationGracePeriodSeconds: 600", "a grace of 600 s"},
		"a long drain":                    {config, `"600"`, `"3600"`, "a grace of 660 s"},
		"liveness that asks LiveKit":      {set, "livenessProbe:\n            httpGet:\n              path: /live", "livenessProbe:\n            httpGet:\n              path: /ready", "livenessProbe asks /ready"},
		"readiness without LiveKit":       {set, "path: /ready", "path: /live", "readinessProbe asks /live"},
		"root":                            {set, "runAsUser: 10001", "runAsUser: 0", "not as root"},
		"a writable root file system":     {set, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "read-only"},
		"a shared volume":                 {set, "[ReadWriteOnce]", "[ReadWriteMany]", "ReadWriteMany"},
		"volumes that go with the worker": {set, "whenScaled: Retain", "whenScaled: Delete", "records may wait"},
		"an unknown setting":              {config, "CALL_HISTORY_AGENT_NAME:", "CALL_HISTORY_AGENT_NAM:", "CALL_HISTORY_AGENT_NAM is not in .env.example"},
		"a twin of what is no secret":     {set, "JWT_SECRET_FILE", "CALL_HISTORY_ROOMS_FILE", "CALL_HISTORY_ROOMS_FILE is not in .env.example"},
		"a key that is not in the Secret": {"deploy/kubernetes/secret.example.yaml", "  JWT_SECRET:", "  JWT_SECRETS:", "has no key JWT_SECRET"},
		"links to Services":               {set, "enableServiceLinks: false", "enableServiceLinks: true", "CALL_HISTORY_PORT"},
		"webhooks to draining workers":    {service, "publishNotReadyAddresses: false", "publishNotReadyAddresses: true", "take no calls"},
		"a Service of another name":       {service, "name: call-history-workers", "name: call-history-headless", "serviceName"},
		"two scrapes":                     {"deploy/kubernetes/servicemonitor.yaml", "      app.kubernetes.io/component: workers\n", "", "selects 2 Services"},
		"the Secret's example is applied": {"deploy/kubernetes/kustomization.yaml", "  - configmap.yaml\n", "  - configmap.yaml\n  - secret.example.yaml\n", "secret.example.yaml"},
		"an old tag":                      {"deploy/kubernetes/kustomization.yaml", `newTag: "`, `newTag: "9`, "version in Cargo.toml"},

		"a misspelt field in the chart":       {chart, "podManagementPolicy:", "podManagmentPolicy:", `unknown field "spec.podManagmentPolicy"`},
		"a value that does not exist":         {chart, ".Values.replicaCount", ".Values.replicas", "replicas"},
		"the chart drifts from the manifests": {chart, "failureThreshold: 6", "failureThreshold: 3", "not as in deploy/kubernetes: /StatefulSet call-history/spec/template/spec/containers/0/livenessProbe/failureThreshold is 6, in the chart 3"},
		"a default that the schema refuses":   {values, "replicaCount: 2", "replicaCounts: 2", "replicaCount"},
		"a grace that the chart refuses":      {values, "drain_timeout: 600", "drain_timeout: 601", "must be at least 661"},
		"a setting that the chart refuses":    {"deploy/helm/call-history/values.schema.json", `"keep_sent"`, `"keep_send"`, "CALL_HISTORY_KEEP_SENT is in .env.example, but the chart refuses it"},
		"a setting that does not exist":       {"deploy/check/values/minimal.yaml", "endpoint:", "endpiont:", "endpiont"},
		"a large number becomes 2e+06":        {"deploy/helm/call-history/templates/_helpers.tpl", `printf "%.0f" .`, `toString .`, "2e+06"},

		"a killed service":           {unit, "TimeoutStopSec=660", "TimeoutStopSec=90", "a grace of 90 s"},
		"a loop of wrong settings":   {unit, "RestartPreventExitStatus=78", "RestartPreventExitStatus=2", "RestartPreventExitStatus must be 78"},
		"a credential not loaded":    {unit, "LoadCredential=livekit-api-key:", "LoadCredential=livekit-key:", "no LoadCredential=livekit-api-key"},
		"a misspelt compose field":   {composeFile, "    read_only:", "    readonly:", "readonly"},
		"a killed container":         {composeFile, "stop_grace_period: 660s", "stop_grace_period: 60s", "a grace of 60 s"},
		"a misspelt name in compose": {composeFile, "CALL_HISTORY_DATA_DIR: /data", "CALL_HISTORY_DATADIR: /data", "CALL_HISTORY_DATADIR is not in .env.example"},

		"a service that compose does not have": {"README.md", "docker compose up --no-deps call-history", "docker compose up --no-deps worker", "compose.yaml has no service worker"},
		"an argument that no build takes":      {"docs/traces.md", "--build-arg FEATURES=otlp", "--build-arg FEATURE=otlp", "the Dockerfile has no ARG FEATURE"},
		"a tag that is not the version":        {guide, "docker push registry.example.com/call-history:0.1.0", "docker push registry.example.com/call-history:0.0.9", "the version in Cargo.toml is"},
		"a Secret without a key that is used":  {guide, "--from-literal=JWT_SECRET=…", "", "the manifests use the keys"},
		"a key that is no secret":              {guide, "--from-literal=JWT_SECRET=…", "--from-literal=CALL_HISTORY_ROOMS=…", "CALL_HISTORY_ROOMS is no secret"},
		"a folder without manifests":           {guide, "kubectl apply -k deploy/kubernetes\n", "kubectl apply -k deploy/k8s\n", "deploy/k8s has no kustomization.yaml"},
		"a pod of another name":                {guide, "kubectl exec call-history-0", "kubectl exec call-history-worker-0", "there is no pod call-history-worker-0"},
		"a StatefulSet of another name":        {guide, "statefulset/call-history ", "statefulset/call-history-worker ", "there is no StatefulSet call-history-worker"},
		"a value that the chart does not have": {chartGuide, "--set image.repository=", "--set image.name=", "image"},
		"a chart's Secret without its keys":    {chartGuide, " --from-literal=LIVEKIT_API_SECRET=…", "", "it uses the keys"},
		"a unit that cannot be reloaded":       {unit, "ExecReload=", "#ExecReload=", "the unit has no ExecReload="},
		"a command that nobody checks":         {guide, "`systemctl reload call-history`", "`systemctl kill call-history`", "does not know such a command"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, file := range files {
				copyInto(t, root, file)
			}
			path := filepath.Join(root, m.file)
			text := read(t, path)
			if !strings.Contains(text, m.from) {
				t.Fatalf("%s does not hold %q any more", m.file, m.from)
			}
			write(t, path, strings.Replace(text, m.from, m.to, 1))
			if found := mistakes(t, root); !strings.Contains(found, m.found) {
				t.Errorf("%q is not among the mistakes:\n%s", m.found, found)
			}
		})
	}
}

func mistakes(t *testing.T, root string) string {
	t.Helper()
	r := check(root, "")
	var found strings.Builder
	for _, file := range r.files {
		for _, mistake := range r.mistakes[file] {
			found.WriteString(file + ": " + mistake + "\n")
		}
	}
	return found.String()
}

func copyInto(t *testing.T, root, file string) {
	t.Helper()
	from := filepath.Join("../..", file)
	info, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		if err := os.CopyFS(filepath.Join(root, file), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		return
	}
	write(t, filepath.Join(root, file), read(t, from))
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
