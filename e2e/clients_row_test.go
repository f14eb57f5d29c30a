package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/clientmatrix"
	"github.com/sallyport/sallyport/internal/testenv"
)

// clientRow is one script of a step: a client makes a transfer, or two with a pause
// between them, in one way.
type clientRow struct {
	m      *clientMatrix
	client *clientmatrix.Client
	way    clientmatrix.Way
	name   string // of the row: part of the host name
	host   string
	caller caller
	paused bool // two transfers
	expiry time.Time

	directory string
	output    *lockedBuffer
	first     chan struct{} // closed after the first transfer
	second    int           // where the output of the second transfer begins
	firstOK   bool
	resume    *os.File
	ended     chan struct{}
	status    int
	leaks     []string
}

// lockedBuffer keeps what a script prints.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write never fails.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// newRow prepares a row's directory, host and token. lifetime is that of the token;
// zero: an hour.
func (m *clientMatrix) newRow(t testing.TB, client *clientmatrix.Client, way clientmatrix.Way, name string, zone clientmatrix.Zone, lifetime time.Duration) *clientRow {
	t.Helper()
	r := &clientRow{
		m: m, client: client, way: way, name: name, paused: name != "a" && name != "d",
		output: &lockedBuffer{}, first: make(chan struct{}), ended: make(chan struct{}),
	}
	r.host = fmt.Sprintf("%s-%s-%s.%s", slug(client.Name), slug(string(way)), name, zone)
	repository := m.w.Payments
	if zone == clientmatrix.Report {
		repository = m.w.Website
	}
	now := time.Now()
	r.caller = m.w.callerWith(repository, nil, "main", bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}, IssuedAt: now, Lifetime: lifetime})
	r.expiry = now.Add(lifetime)
	var err error
	// Short: the path of a socket has at most 107 bytes.
	if r.directory, err = os.MkdirTemp(m.directory, "row-"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"home", "tmp", "work"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(r.directory, name), 0o755))
	}
	for name, text := range client.Files {
		path := filepath.Join(r.directory, "work", name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	for _, name := range []string{"events", "continue"} {
		err = errors.Join(err, syscall.Mkfifo(filepath.Join(r.directory, name), 0o600))
	}
	err = errors.Join(err, os.Chmod(r.directory, 0o755),
		os.WriteFile(filepath.Join(r.directory, "transfer.sh"), []byte(client.Transfer+"\n"), 0o644),
		os.WriteFile(filepath.Join(r.directory, "step.sh"), []byte(r.script()), 0o644),
		os.WriteFile(filepath.Join(r.directory, "isolate.sh"), []byte(isolation), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func slug(name string) string {
	mapped := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, strings.ToLower(name))
	for strings.Contains(mapped, "--") {
		mapped = strings.ReplaceAll(mapped, "--", "-")
	}
	return strings.Trim(mapped, "-")
}

// isolation gives a row files of its own in the place of the machine's that
// sallyport-step changes, and makes $HOME the user's home for all programs.
const isolation = `set -e
mkdir "$ROW/etc"
sed "s|^\(root:.*:\)/[^:]*:|\1$HOME:|" /etc/passwd >"$ROW/etc/passwd"
mount --bind "$ROW/etc/passwd" /etc/passwd
for directory in /etc/apt/apt.conf.d /etc/chromium /etc/opt; do
  [ -d "$directory" ] || continue
  cp -r "$directory" "$ROW/etc/"
  mount --bind "$ROW/etc/${directory##*/}" "$directory"
done
exec bash "$ROW/step.sh"
`

// script is the step's script.
func (r *clientRow) script() string {
	var b strings.Builder
	line := func(text string) {
		if text != "" {
			b.WriteString(text + "\n")
		}
	}
	line(`cd "$WORK" || exit 90`)
	line(r.client.Trust)
	line(r.m.setup[r.way])
	line(r.client.Settings[r.way])
	transfer := `bash -e "$ROW/transfer.sh"`
	switch {
	case !r.paused:
		line(transfer)
	case r.client.Session != "" && !strings.HasPrefix(r.name, "e"): // an expired token does not end the tunnel of a session
		line(r.client.Session)
	default:
		line(transfer + `; echo "first $?" >"$EVENTS"; read -r _ <"$CONTINUE"`)
		line(transfer)
	}
	line("status=$?")
	line(r.m.teardown[r.way])
	line(`exit "$status"`)
	return b.String()
}

// environment is what a step's container gives to its script.
func (r *clientRow) environment(t testing.TB) []string {
	port := r.m.upstream.HTTPS
	scheme := cmp.Or(r.client.Scheme, "https")
	if scheme == "http" {
		port = r.m.upstream.HTTP
	}
	if r.client.Port != "" {
		port = r.m.ports[r.client.Port]
	}
	env := append(r.m.environment(), "HOME="+filepath.Join(r.directory, "home"), "TMPDIR="+filepath.Join(r.directory, "tmp"),
		"WORK="+filepath.Join(r.directory, "work"), "ROW="+r.directory, "EVENTS="+filepath.Join(r.directory, "events"), "CONTINUE="+filepath.Join(r.directory, "continue"),
		rowVariable+"="+filepath.Base(r.directory), "CA="+r.m.authority, "BITBUCKET_STEP_OIDC_TOKEN="+r.caller.token,
		"HOST="+r.host, "PORT="+strconv.Itoa(port), fmt.Sprintf("URL=%s://%s:%d", scheme, r.host, port))
	_, local, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	return append(env, "LOCAL_PORT="+local, "START="+cmp.Or(r.client.Start, "--unset-token"))
}

// start starts the script. It does not wait for it.
func (r *clientRow) start(t testing.TB) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(r.directory, "step.sh"))
	if r.m.isolated {
		cmd = exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "bash", filepath.Join(r.directory, "isolate.sh"))
	}
	cmd.Env = r.environment(t)
	cmd.Stdout, cmd.Stderr = r.output, r.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	// Both ends are open, so that neither side waits for the other's open.
	events, err := os.OpenFile(filepath.Join(r.directory, "events"), os.O_RDWR, 0)
	if err == nil {
		r.resume, err = os.OpenFile(filepath.Join(r.directory, "continue"), os.O_RDWR, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(rowTimeout, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	var once sync.Once
	firstDone := func(line string) {
		once.Do(func() {
			if line != "" {
				r.second, r.firstOK = len(r.output.String()), line == "first 0\n" || line == "first\n"
			}
			close(r.first)
		})
	}
	go func() {
		line, _ := bufio.NewReader(events).ReadString('\n')
		firstDone(line)
	}()
	go func() {
		_ = cmd.Wait()
		limit.Stop()
		r.status = cmd.ProcessState.ExitCode()
		firstDone("")
		_ = events.Close()
		close(r.ended)
	}()
}

// rowTimeout ends a script that does not end.
const rowTimeout = 4 * time.Minute

// proceed ends the pause.
func (r *clientRow) proceed() { _, _ = io.WriteString(r.resume, "go\n") }

// finish waits for the end and searches for the token.
func (r *clientRow) finish(t testing.TB) {
	t.Helper()
	<-r.ended
	_ = r.resume.Close()
	r.leaks = r.search(t)
	if !t.Failed() && !*keepRows {
		_ = os.RemoveAll(r.directory)
	}
}

// seen is what the last transfer printed.
func (r *clientRow) seen() string { return r.output.String()[r.second:] }

// ok reports whether the last transfer delivered what it should.
func (r *clientRow) ok() bool {
	return r.status == 0 && strings.Contains(r.seen(), cmp.Or(r.client.Want, clientmatrix.Greeting))
}
