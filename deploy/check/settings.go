package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	example     = ".env.example"
	chartFolder = "deploy/helm/call-history"
	schemaFile  = chartFolder + "/values.schema.json"
)

// A worker that was asked to stop gets this many seconds more than its calls do, to hand them over and to seal
// records.
const graceBeyondDrain = 60

// fixed are settings that the chart decides itself.
var fixed = []string{"CALL_HISTORY_DATA_DIR"}

// ours are names that the worker reads as settings. Others, like those of proxies, are not checked.
var ours = regexp.MustCompile(`^(CALL_HISTORY|LIVEKIT|JWT)_`)

// settings is what .env.example, the chart's schema and Cargo.toml say.
type settings struct {
	// Names in .env.example, with the value there.
	known map[string]string
	// Those that are secrets: they have a twin with _FILE.
	secrets []string
	// Seconds of CALL_HISTORY_DRAIN_TIMEOUT where nobody sets it.
	drain int
	// The version in Cargo.toml: the image's tag.
	version string
	// The binary that judges settings; empty if there is none.
	worker string
}

func readSettings(r *report, root string) settings {
	s := settings{known: map[string]string{}}
	text, err := os.ReadFile(filepath.Join(root, example))
	if err != nil {
		r.add(example, "%v", err)
	}
	for _, m := range regexp.MustCompile(`(?m)^#?([A-Z][A-Z0-9_]+)=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		s.known[m[1]] = m[2]
	}
	if s.drain, err = strconv.Atoi(s.known["CALL_HISTORY_DRAIN_TIMEOUT"]); err != nil {
		r.add(example, "CALL_HISTORY_DRAIN_TIMEOUT: %v", err)
	}
	cargo, err := os.ReadFile(filepath.Join(root, "Cargo.toml"))
	if m := regexp.MustCompile(`(?m)^version = "(.+)"$`).FindSubmatch(cargo); m != nil {
		s.version = string(m[1])
	} else {
		r.add("Cargo.toml", "no version: %v", err)
	}
	s.readSchema(r, root)
	return s
}

// readSchema compares the chart's names of settings with .env.example, both ways: the chart refuses a name that
// its schema does not hold, so a setting that is missing there cannot be set by its users.
func (s *settings) readSchema(r *report, root string) {
	r.saw(schemaFile)
	type object struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	var top, callHistory, store, keys object
	text, err := os.ReadFile(filepath.Join(root, schemaFile))
	if err == nil {
		err = json.Unmarshal(text, &top)
	}
	for _, part := range []struct {
		from *object
		name string
		to   *object
	}{
		{&top, "callHistory", &callHistory}, {&top, "storeKeysInSecret", &store}, {&store, "keys", &keys},
	} {
		if err == nil {
			err = json.Unmarshal(part.from.Properties[part.name], part.to)
		}
	}
	if err != nil {
		r.add(schemaFile, "%v", err)
		return
	}
	var offered []string
	for name := range callHistory.Properties {
		offered = append(offered, variable(name))
	}
	for name := range keys.Properties {
		s.secrets = append(s.secrets, name)
	}
	slices.Sort(s.secrets)
	slices.Sort(offered)
	for _, name := range append(offered, s.secrets...) {
		if _, known := s.known[name]; !known {
			r.add(schemaFile, "%s is not in %s", name, example)
		}
	}
	for name := range s.known {
		// The chart is the worker's.
		if strings.HasPrefix(name, "CALL_HISTORY_RECEIVE_") {
			continue
		}
		if ours.MatchString(name) && !s.twin(name) &&
			!slices.Contains(offered, name) && !slices.Contains(s.secrets, name) && !slices.Contains(fixed, name) {
			r.add(schemaFile, "%s is in %s, but the chart refuses it: add it to callHistory, or to the secret's keys", name, example)
		}
	}
}

// variable is the name in the environment of a setting in a file.
func variable(name string) string {
	if strings.HasPrefix(name, "livekit_") {
		return strings.ToUpper(name)
	}
	return "CALL_HISTORY_" + strings.ToUpper(name)
}

// twin says whether a name is that of a secret's file.
func (s settings) twin(name string) bool {
	of, found := strings.CutSuffix(name, "_FILE")
	return found && slices.Contains(s.secrets, of)
}

// checkNames reports names of settings that do not exist: the worker would not start with them.
func (s settings) checkNames(r *report, file string, names []string) {
	for _, name := range names {
		if _, known := s.known[name]; ours.MatchString(name) && !known && !s.twin(name) {
			r.add(file, "%s is not in %s", name, example)
		}
	}
}

// checkGrace reports a grace that ends before the worker does.
func (s settings) checkGrace(r *report, file string, grace, drain int) {
	if grace < drain+graceBeyondDrain {
		r.add(file, "a grace of %d s: CALL_HISTORY_DRAIN_TIMEOUT is %d s, and %d more are needed", grace, drain, graceBeyondDrain)
	}
}
