package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

const (
	release   = "call-history"
	namespace = "default"
	// The values with which the chart gives what the plain manifests hold.
	asPlain = "as-kubernetes.yaml"
)

// checkChart looks at the chart with each set of values in deploy/check/values. It returns the chart.
func checkChart(r *report, root string, s settings, plain []document) *chart.Chart {
	r.saw(chartFolder)
	folder := filepath.Join(root, chartFolder)
	c, err := loader.Load(folder)
	if err != nil {
		r.add(chartFolder, "%v", err)
		return nil
	}
	if c.Metadata.AppVersion != s.version {
		r.add(chartFolder, "appVersion is %q, the version in Cargo.toml is %q", c.Metadata.AppVersion, s.version)
	}
	sets, err := filepath.Glob(filepath.Join(root, "deploy/check/values/*.yaml"))
	if err != nil || len(sets) == 0 {
		r.add(chartFolder, "no values to render it with: %v", err)
	}
	for _, set := range sets {
		base := filepath.Base(set)
		file := fmt.Sprintf("%s with %s", chartFolder, base)
		r.saw(file)
		values, err := chartutil.ReadValuesFile(set)
		if err != nil {
			r.add(file, "%v", err)
			continue
		}
		for _, m := range lint.All(folder, values, namespace, true).Messages {
			if m.Severity >= support.WarningSev {
				r.add(file, "lint: %v", m)
			}
		}
		documents, err := render(c, values)
		if err != nil {
			r.add(file, "%v", err)
			continue
		}
		checkInstallation(r, file, documents, s)
		if base == asPlain {
			compare(r, file, plain, documents)
		}
	}
	return c
}

// render gives what `helm install` would send. It is stricter: a value that no default names is an error.
func render(c *chart.Chart, values chartutil.Values) ([]document, error) {
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, options, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	var documents []document
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".txt") || strings.TrimSpace(files[name]) == "" {
			continue
		}
		found, err := decode([]byte(files[name]))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		documents = append(documents, found...)
	}
	return documents, nil
}
