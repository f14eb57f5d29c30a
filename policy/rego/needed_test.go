package rego

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/worker"
)

// inProcess replaces the workers: it executes calls in this process.
type inProcess struct{ host *host }

func (p inProcess) Do(_ context.Context, call *worker.Call) ([]byte, error) {
	request := call.Request
	for range 8 {
		reply := p.host.Handle(request)
		next := call.Follow(reply)
		if next == nil {
			return reply, nil
		}
		request = next
	}
	return nil, errors.New("no end")
}

// bombInProcess names a bomb that a child process of TestWorkersAreNeeded executes
// without workers.
const bombInProcess = "SALLYPORT_TEST_BOMB"

// TestWorkersAreNeeded: without workers one decision ends the whole process, by its
// stack and by its memory, and takes as long as a builtin likes.
func TestWorkersAreNeeded(t *testing.T) {
	if name := os.Getenv(bombInProcess); name != "" {
		explode(t, name)
		return
	}
	t.Parallel()
	program := plainProgram(t)
	for name, c := range map[string]struct{ kilobytes, says string }{
		"arrays that array.concat made":  {"3000000", "stack overflow"},
		"json.marshal of a shared array": {"600000", "memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The limit of memory stands for the machine's.
			child := exec.CommandContext(t.Context(), "/bin/sh", "-c", "ulimit -d "+c.kilobytes+`; exec "$0" "$@"`, program, "-test.run=^TestWorkersAreNeeded$")
			child.Env = append(os.Environ(), bombInProcess+"="+name, "GOTRACEBACK=none")
			output, err := child.CombinedOutput()
			if err == nil || !strings.Contains(string(output), "fatal error") || !strings.Contains(string(output), c.says) {
				t.Errorf("%v\n%.600s", err, output)
			}
		})
	}
}

func explode(t *testing.T, name string) {
	for _, b := range evaluationBombs {
		if b.name != name {
			continue
		}
		set, err := Load(t.Context(), snapshot(t, org("delegate contains {\"rule\": \"all\"}")+repo(b.rego)), Options{Names: true, Workers: inProcess{newHost()}})
		if err != nil {
			t.Fatal(err)
		}
		d, err := set.Decide(t.Context(), requestFor(t, "repository=acme/tools", "to=bomb.example:443"))
		t.Log(described(d, err))
	}
}
