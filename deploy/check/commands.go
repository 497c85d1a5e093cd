package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/strvals"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// deployed is what the commands in the documents refer to.
type deployed struct {
	root     string
	s        settings
	plain    []document
	chart    *chart.Chart
	services []string // of compose.yaml
}

// checkCommands reads each command for docker, kubectl, helm and systemctl in the documents: what it names must be there.
func checkCommands(r *report, d deployed) {
	pages := []string{"README.md", "CONTRIBUTING.md"}
	for _, folder := range []string{"docs", "deploy"} {
		err := filepath.WalkDir(filepath.Join(d.root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".md") {
				page, _ := filepath.Rel(d.root, path)
				pages = append(pages, filepath.ToSlash(page))
			}
			return err
		})
		if err != nil {
			r.add(folder, "%v", err)
		}
	}
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(d.root, page))
		if err != nil {
			r.add(page, "%v", err)
			continue
		}
		// The commands of a page belong together: a Secret that one makes is used by the next.
		secrets := map[string][]string{}
		for _, command := range commands(string(text)) {
			file := fmt.Sprintf("%s: %s", page, strings.Join(command, " "))
			r.saw(file)
			for _, mistake := range d.mistakes(command, secrets) {
				r.add(file, "%s", mistake)
			}
		}
	}
}

var (
	programs  = []string{"docker", "kubectl", "helm", "systemctl"}
	inline    = regexp.MustCompile("`([^`\n]+)`")
	comment   = regexp.MustCompile(`(?m)\s#\s.*$`)
	continued = regexp.MustCompile(`\\\n\s*`)
)

// commands finds those of the programs above: in blocks of code, and between backticks.
func commands(text string) [][]string {
	var found [][]string
	take := func(code string) {
		for _, one := range strings.Split(comment.ReplaceAllString(code, ""), "&&") {
			words := strings.Fields(one)
			// Its name alone is no command.
			if len(words) > 1 && slices.Contains(programs, words[0]) {
				found = append(found, words)
			}
		}
	}
	block := false
	for line := range strings.Lines(continued.ReplaceAllString(text, " ")) {
		switch {
		case strings.HasPrefix(line, "```"):
			block = !block
		case block || strings.HasPrefix(line, "    "):
			take(line)
		default:
			for _, m := range inline.FindAllStringSubmatch(line, -1) {
				take(m[1])
			}
		}
	}
	return found
}

// mistakes says what is wrong with one command. A form that is not known here is wrong too.
func (d deployed) mistakes(command []string, secrets map[string][]string) []string {
	is := func(words ...string) []string {
		if len(command) > len(words) && slices.Equal(command[:len(words)], words) {
			return command[len(words):]
		}
		return nil
	}
	switch {
	case is("docker", "compose", "up") != nil || slices.Equal(command, []string{"docker", "compose", "up"}):
		return d.composeUp(is("docker", "compose", "up"))
	case is("docker", "build") != nil:
		return d.dockerBuild(is("docker", "build"))
	case is("docker", "push") != nil:
		return d.image(is("docker", "push")[0])
	case is("docker", "run", "IMAGE") != nil:
		return d.program(is("docker", "run", "IMAGE"))
	case slices.Equal(command, []string{"docker", "--ulimit", "nofile="}):
		return nil // an option, not a command
	case is("kubectl", "create", "secret", "generic") != nil:
		return d.createSecret(is("kubectl", "create", "secret", "generic"), secrets)
	case is("kubectl", "apply", "-k") != nil:
		folder := is("kubectl", "apply", "-k")[0]
		return absent(filepath.Join(d.root, folder, "kustomization.yaml"), folder+" has no kustomization.yaml")
	case is("kubectl", "exec") != nil:
		rest := is("kubectl", "exec")
		if len(rest) < 3 || rest[1] != "--" || rest[2] != "call-history" {
			return []string{"kubectl exec POD -- call-history …"}
		}
		return append(d.pod(rest[0]), d.program(rest[3:])...)
	case is("kubectl", "rollout", "restart") != nil:
		name, found := strings.CutPrefix(is("kubectl", "rollout", "restart")[0], "statefulset/")
		if set := d.statefulSet(); !found || set == nil || set.Name != name {
			return []string{"there is no StatefulSet " + name}
		}
		return nil
	case is("helm", "install") != nil:
		return d.helmInstall(is("helm", "install"), secrets)
	case is("systemctl", "enable", "--now") != nil:
		return d.unit(is("systemctl", "enable", "--now")[0], "[Install]")
	case is("systemctl", "reload") != nil:
		return d.unit(is("systemctl", "reload")[0], "ExecReload=")
	}
	return []string{"this check does not know such a command"}
}

func absent(path, mistake string) []string {
	if _, err := os.Stat(path); err != nil {
		return []string{mistake}
	}
	return nil
}

func (d deployed) composeUp(args []string) []string {
	var wrong []string
	for _, arg := range args {
		if arg != "--no-deps" && !slices.Contains(d.services, arg) {
			wrong = append(wrong, "compose.yaml has no service "+arg)
		}
	}
	return wrong
}

func (d deployed) dockerBuild(args []string) []string {
	file, err := os.ReadFile(filepath.Join(d.root, "Dockerfile"))
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for n := 0; n < len(args); n++ {
		switch {
		case args[n] == "--build-arg" && n+1 < len(args):
			n++
			name, _, _ := strings.Cut(args[n], "=")
			if !regexp.MustCompile(`(?m)^ARG ` + regexp.QuoteMeta(name) + `\b`).Match(file) {
				wrong = append(wrong, "the Dockerfile has no ARG "+name)
			}
		case args[n] == "-t" && n+1 < len(args):
			n++
			wrong = append(wrong, d.image(args[n])...)
		case args[n] != "." || n != len(args)-1:
			wrong = append(wrong, "what is "+args[n]+"?")
		}
	}
	return wrong
}

