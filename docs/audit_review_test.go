package docs_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	reconcilepg "github.com/sallyport/sallyport/reconcile/postgres"

	"github.com/sallyport/sallyport/audit"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgembed"
	"github.com/sallyport/sallyport/internal/publish"
)

const auditPage = "audit.md"

// TestAuditReview is a reviewer with audit.md and nothing else: every command
// and every statement of the page in its order, with the real program and the real
// psql, as the auditor of an embedded database whose log the real writer has
// written. What the page shows is compared. In the end the log and the pack are
// tampered with, and the page's commands have to find it.
func TestAuditReview(t *testing.T) {
	t.Parallel()
	a := newReview(t)
	a.request()
	a.live()
	text := 0
	all := fence.FindAllStringSubmatch(read(t, auditPage), -1)
	for i, b := range all {
		language, block := b[1], b[2]
		var output string
		switch language {
		case "sh":
			output = a.run(block)
		case "sql":
			output = a.psql(block)
			if strings.TrimSpace(output) == "" {
				t.Errorf("psql says nothing to\n%s", block)
			}
		case "text", "": // what comes behind a command, or a format
			continue
		default:
			t.Errorf("nothing is known of a block of %s", language)
		}
		if i+1 < len(all) && all[i+1][1] == "text" {
			text++
			a.compare(block, output, all[i+1][2])
		}
	}
	if len(all) < 30 || text < 3 || !strings.Contains(read(t, auditPage), "```sh\n"+generated) {
		t.Errorf("the page was read as %d blocks, %d of which are what a command prints, or does not begin with the key", len(all), text)
	}
	a.collectOutput()
	a.checkHandover()
	a.sample()
	a.tamper()
}

// review is a reviewer's folder, on the machine of an embedded database.
type review struct {
	t       *testing.T
	folder  string
	key     string // the private one that signs
	psqlDir string
	server  *pgembed.Server
	log     *auditwriter.Log  // of a process that continues
	printed map[string]string // by the block
}

// generated is the page's first command, which comes before there is a log.
const generated = "sallyport audit key generate --out checkpoint-key --origin acme.example/egress\n"

// newReview writes the log, and the files that the reviewer requested.
func newReview(t *testing.T) *review {
	t.Helper()
	a := &review{t: t, folder: t.TempDir(), printed: map[string]string{}}
	a.check(os.Symlink(program(t), a.path("sallyport")))
	psql, err := pgembed.Psql(t.Context(), "") // which need not be on the path
	a.check(err)
	a.psqlDir = filepath.Dir(psql)
	a.run(generated)
	key, err := os.ReadFile(a.path("checkpoint-key"))
	if err != nil {
		t.Fatal(err)
	}
	a.key = string(key)
	if a.server, err = pgembed.Start(t.Context(), pgembed.Config{Directory: a.path("data/postgresql"), NoSync: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.server.Close() })
	if err := database.CreateDatabase(t.Context(), a.server.URL("postgres", pgembed.Superuser), "sallyport"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := database.Migrate(t.Context(), a.url(pgembed.Superuser), nil); err != nil {
		t.Fatal(err)
	}
	a.write("auditor-url", a.url(database.Auditor)+"\n")
	a.configure("checkpoint-key")
	seedInto(t, a.url, a.key, publish.NewFile(a.path("checkpoints.txt")))
	return a
}

func (a *review) path(name string) string { return filepath.Join(a.folder, name) }
func (a *review) url(user string) string  { return a.server.URL("sallyport", user) }

func (a *review) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *review) write(name, text string) {
	a.t.Helper()
	a.check(os.WriteFile(a.path(name), []byte(text), 0o600))
}

func (a *review) read(name string) string {
	a.t.Helper()
	text, err := os.ReadFile(a.path(name))
	a.check(err)
	return string(text)
}

// configure is what the operator has beside the log.
func (a *review) configure(key string) {
	a.check(os.MkdirAll(a.path("policy"), 0o700))
	a.write("sallyport.yaml", fmt.Sprintf(`listeners: [{address: "127.0.0.1:3128"}]
identity:
  bitbucket:
    - {workspace: acme, workspace_uuid: "922e118c-f34f-4226-a897-0e0afbec553d", issuer: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc", audiences: ["https://egress.acme.example"]}
policy: {directory: %q}
audit: {embedded: true, signing_key_file: %q}
data_directory: %q
`, a.path("policy"), a.path(key), a.path("data")))
}

