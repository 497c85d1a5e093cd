package main

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	dataDir = "/data"
	// The container's user, as in the Dockerfile.
	user = 10001
)

// installation is one worker's set of documents: a folder, or what the chart renders.
type installation struct {
	*report
	file      string
	documents []document
}

func (i installation) require(holds bool, format string, args ...any) {
	if !holds {
		i.add(i.file, format, args...)
	}
}

// all returns the objects of one type.
func all[T any](i installation) []T {
	var found []T
	for _, d := range i.documents {
		if object, is := d.object.(T); is {
			found = append(found, object)
		}
	}
	return found
}

// checkInstallation asserts what must hold for calls not to be lost.
func checkInstallation(r *report, file string, documents []document, s settings) {
	r.saw(file)
	i := installation{r, file, documents}
	sets := all[*appsv1.StatefulSet](i)
	if len(sets) != 1 {
		i.require(false, "%d StatefulSets instead of one", len(sets))
		return
	}
	set := sets[0]
	pod := set.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		i.require(false, "%d containers instead of one", len(pod.Containers))
		return
	}
	worker := pod.Containers[0]
	env := i.environment(worker)

	s.checkNames(r, file, slices.Sorted(maps.Keys(env)))
	drain := s.drain
	if set, err := strconv.Atoi(env["CALL_HISTORY_DRAIN_TIMEOUT"]); err == nil {
		drain = set
	}
	i.require(pod.TerminationGracePeriodSeconds != nil, "no terminationGracePeriodSeconds")
	if grace := pod.TerminationGracePeriodSeconds; grace != nil {
		s.checkGrace(r, file, int(*grace), drain)
	}
	i.checkRequired(env)
	i.checkProbes(worker, env)
	i.checkSecurity(pod, worker)
	i.checkVolumes(set, worker, env)
	i.checkSecrets(pod, worker, env)
	i.checkAround(set)
	secrets := map[string]string{}
	for _, secret := range all[*corev1.Secret](i) {
		maps.Copy(secrets, secret.StringData)
		for name, value := range secret.Data {
			secrets[name] = string(value)
		}
	}
	checkWithWorker(r, s.worker, file, env, secrets)
}

// environment is what the worker sees: the ConfigMaps' values, then its own.
func (i installation) environment(worker corev1.Container) map[string]string {
	env := map[string]string{}
	for _, from := range worker.EnvFrom {
		if from.ConfigMapRef == nil {
			i.require(false, "envFrom takes ConfigMaps only: secrets are files")
			continue
		}
		maps := all[*corev1.ConfigMap](i)
		at := slices.IndexFunc(maps, func(m *corev1.ConfigMap) bool { return m.Name == from.ConfigMapRef.Name })
		if at < 0 {
			i.require(false, "there is no ConfigMap %s", from.ConfigMapRef.Name)
			continue
		}
		for name, value := range maps[at].Data {
			env[name] = value
		}
	}
	for _, v := range worker.Env {
		_, twice := env[v.Name]
		i.require(!twice, "%s is set twice", v.Name)
		env[v.Name] = v.Value
	}
	return env
}

// checkRequired asserts that the settings are there without which the worker does not start.
func (i installation) checkRequired(env map[string]string) {
	for _, name := range []string{"LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "CALL_HISTORY_ENDPOINT"} {
		i.require((env[name] != "") != (env[name+"_FILE"] != ""), "%s must be set once, as it is or as a file", name)
	}
	i.require(env["LIVEKIT_API_KEY"] == "" && env["LIVEKIT_API_SECRET"] == "" && env["JWT_SECRET"] == "",
		"a secret stands in the environment")
	for name, value := range env {
		i.require(value != "" && !strings.Contains(value, "e+"), "%s is %q", name, value)
	}
}