// image: its tag, if it has one, is the version.
func (d deployed) image(name string) []string {
	if tag := imageTag.FindString(name); tag != "" && tag != ":"+d.s.version {
		return []string{"the version in Cargo.toml is " + d.s.version}
	}
	return nil
}

// program: call-history knows such a command.
func (d deployed) program(args []string) []string {
	if d.s.worker == "" {
		return nil
	}
	said, err := exec.Command(d.s.worker, append(slices.Clone(args), "--help")...).CombinedOutput()
	if err != nil {
		return []string{fmt.Sprintf("call-history does not know this: %s", strings.TrimSpace(string(said)))}
	}
	return nil
}

func (d deployed) statefulSet() *appsv1.StatefulSet {
	return first[*appsv1.StatefulSet](d.plain)
}

func first[T any](documents []document) T {
	var none T
	for _, d := range documents {
		if object, is := d.object.(T); is {
			return object
		}
	}
	return none
}

// pod: POD stands for any.
func (d deployed) pod(name string) []string {
	if set := d.statefulSet(); name != "POD" && (set == nil || name != set.Name+"-0") {
		return []string{"there is no pod " + name}
	}
	return nil
}

// createSecret: a Secret that is used, with the keys that are used.
func (d deployed) createSecret(args []string, secrets map[string][]string) []string {
	name, keys := args[0], []string{}
	for _, arg := range args[1:] {
		key, _, isLiteral := strings.Cut(strings.TrimPrefix(arg, "--from-literal="), "=")
		if !isLiteral {
			return []string{"what is " + arg + "?"}
		}
		if !slices.Contains(d.s.secrets, key) {
			return []string{key + " is no secret"}
		}
		keys = append(keys, key)
	}
	secrets[name] = keys
	// One that the plain manifests name: it has what they mount.
	used := usedSecrets(d.plain)
	if wanted, plain := used[name]; plain && !sameWords(wanted, keys) {
		return []string{fmt.Sprintf("the manifests use the keys %v", wanted)}
	}
	return nil
}

func sameWords(one, other []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(one)), slices.Sorted(slices.Values(other)))
}

// usedSecrets are the Secrets that the StatefulSet mounts, and the keys that its settings name.
func usedSecrets(documents []document) map[string][]string {
	used := map[string][]string{}
	set := first[*appsv1.StatefulSet](documents)
	if set == nil || len(set.Spec.Template.Spec.Containers) == 0 {
		return used
	}
	worker := set.Spec.Template.Spec.Containers[0]
	files := map[string]string{}
	for _, v := range worker.Env {
		files[v.Name] = v.Value
	}
	for _, d := range documents {
		if config, is := d.object.(*corev1.ConfigMap); is {
			for name, value := range config.Data {
				files[name] = value
			}
		}
	}
	for _, m := range worker.VolumeMounts {
		for _, v := range set.Spec.Template.Spec.Volumes {
			if v.Name != m.Name || v.Secret == nil {
				continue
			}
			for name, path := range files {
				if strings.HasSuffix(name, "_FILE") && filepath.Dir(path) == filepath.Clean(m.MountPath) {
					used[v.Secret.SecretName] = append(used[v.Secret.SecretName], filepath.Base(path))
				}
			}
		}
	}
	return used
}

// helmInstall renders the chart with the values of the command, and looks at it as at any other set of them.
func (d deployed) helmInstall(args []string, secrets map[string][]string) []string {
	if len(args) < 2 || args[0] != release || args[1] != chartFolder {
		return []string{fmt.Sprintf("helm install %s %s …", release, chartFolder)}
	}
	values, complete := map[string]any{}, false
	for n := 2; n < len(args); n++ {
		switch {
		case args[n] == "--set" && n+1 < len(args):
			n++
			complete = true
			if err := strvals.ParseInto(args[n], values); err != nil {
				return []string{err.Error()}
			}
		case args[n] == "-f" && n+1 < len(args):
			n++ // the reader's own values
		default:
			return []string{"what is " + args[n] + "?"}
		}
	}
	if !complete || d.chart == nil {
		return nil
	}
	documents, err := render(d.chart, values)
	if err != nil {
		return []string{err.Error()}
	}
	found := &report{mistakes: map[string][]string{}}
	checkInstallation(found, "", documents, d.s)
	wrong := found.mistakes[""]
	made := map[string]bool{}
	for _, document := range documents {
		if document.kind == "Secret" {
			made[document.object.GetName()] = true
		}
	}
	for name, keys := range usedSecrets(documents) {
		if !made[name] && !sameWords(keys, secrets[name]) {
			wrong = append(wrong, fmt.Sprintf("it uses the keys %v of the Secret %s, and the page makes it with %v", keys, name, secrets[name]))
		}
	}
	return wrong
}

func (d deployed) unit(name, needs string) []string {
	text, err := os.ReadFile(filepath.Join(d.root, "deploy/systemd", name+".service"))
	if err != nil {
		return []string{err.Error()}
	}
	if !strings.Contains(string(text), "\n"+needs) {
		return []string{"the unit has no " + needs}
	}
	return nil
}