// ask puts the questions of the other page to psql, one after the other.
func (a *review) request() {
	a.t.Helper()
	var sql, want strings.Builder
	for _, q := range questions(a.t, read(a.t, questionsPage)) {
		sql.WriteString(q.sql)
		want.WriteString(q.answer)
	}
	var got strings.Builder
	for line := range strings.Lines(a.psql(sql.String())) {
		got.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	if got.String() != want.String() {
		a.t.Errorf("psql answers the questions with\n%s\nand the page says\n%s", got.String(), want.String())
	}
}

// live is what a server does beside: it has held the deployments against the log,
// tested itself, and it seals.
func (a *review) live() {
	t := a.t
	t.Helper()
	var err error
	a.log, err = auditwriter.Open(t.Context(), auditwriter.Config{URL: a.url(database.Writer), Version: "test", Deadline: time.Minute, Signer: withKey(a.key)})
	a.check(err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		a.check(a.log.Close(ctx))
	})
	r, err := reconcilepg.Open(t.Context(), a.url(database.Writer))
	a.check(err)
	defer r.Close()
	const id, workspace = "019a0000-0000-7000-8000-0000000000aa", "922e118c-f34f-4226-a897-0e0afbec553d"
	now := time.Now().UTC().Truncate(time.Microsecond)
	run := identity.DeploymentRun{UUID: "55555555-0000-4000-8000-000000000003", WorkspaceUUID: workspace, RepositoryUUID: repositories["payments"], DeploymentUUID: deployments["production"],
		PipelineUUID: "44444444-0000-4000-8000-000000000003", StepUUID: "33333333-0000-4000-8000-000000000003", BuildNumber: 7, State: identity.DeploymentSuccessful,
		Created: now.Add(-time.Hour), Started: now.Add(-time.Hour), Completed: now.Add(-50 * time.Minute)}
	look := identity.RepositoryScan{WorkspaceUUID: workspace, RepositoryUUID: repositories["payments"], Repository: "acme/payments", Outcome: identity.ScanComplete,
		Began: now, Until: now, InOrder: true, Whole: true, Requests: 1, Runs: 1}
	a.check(r.Save(t.Context(), id, []identity.DeploymentFinding{{DeploymentRun: run, Class: identity.ClassObserved, Found: now}}, []identity.RepositoryScan{look}))
	digest, err := r.Digest(t.Context(), id)
	a.check(err)
	for _, e := range []*audit.Event{
		{Time: now, Kind: audit.KindReconciled, WorkspaceUUID: workspace, Message: "1 of 1 repositories told of 1 deployments, 1 seen",
			Attributes: []audit.Attribute{{Name: "reconciliation", Value: id}, {Name: "digest", Value: fmt.Sprintf("%x", digest)}}},
		{Time: now, Kind: audit.KindSelfTest, Message: "one was refused and one was let out",
			Attributes: []audit.Attribute{{Name: "outcome", Value: "passed"}, {Name: "refused_reason", Value: "no_rule_matched"}, {Name: "allowed_rule", Value: "self-test"}}},
	} {
		a.check(a.log.Record(t.Context(), e))
	}
	a.seal(a.key)
}

func (a *review) seal(key string) {
	a.t.Helper()
	seal(a.t, a.log, a.url, key, publish.NewFile(a.path("checkpoints.txt")))
}

// run runs a block, in which nothing may fail, and returns what it printed.
func (a *review) run(block string) string {
	a.t.Helper()
	if block != generated && strings.HasPrefix(block, generated) {
		block = strings.TrimPrefix(block, generated)
	}
	var output strings.Builder
	for _, script := range scripts(block) {
		words := strings.Fields(script)
		if len(words) > 2 && (words[2] == "tail" || words[2] == "stream") {
			output.WriteString(a.endless(script, words[2]))
			continue
		}
		out, status := a.sh(script)
		if status != 0 {
			a.t.Errorf("%sended with %d:\n%s", script, status, out)
		}
		output.WriteString(out)
		if strings.Contains(script, " key rotate ") {
			a.rotated()
		}
	}
	a.printed[block] = output.String()
	return output.String()
}

// scripts are the commands of a block. A line that begins a loop is one with what
// comes behind it.
func scripts(block string) []string {
	if strings.Contains(block, "; do\n") {
		return []string{block}
	}
	return slices.Collect(strings.Lines(block))
}

func (a *review) command(script string) *exec.Cmd {
	cmd := exec.CommandContext(a.t.Context(), "sh", "-eu", "-c", script)
	cmd.Dir = a.folder
	cmd.Env = append(os.Environ(), "PATH="+a.folder+":"+a.psqlDir+":"+os.Getenv("PATH"), "PAGER=cat", "PSQLRC="+os.DevNull)
	return cmd
}

// sh returns what a script printed, without progress and complaints, unless it failed.
func (a *review) sh(script string) (output string, status int) {
	a.t.Helper()
	cmd := a.command(script)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	if err == nil {
		return out.String(), 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		a.t.Fatal(err)
	}
	return out.String() + complaints.String(), exit.ExitCode()
}

// psql runs SQL with the connection that the page describes.
func (a *review) psql(sql string) string {
	a.t.Helper()
	a.write("ask.sql", sql)
	output, status := a.sh(`sallyport audit psql --config sallyport.yaml --role auditor -X -A -F ' | ' -P footer=off -v ON_ERROR_STOP=1 -q -f ask.sql`)
	if status != 0 {
		a.t.Errorf("psql ended with %d:\n%s", status, output)
	}
	return output
}

// endless runs a command that does not end by itself, and interrupts it once its
// output is complete.
func (a *review) endless(script, what string) string {
	a.t.Helper()
	cmd := a.command("exec " + script)
	pipe, err := cmd.StdoutPipe()
	a.check(err)
	a.check(cmd.Start())
	output := ""
	if what == "tail" {
		output, _ = bufio.NewReader(pipe).ReadString('\n')
	} else {
		leaves := strings.TrimSpace(a.psql(`\t on` + "\n" + `SELECT count(*) FROM audit.leaves`))
		for ticks := time.Tick(10 * time.Millisecond); a.t.Context().Err() == nil; <-ticks {
			if text, err := os.ReadFile(a.path("events.jsonl")); err == nil && fmt.Sprint(bytes.Count(text, []byte("\n"))) == leaves {
				break
			}
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		a.t.Errorf("%s%v", script, err)
	}
	return output
}

// rotated is the operator after `key rotate`: the present key seals once more, and
// the next one continues.
func (a *review) rotated() {
	a.t.Helper()
	if err := sealWith(a.t, a.log, a.url, a.key, publish.NewFile(a.path("checkpoints.txt"))); err == nil {
		a.t.Error("the key that was handed over goes on sealing")
	}
	a.key = a.read("next-key")
	a.configure("next-key")
	a.seal(a.key)
}
