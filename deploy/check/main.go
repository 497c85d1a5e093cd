// Check reads everything in deploy/ and compose.yaml, and the commands for them in the documents, as its users' tools
// would, and asserts what must hold for
// calls not to be lost. It needs no cluster and no Docker.
//
//	go run -C deploy/check .
//	go run -C deploy/check . -worker $PWD/target/debug/call-history
//
// It prints a line for each file, and ends with 1 if any of them holds a mistake.
//
//	documents.go  Kubernetes documents, decoded strictly against the API's types
//	chart.go      the Helm chart: lint, and what it renders
//	rules.go      what must hold for a worker in Kubernetes, from plain files and from the chart alike
//	compare.go    the chart and the plain files say the same
//	settings.go   names of settings: each one that is used exists, each one that exists can be used
//	compose.go    compose.yaml
//	systemd.go    the unit
//	commands.go   commands for docker, kubectl, helm and systemctl in all documents: what they name is there
//	worker.go     has the worker itself judge the settings, if there is a binary
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	root := flag.String("root", "../..", "the repository")
	worker := flag.String("worker", "", "a call-history binary, which then judges every environment too")
	flag.Parse()
	r := check(*root, *worker)
	r.print()
	if r.wrong() {
		os.Exit(1)
	}
}

// report holds the mistakes of each file, in the order in which the files were looked at.
type report struct {
	files    []string
	mistakes map[string][]string
}

// saw names a file that is looked at, so that it has a line even without a mistake.
func (r *report) saw(file string) {
	if _, known := r.mistakes[file]; !known {
		r.files = append(r.files, file)
		r.mistakes[file] = nil
	}
}

func (r *report) add(file, format string, args ...any) {
	r.saw(file)
	r.mistakes[file] = append(r.mistakes[file], fmt.Sprintf(format, args...))
}

func (r *report) wrong() bool {
	for _, mistakes := range r.mistakes {
		if len(mistakes) > 0 {
			return true
		}
	}
	return false
}

func (r *report) print() {
	for _, file := range r.files {
		if len(r.mistakes[file]) == 0 {
			fmt.Println("ok    " + file)
		}
		for _, mistake := range r.mistakes[file] {
			fmt.Printf("WRONG %s: %s\n", file, mistake)
		}
	}
}

// check looks at everything below the repository's root.
func check(root, worker string) *report {
	r := &report{mistakes: map[string][]string{}}
	s := readSettings(r, root)
	s.worker = worker
	plain := checkPlain(r, root, s)
	chart := checkChart(r, root, s, plain)
	checkSystemd(r, root, s)
	services := checkCompose(r, root, s)
	checkCommands(r, deployed{root, s, plain, chart, services})
	return r
}