func (i installation) checkProbes(worker corev1.Container, env map[string]string) {
	port := env["CALL_HISTORY_HTTP_ADDR"]
	port = port[strings.LastIndex(port, ":")+1:]
	number, _ := strconv.Atoi(port)
	i.require(len(worker.Ports) == 1 && worker.Ports[0].Name == "http" && int(worker.Ports[0].ContainerPort) == number,
		"the port `http` must be that of CALL_HISTORY_HTTP_ADDR (%q)", port)
	for _, p := range []struct {
		name, path string
		probe      *corev1.Probe
	}{
		// Liveness must not depend on LiveKit: a restart in the middle of calls cures nothing.
		{"startupProbe", "/live", worker.StartupProbe},
		{"livenessProbe", "/live", worker.LivenessProbe},
		{"readinessProbe", "/ready", worker.ReadinessProbe},
	} {
		if p.probe == nil || p.probe.HTTPGet == nil {
			i.require(false, "no %s over HTTP", p.name)
			continue
		}
		i.require(p.probe.HTTPGet.Path == p.path, "%s asks %s instead of %s", p.name, p.probe.HTTPGet.Path, p.path)
		i.require(p.probe.HTTPGet.Port == intstr.FromString("http"), "%s asks another port", p.name)
	}
}

func (i installation) checkSecurity(pod corev1.PodSpec, worker corev1.Container) {
	p, c := pod.SecurityContext, worker.SecurityContext
	if p == nil || c == nil {
		i.require(false, "no securityContext")
		return
	}
	is := func(b *bool, wanted bool) bool { return b != nil && *b == wanted }
	id := func(n *int64) bool { return n != nil && *n == user }
	i.require(is(p.RunAsNonRoot, true) && id(p.RunAsUser), "must run as user %d, not as root", user)
	i.require(id(p.FSGroup), "fsGroup must be %d: else the worker cannot write to its volume", user)
	i.require(p.SeccompProfile != nil && p.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "no seccomp profile")
	i.require(is(c.ReadOnlyRootFilesystem, true), "the root file system must be read-only")
	i.require(is(c.AllowPrivilegeEscalation, false), "allowPrivilegeEscalation must be false")
	i.require(c.Capabilities != nil && slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(c.Capabilities.Add) == 0,
		"capabilities: drop ALL, add none")
	i.require(is(pod.AutomountServiceAccountToken, false), "the worker needs no token of Kubernetes")
	i.require(is(pod.EnableServiceLinks, false), "enableServiceLinks must be false: CALL_HISTORY_PORT is no setting")
}

// checkVolumes asserts that each worker has one volume of its own, for its data folder, and keeps it.
func (i installation) checkVolumes(set *appsv1.StatefulSet, worker corev1.Container, env map[string]string) {
	i.require(env["CALL_HISTORY_DATA_DIR"] == dataDir, "CALL_HISTORY_DATA_DIR must be %s", dataDir)
	claims := set.Spec.VolumeClaimTemplates
	if len(claims) != 1 {
		i.require(false, "%d volumeClaimTemplates instead of one: workers cannot share a data folder", len(claims))
		return
	}
	for _, mode := range claims[0].Spec.AccessModes {
		i.require(mode == corev1.ReadWriteOnce || mode == corev1.ReadWriteOncePod, "a volume of one worker is %s", mode)
	}
	i.require(!claims[0].Spec.Resources.Requests.Storage().IsZero(), "the volume has no size")
	keep := set.Spec.PersistentVolumeClaimRetentionPolicy
	i.require(keep == nil || keep.WhenDeleted == appsv1.RetainPersistentVolumeClaimRetentionPolicyType &&
		keep.WhenScaled == appsv1.RetainPersistentVolumeClaimRetentionPolicyType, "volumes must be kept: records may wait on them")

	volumes := map[string]bool{claims[0].Name: true}
	for _, v := range set.Spec.Template.Spec.Volumes {
		i.require(v.Secret != nil || v.ConfigMap != nil, "volume %s: only secrets and profiles besides the data", v.Name)
		volumes[v.Name] = true
	}
	writable := 0
	for _, m := range worker.VolumeMounts {
		i.require(volumes[m.Name], "there is no volume %s", m.Name)
		if !m.ReadOnly {
			writable++
			i.require(m.Name == claims[0].Name && m.MountPath == dataDir, "%s is mounted writable at %s", m.Name, m.MountPath)
		}
	}
	i.require(writable == 1, "%d writable mounts instead of one", writable)
}

