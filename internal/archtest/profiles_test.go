package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// globalMux matches what would serve the handlers that packages register for every server of
// a process: net/http/pprof and expvar do so when they are imported.
var globalMux = regexp.MustCompile(`\bhttp\.(DefaultServeMux|Handle|HandleFunc)\b|\bhttp\.(ListenAndServe|ListenAndServeTLS|Serve|ServeTLS)\([^()]*,\s*nil\)|&http\.Server\{\}`)

// TestProfilesAreNotOnTheNetwork: no program contains net/http/pprof, and no server serves
// the handlers of the whole process. The control socket alone has profiles.
func TestProfilesAreNotOnTheNetwork(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "runtime/pprof") {
		t.Error("the programs do not contain runtime/pprof: the list of packages is not complete")
	}
	if slices.Contains(packages, "net/http/pprof") {
		t.Error("a program contains net/http/pprof: profiles belong to the control socket (internal/operator)")
	}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		text, err := os.ReadFile(filepath.Join("..", "..", s.file))
		if err != nil {
			t.Fatal(err)
		}
		if found := globalMux.Find(text); found != nil {
			t.Errorf("%s has %q: a server needs a handler of its own", s.file, found)
		}
	}
}

// TestProfilesAreNotOnTheNetworkIsNeeded: the pattern finds each way to serve the handlers of
// the process, and no other server.
func TestProfilesAreNotOnTheNetworkIsNeeded(t *testing.T) {
	t.Parallel()
	for code, bad := range map[string]bool{
		`http.ListenAndServe(":80", nil)`: true, `http.Serve(l, nil)`: true, `http.HandleFunc("/", f)`: true, `(&http.Server{}).Serve(l)`: true,
		`h := http.DefaultServeMux`: true, `http.Serve(l, mux)`: false, `mux.HandleFunc("/", f)`: false, `http.HandlerFunc(f)`: false, `&http.Server{Handler: h}`: false,
	} {
		if globalMux.MatchString(code) != bad {
			t.Errorf("%s: found is %t", code, !bad)
		}
	}
}
