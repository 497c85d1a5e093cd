package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeFile = "compose.yaml"

// checkCompose reads compose.yaml as Docker does, without a .env: each variable has a default. It returns the services.
func checkCompose(r *report, root string, s settings) []string {
	r.saw(composeFile)
	text, err := os.ReadFile(filepath.Join(root, composeFile))
	if err != nil {
		r.add(composeFile, "%v", err)
		return nil
	}
	// Names in ${…}: those that LiveKit's image reads itself are no settings of ours.
	for _, m := range regexp.MustCompile(`\$\{([A-Z0-9_]+)`).FindAllStringSubmatch(string(text), -1) {
		s.checkNames(r, composeFile, []string{m[1]})
	}
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir:  root,
		ConfigFiles: []types.ConfigFile{{Filename: composeFile, Content: text}},
		Environment: types.Mapping{"CALL_HISTORY_ENDPOINT": "https://api.example.com/call-history"},
	}, func(o *loader.Options) {
		o.SetProjectName(release, true)
		o.SkipResolveEnvironment = true
	})
	if err != nil {
		r.add(composeFile, "%v", err)
		return nil
	}
	worker, found := project.Services["call-history"]
	if !found {
		r.add(composeFile, "no service call-history")
		return nil
	}
	require := func(holds bool, format string, args ...any) {
		if !holds {
			r.add(composeFile, format, args...)
		}
	}
	s.checkNames(r, composeFile, slices.Sorted(maps.Keys(worker.Environment)))
	require(worker.StopGracePeriod != nil, "no stop_grace_period: Docker would kill the worker after 10 s")
	if grace := worker.StopGracePeriod; grace != nil {
		s.checkGrace(r, composeFile, int(time.Duration(*grace).Seconds()), s.drain)
	}
	require(worker.ReadOnly, "read_only must be true")
	require(slices.Equal(worker.CapDrop, []string{"ALL"}) && len(worker.CapAdd) == 0, "capabilities: drop ALL, add none")
	require(slices.Contains(worker.SecurityOpt, "no-new-privileges:true"), "no-new-privileges is missing")
	require(worker.HealthCheck != nil && slices.Equal(worker.HealthCheck.Test, types.HealthCheckTest{"CMD", "call-history", "probe", "--ready"}),
		"healthcheck must be call-history probe --ready")
	mounted := slices.ContainsFunc(worker.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Type == types.VolumeTypeVolume && v.Target == dataDir
	})
	env := map[string]string{}
	for name, value := range worker.Environment {
		if value != nil {
			env[name] = *value
		}
	}
	checkWithWorker(r, s.worker, composeFile, env, nil)
	require(mounted && env["CALL_HISTORY_DATA_DIR"] == dataDir, "a volume at %s, and CALL_HISTORY_DATA_DIR there", dataDir)
	return project.ServiceNames()
}
