package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
)

// Where the chart may differ from the plain manifests: Helm's labels, the way in which each of them restarts the
// pods after a change, and where the image's tag is written.
var (
	ignored  = []string{"labels", "matchLabels", "selector", "checksum/config", "serviceAccountName"}
	imageTag = regexp.MustCompile(`:[^/:]+$`)
)

// compare reports what the chart renders otherwise than the plain manifests have it.
func compare(r *report, file string, plain, chart []document) {
	index := func(documents []document) map[string]any {
		found := map[string]any{}
		for _, d := range documents {
			// The Secret is only an example there, and made by somebody else here.
			if d.kind == "Secret" {
				continue
			}
			var object any
			text, err := json.Marshal(d.object)
			if err == nil {
				err = json.Unmarshal(text, &object)
			}
			if err != nil {
				r.add(file, "%v: %v", d, err)
			}
			found[d.String()] = object
		}
		return found
	}
	for _, difference := range differences("", index(plain), index(chart)) {
		r.add(file, "not as in %s: %s", kubernetes, difference)
	}
}

func differences(at string, plain, chart any) []string {
	p, isMap := plain.(map[string]any)
	c, isMapToo := chart.(map[string]any)
	if isMap && isMapToo {
		var found []string
		names := maps.Clone(p)
		maps.Copy(names, c)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if !slices.Contains(ignored, name) {
				found = append(found, differences(at+"/"+name, p[name], c[name])...)
			}
		}
		return found
	}
	pl, isList := plain.([]any)
	cl, isListToo := chart.([]any)
	if isList && isListToo && len(pl) == len(cl) {
		var found []string
		for n := range pl {
			found = append(found, differences(fmt.Sprintf("%s/%d", at, n), pl[n], cl[n])...)
		}
		return found
	}
	ps, isText := plain.(string)
	cs, isTextToo := chart.(string)
	if isText && isTextToo && imageTag.ReplaceAllString(ps, "") == imageTag.ReplaceAllString(cs, "") && regexp.MustCompile(`/image$`).MatchString(at) {
		return nil
	}
	if reflect.DeepEqual(plain, chart) {
		return nil
	}
	return []string{fmt.Sprintf("%s is %v, in the chart %v", at, plain, chart)}
}
