package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	kjson "sigs.k8s.io/json"
	kyaml "sigs.k8s.io/yaml"
)

const kubernetes = "deploy/kubernetes"

// kinds are all that deploy/ may hold. Another one is added here with its type.
var kinds = map[string]func() metav1.Object{
	"v1/ConfigMap":                            func() metav1.Object { return &corev1.ConfigMap{} },
	"v1/Secret":                               func() metav1.Object { return &corev1.Secret{} },
	"v1/Service":                              func() metav1.Object { return &corev1.Service{} },
	"v1/ServiceAccount":                       func() metav1.Object { return &corev1.ServiceAccount{} },
	"apps/v1/StatefulSet":                     func() metav1.Object { return &appsv1.StatefulSet{} },
	"policy/v1/PodDisruptionBudget":           func() metav1.Object { return &policyv1.PodDisruptionBudget{} },
	"networking.k8s.io/v1/NetworkPolicy":      func() metav1.Object { return &networkingv1.NetworkPolicy{} },
	"monitoring.coreos.com/v1/ServiceMonitor": func() metav1.Object { return &monitoringv1.ServiceMonitor{} },
}

// document is one object of an installation.
type document struct {
	kind   string
	object metav1.Object
}

func (d document) String() string { return d.kind + " " + d.object.GetName() }

// decode reads all documents of a YAML text. A field that the API does not know is an error, and so is one in
// other letters: sigs.k8s.io/yaml alone would take `replicaS`.
func decode(text []byte) ([]document, error) {
	var documents []document
	var wrong []error
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		raw, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents, errors.Join(wrong...)
		}
		if err != nil {
			return documents, err
		}
		var meta metav1.TypeMeta
		data, err := kyaml.YAMLToJSONStrict(raw)
		if err == nil && bytes.Equal(data, []byte("null")) {
			continue // comments only
		}
		if err == nil {
			err = kjson.UnmarshalCaseSensitivePreserveInts(data, &meta)
		}
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		kind := meta.APIVersion + "/" + meta.Kind
		empty, known := kinds[kind]
		if !known {
			wrong = append(wrong, fmt.Errorf("kind %q is not known to this check", kind))
			continue
		}
		object := empty()
		strict, err := kjson.UnmarshalStrict(data, object)
		for _, e := range append(strict, err) {
			if e != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", meta.Kind, e))
			}
		}
		if object.GetName() == "" {
			wrong = append(wrong, fmt.Errorf("a %s has no name", meta.Kind))
		}
		documents = append(documents, document{meta.Kind, object})
	}
}

// kustomization is the part of kustomize's format that is used here.
type kustomization struct {
	metav1.TypeMeta `json:",inline"`
	Resources       []string `json:"resources"`
	Images          []struct {
		Name   string `json:"name"`
		NewTag string `json:"newTag"`
	} `json:"images"`
}

// checkPlain looks at the plain manifests: each file for itself, then all of them together.
func checkPlain(r *report, root string, s settings) []document {
	var all []document
	files, err := filepath.Glob(filepath.Join(root, kubernetes, "*.yaml"))
	if err != nil || len(files) == 0 {
		r.add(kubernetes, "no files: %v", err)
		return nil
	}
	var names []string
	for _, path := range files {
		base := filepath.Base(path)
		if base == "kustomization.yaml" {
			continue
		}
		names = append(names, base)
		file := kubernetes + "/" + base
		r.saw(file)
		text, err := os.ReadFile(path)
		if err != nil {
			r.add(file, "%v", err)
			continue
		}
		documents, err := decode(text)
		if err != nil {
			r.add(file, "%v", err)
		}
		all = append(all, documents...)
	}
	checkKustomization(r, root, names, s.version)
	checkInstallation(r, kubernetes+" together", all, s)
	return all
}

func checkKustomization(r *report, root string, names []string, version string) {
	file := kubernetes + "/kustomization.yaml"
	r.saw(file)
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		r.add(file, "%v", err)
		return
	}
	var k kustomization
	data, err := kyaml.YAMLToJSONStrict(text)
	if err != nil {
		r.add(file, "%v", err)
		return
	}
	strict, err := kjson.UnmarshalStrict(data, &k)
	for _, e := range append(strict, err) {
		if e != nil {
			r.add(file, "%v", e)
		}
	}
	for _, resource := range k.Resources {
		if !slices.Contains(names, resource) {
			r.add(file, "there is no %s", resource)
		}
	}
	// Optional files are there as comments, with the reason. The example of the Secret must stay out.
	optional := regexp.MustCompile(`(?m)^ +# - (\S+)$`).FindAllStringSubmatch(string(text), -1)
	for _, name := range names {
		listed := slices.Contains(k.Resources, name) ||
			slices.ContainsFunc(optional, func(m []string) bool { return m[1] == name })
		if example := strings.Contains(name, ".example."); listed == example {
			r.add(file, "%s: listed %t, an example %t", name, listed, example)
		}
	}
	for _, image := range k.Images {
		if image.NewTag != version {
			r.add(file, "newTag is %q, the version in Cargo.toml is %q", image.NewTag, version)
		}
	}
}
