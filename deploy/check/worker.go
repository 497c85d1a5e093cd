package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// checkWithWorker has the worker itself judge an environment, if there is one (-worker): names and values.
// secrets are the texts of the files that *_FILE names; where the Secret is somebody else's, any text will do.
func checkWithWorker(r *report, worker, file string, env, secrets map[string]string) {
	if worker == "" {
		return
	}
	// Also the working directory: an .env of the repository must not mend anything.
	folder, err := os.MkdirTemp("", "check")
	if err != nil {
		r.add(file, "%v", err)
		return
	}
	defer os.RemoveAll(folder)
	command := exec.Command(worker, "config", "--check")
	command.Dir = folder
	for name, value := range env {
		switch of, twin := strings.CutSuffix(name, "_FILE"); {
		case twin:
			text := secrets[of]
			if text == "" {
				text = "anything"
			}
			value = filepath.Join(folder, of)
			if err := os.WriteFile(value, []byte(text), 0o600); err != nil {
				r.add(file, "%v", err)
			}
		case name == "CALL_HISTORY_DATA_DIR":
			value = folder
		}
		command.Env = append(command.Env, name+"="+value)
	}
	if answer, err := command.CombinedOutput(); err != nil {
		r.add(file, "the worker refuses these settings (%v): %s", err, strings.TrimSpace(string(answer)))
	}
}
