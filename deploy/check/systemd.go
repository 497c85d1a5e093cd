package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const unit = "deploy/systemd/call-history.service"

// checkSystemd looks at the unit. Whether systemd knows each directive only `systemd-analyze verify` tells.
func checkSystemd(r *report, root string, s settings) {
	r.saw(unit)
	text, err := os.ReadFile(filepath.Join(root, unit))
	if err != nil {
		r.add(unit, "%v", err)
		return
	}
	directives := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^([A-Za-z]+)=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		directives[m[1]] = append(directives[m[1]], m[2])
	}
	env := map[string]string{}
	var names []string
	// Those in comments are offered to the reader: they must be right too.
	for _, m := range regexp.MustCompile(`(?m)^#?Environment=([A-Z0-9_]+)=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
		env[m[1]] = m[2]
	}
	s.checkNames(r, unit, names)
	for name, value := range env {
		credential, is := strings.CutPrefix(value, "%d/")
		if strings.HasSuffix(name, "_FILE") && !is {
			r.add(unit, "%s is no credential", name)
		}
		if is && !regexp.MustCompile(`(?m)^#?LoadCredential=`+regexp.QuoteMeta(credential)+`:`).Match(text) {
			r.add(unit, "there is no LoadCredential=%s", credential)
		}
	}
	drain := s.drain
	if set, err := strconv.Atoi(env["CALL_HISTORY_DRAIN_TIMEOUT"]); err == nil {
		drain = set
	}
	grace, err := strconv.Atoi(strings.Join(directives["TimeoutStopSec"], ""))
	if err != nil {
		r.add(unit, "TimeoutStopSec in seconds: %v", err)
	}
	s.checkGrace(r, unit, grace, drain)
	for _, must := range [][2]string{
		{"Restart", "on-failure"}, {"RestartPreventExitStatus", "78"}, {"KillSignal", "SIGTERM"},
		{"DynamicUser", "yes"}, {"StateDirectory", "call-history"}, {"ProtectSystem", "strict"}, {"NoNewPrivileges", "yes"},
	} {
		if !slices.Equal(directives[must[0]], []string{must[1]}) {
			r.add(unit, "%s must be %s", must[0], must[1])
		}
	}
	if env["CALL_HISTORY_DATA_DIR"] != "%S/call-history" {
		r.add(unit, "CALL_HISTORY_DATA_DIR must be the StateDirectory")
	}
}
