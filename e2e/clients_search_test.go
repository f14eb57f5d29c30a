package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/clientmatrix"
)

// rowVariable marks the processes of a row: their children inherit it.
const rowVariable = "SALLYPORT_CLIENT_ROW"

// given are the variables that hold the token in a way, because the step has it in
// them or the way is to put it there.
func (r *clientRow) given() []string {
	list := append([]string{"BITBUCKET_STEP_OIDC_TOKEN"}, r.client.Given[r.way]...)
	if r.way != clientmatrix.Step {
		list = append(list, "PROXY", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
	}
	return list
}

// search returns where the row's token is, apart from where it was given: in what the
// script printed, in files, in arguments and variables of its processes, and in what
// reached the upstream.
func (r *clientRow) search(t testing.TB) []string {
	t.Helper()
	needles := forms(r.caller.token)
	leaks := r.m.processes.found(filepath.Base(r.directory))
	if search([]byte(r.output.String()), needles) != "" {
		leaks = append(leaks, "output")
	}
	if slices.ContainsFunc(needles, r.m.upstream.Contains) {
		leaks = append(leaks, "target")
	}
	err := filepath.WalkDir(r.directory, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreMissing(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return ignoreMissing(err)
		}
		relative, err := filepath.Rel(r.directory, path)
		_, inHome, _ := strings.Cut(relative, "/")
		if search(content, needles) != "" && !slices.Contains(r.given(), inHome) {
			leaks = append(leaks, "file "+relative)
		}
		return err
	})
	if err != nil {
		t.Errorf("search the files of %s: %v", r.host, err)
	}
	slices.Sort(leaks)
	return slices.Compact(leaks)
}

// ignoreMissing ignores files that a process removes while they are searched.
func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// processWatch searches the arguments and the environments of the rows' processes,
// at intervals and when scan is called.
type processWatch struct {
	mu   sync.Mutex
	rows map[string]*clientRow
	hits map[string][]string
}

// watchProcesses begins to search; it ends with the test.
func watchProcesses(t testing.TB) *processWatch {
	p := &processWatch{rows: make(map[string]*clientRow), hits: make(map[string][]string)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.scan()
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return p
}

func (p *processWatch) add(r *clientRow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows[filepath.Base(r.directory)] = r
}

// found returns the findings of a row, and forgets the row.
func (p *processWatch) found(id string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.rows, id)
	return p.hits[id]
}

// scan searches all processes once.
func (p *processWatch) scan() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rows) == 0 {
		return
	}
	for _, entry := range entries {
		environ, err := os.ReadFile("/proc/" + entry.Name() + "/environ")
		if err != nil || len(environ) == 0 {
			continue // another user's, or no process
		}
		_, after, marked := bytes.Cut(environ, []byte("\x00"+rowVariable+"="))
		if !marked {
			continue
		}
		id, _, _ := bytes.Cut(after, []byte{0})
		if r := p.rows[string(id)]; r != nil {
			p.hits[string(id)] = append(p.hits[string(id)], searchProcess(r, entry.Name(), environ)...)
		}
	}
}

func searchProcess(r *clientRow, pid string, environ []byte) (hits []string) {
	needles := forms(r.caller.token)
	arguments, err := os.ReadFile("/proc/" + pid + "/cmdline")
	if err != nil {
		return nil
	}
	program, _, _ := bytes.Cut(arguments, []byte{0})
	name := filepath.Base(string(program))
	if search(arguments, needles) != "" {
		hits = append(hits, "arguments of "+name)
	}
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		key, _, _ := bytes.Cut(variable, []byte("="))
		if search(variable, needles) != "" && !slices.Contains(r.given(), string(key)) {
			hits = append(hits, fmt.Sprintf("variable %s of %s", key, name))
		}
	}
	return hits
}

// TestTokenSearchFinds shows that a token is found wherever a client could leave it.
func TestTokenSearchFinds(t *testing.T) {
	t.Parallel()
	m := newClientMatrix(t, nil)
	client := &clientmatrix.Client{Name: "leaking", Transfer: `
echo "printed $BITBUCKET_STEP_OIDC_TOKEN"
printf 'step:%s' "$BITBUCKET_STEP_OIDC_TOKEN" | base64 -w0 >"$HOME/credentials"
curl -sS --noproxy '*' --cacert "$CA" --resolve "$HOST:$PORT:127.0.0.1" -H "X-Token: $BITBUCKET_STEP_OIDC_TOKEN" "$URL/page"
COPIED="$BITBUCKET_STEP_OIDC_TOKEN" bash -c 'echo first >"$EVENTS"; read -r _ <"$CONTINUE"'`, Session: `bash -e "$ROW/transfer.sh"`}
	r := m.newRow(t, client, clientmatrix.Plain, "leaks", clientmatrix.Allowed, 0)
	m.processes.add(r)
	r.start(t)
	<-r.first
	m.processes.scan()
	r.proceed()
	r.finish(t)
	for _, want := range []string{"output", "target", "file home/credentials", "arguments of curl", "variable COPIED of bash"} {
		if !slices.Contains(r.leaks, want) {
			t.Errorf("%s was not found: %q", want, r.leaks)
		}
	}
	t.Log(r.output)
}
