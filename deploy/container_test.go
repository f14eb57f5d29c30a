package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// compose is the part of a compose file that is checked.
type compose struct {
	Name     string
	Services map[string]struct {
		Image           string
		Build           map[string]string
		Entrypoint      []string
		Command         []string
		User            string
		Environment     map[string]string
		Secrets         []string
		Volumes         []string
		Networks        []string
		Ports           []string
		DependsOn       map[string]map[string]string `yaml:"depends_on"`
		Healthcheck     map[string]any
		StopGracePeriod string         `yaml:"stop_grace_period"`
		ReadOnly        bool           `yaml:"read_only"`
		CapDrop         []string       `yaml:"cap_drop"`
		SecurityOpt     []string       `yaml:"security_opt"`
		MemLimit        string         `yaml:"mem_limit"`
		PidsLimit       int            `yaml:"pids_limit"`
		Ulimits         map[string]int `yaml:"ulimits"`
		Restart         string
	}
	Networks map[string]map[string]any
	Volumes  map[string]map[string]any
	Secrets  map[string]map[string]string
}

// TestComposeHoldsTogether: every name leads somewhere, the server gets no more
// secrets than it needs, and the database is migrated before it starts.
func TestComposeHoldsTogether(t *testing.T) {
	var c compose
	if err := yaml.UnmarshalWithOptions([]byte(read(t, "compose.yaml")), &c, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for name, s := range c.Services {
		for _, secret := range s.Secrets {
			if c.Secrets[secret]["file"] != "./secrets/"+secret {
				t.Errorf("%s: secret %s comes from %v", name, secret, c.Secrets[secret])
			}
		}
		for _, network := range s.Networks {
			if _, ok := c.Networks[network]; !ok {
				t.Errorf("%s: there is no network %s", name, network)
			}
		}
		for _, volume := range s.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(from, ".") {
				if _, err := os.Stat(from); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			} else if _, ok := c.Volumes[from]; !ok {
				t.Errorf("%s: there is no volume %s", name, from)
			}
		}
		if s.Build != nil {
			if _, err := os.Stat(filepath.Join(s.Build["context"], s.Build["dockerfile"])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
				t.Errorf("%s is less confined than it may be", name)
			}
		}
	}
	server := c.Services["sallyport"]
	for _, secret := range server.Secrets {
		if strings.Contains(secret, "migrat") || strings.HasSuffix(secret, "-password") {
			t.Errorf("the server gets %s, which it does not need", secret)
		}
	}
	if server.DependsOn["migrate"]["condition"] != "service_completed_successfully" || c.Services["migrate"].DependsOn["postgresql"]["condition"] != "service_healthy" {
		t.Error("the server does not wait for the migration, or that for the database")
	}
	if grace, err := time.ParseDuration(server.StopGracePeriod); err != nil || grace <= 90*time.Second {
		t.Errorf("stop_grace_period is %s: a server that drains is killed", server.StopGracePeriod)
	}
}

// TestLogins runs the script of compose.yaml on a real PostgreSQL, twice.
func TestLogins(t *testing.T) {
	db := pgtest.Start(t, pgtest.Options{}).New(t)
	directory := t.TempDir()
	for _, login := range []string{"writer", "sealer", "auditor", "migrator"} {
		if err := os.WriteFile(filepath.Join(directory, login+"-password"), []byte("it's "+login+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	psql := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "psql", append([]string{"--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-At"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("psql %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	psql("-d", db.URL(""), "-f", "../migrations/roles/roles.sql")
	for range 2 {
		cmd := exec.CommandContext(t.Context(), "sh", "compose/logins.sh")
		cmd.Env = append(os.Environ(), "SECRETS="+directory, "POSTGRES_USER="+pgtest.Superuser, "POSTGRES_DB="+db.URL(""))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	set := psql("-d", db.URL(""), "-c", `SELECT string_agg(rolname || ' ' || (rolpassword LIKE 'SCRAM-SHA-256$%')::text, ', ' ORDER BY rolname) FROM pg_authid WHERE rolname IN ('sallyport_writer', 'sallyport_sealer', 'sallyport_auditor', 'migrator')`)
	if set != "migrator true, sallyport_auditor true, sallyport_sealer true, sallyport_writer true\n" {
		t.Errorf("passwords: %s", set)
	}
	if _, _, err := database.Migrate(t.Context(), db.URL("migrator"), nil); err != nil {
		t.Errorf("the migrator cannot migrate: %v", err)
	}
}

// TestDockerfile: the builder is the Go of go.mod, the image has what the program
// and the policy repository's pipeline run, for a user that it knows, and no
// root, and what is copied exists.
func TestDockerfile(t *testing.T) {
	var from []string
	last := map[string]string{}
	text := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(read(t, "Dockerfile"), " ")
	for line := range strings.Lines(text) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch instruction {
		case "", "#":
		case "FROM":
			from = append(from, rest)
			last = map[string]string{}
		case "WORKDIR", "COPY", "RUN", "ARG", "USER", "ENV", "EXPOSE", "VOLUME", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD":
			last[instruction] = rest
		default:
			if !strings.HasPrefix(instruction, "#") {
				t.Errorf("no instruction: %s", line)
			}
		}
	}
	goVersion := regexp.MustCompile(`(?m)^go ([0-9]+\.[0-9]+)\b`).FindStringSubmatch(read(t, "../go.mod"))[1]
	if len(from) != 2 || !strings.HasSuffix(from[0], "-bookworm AS build") || !strings.HasPrefix(from[0], "golang:"+goVersion+".") || from[1] != "debian:bookworm-slim" {
		t.Errorf("FROM %q; go.mod says %s", from, goVersion)
	}
	if !strings.Contains(text, "CGO_ENABLED=0") {
		t.Error("the program is not static")
	}
	packages := strings.Fields(last["RUN"])
	for _, name := range []string{"git", "openssh-client", "ca-certificates", "curl", "--no-install-recommends"} {
		if !slices.Contains(packages, name) {
			t.Errorf("the image does not have %s: %s", name, last["RUN"])
		}
	}
	if !strings.Contains(last["RUN"], "useradd --uid 65532 ") {
		t.Errorf("ssh does not know the image's user: %s", last["RUN"])
	}
	if last["USER"] != "65532:65532" || last["ENTRYPOINT"] != `["/usr/local/bin/sallyport"]` || !strings.Contains(last["HEALTHCHECK"], `"health", "--url", "http://127.0.0.1:9128"`) {
		t.Errorf("the image is %v", last)
	}
}