// checkSecrets asserts that each file that a setting names is mounted, and holds a key of the Secret.
func (i installation) checkSecrets(pod corev1.PodSpec, worker corev1.Container, env map[string]string) {
	folders := map[string]string{}
	for _, m := range worker.VolumeMounts {
		for _, v := range pod.Volumes {
			if v.Name == m.Name && v.Secret != nil {
				folders[m.MountPath] = v.Secret.SecretName
			}
		}
	}
	for name, value := range env {
		if !strings.HasSuffix(name, "_FILE") {
			continue
		}
		folder, key := path.Split(value)
		secret, mounted := folders[path.Clean(folder)]
		i.require(mounted, "%s names %s, and no Secret is mounted there", name, value)
		i.require(key == strings.TrimSuffix(name, "_FILE"), "%s names the key %s of another setting", name, key)
		// A Secret that somebody else made is not here.
		for _, s := range all[*corev1.Secret](i) {
			_, text := s.StringData[key]
			_, data := s.Data[key]
			i.require(s.Name != secret || text || data, "Secret %s has no key %s", secret, key)
		}
	}
}

// checkAround asserts what stands beside the StatefulSet: its Services and who refers to them.
func (i installation) checkAround(set *appsv1.StatefulSet) {
	labels := set.Spec.Template.Labels
	selects := func(selector map[string]string, labels map[string]string) bool {
		for name, value := range selector {
			if labels[name] != value {
				return false
			}
		}
		return len(selector) > 0
	}
	i.require(set.Spec.Selector != nil && selects(set.Spec.Selector.MatchLabels, labels), "the StatefulSet does not select its pods")
	i.require(set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement, "podManagementPolicy must be Parallel")
	i.require(set.Spec.Replicas != nil, "no number of replicas")

	headless, webhooks := 0, 0
	services := all[*corev1.Service](i)
	for _, s := range services {
		i.require(selects(s.Spec.Selector, labels), "Service %s selects nothing", s.Name)
		for _, p := range s.Spec.Ports {
			i.require(p.TargetPort == intstr.FromString("http"), "Service %s leads to another port", s.Name)
		}
		switch {
		case s.Spec.ClusterIP == corev1.ClusterIPNone:
			headless++
			i.require(s.Name == set.Spec.ServiceName, "the StatefulSet's serviceName is not %s", s.Name)
			i.require(s.Spec.PublishNotReadyAddresses, "Service %s hides workers that drain from Prometheus", s.Name)
		default:
			webhooks++
			i.require(!s.Spec.PublishNotReadyAddresses, "Service %s sends webhooks to workers that take no calls", s.Name)
		}
	}
	i.require(headless == 1 && webhooks == 1, "%d headless Services and %d for webhooks instead of one each", headless, webhooks)

	for _, m := range all[*monitoringv1.ServiceMonitor](i) {
		found := 0
		for _, s := range services {
			if selects(m.Spec.Selector.MatchLabels, s.Labels) {
				found++
			}
		}
		i.require(found == 1, "the ServiceMonitor selects %d Services: each worker must be scraped once", found)
		for _, e := range m.Spec.Endpoints {
			i.require(e.Path == "/metrics" && e.Port == "http", "the ServiceMonitor scrapes %s at port %q", e.Path, e.Port)
		}
	}
	for _, b := range all[*policyv1.PodDisruptionBudget](i) {
		i.require(b.Spec.Selector != nil && selects(b.Spec.Selector.MatchLabels, labels), "the PodDisruptionBudget selects nothing")
	}
	for _, n := range all[*networkingv1.NetworkPolicy](i) {
		i.require(selects(n.Spec.PodSelector.MatchLabels, labels), "the NetworkPolicy selects nothing")
	}
}
