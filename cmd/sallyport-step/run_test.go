package main

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runLine is a line of a script that runs a command with a forwarder of its own.
func runLine(p *sallyport, flags, command string) string {
	return "sallyport-step run --without apt,chromium,maven --ca-file " + p.caFile + " --proxy " + p.url + " " + flags + " -- " + command + "\n"
}

// TestRun: the command has the variables and the files but not the token, its status is
// kept, and the files are restored.
func TestRun(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	s := newStep(t, "sh")
	before := snapshot(t, filepath.Dir(s.home))
	out, errOut, status := s.run(runLine(p, "", `sh -c 'curl -sS -p http://origin.test/x; echo " token ${BITBUCKET_STEP_OIDC_TOKEN-unset}"; grep -c proxyPort .gradle/gradle.properties; exit 7'`))
	if status != 7 || !strings.HasPrefix(out, "origin /x") || !strings.HasSuffix(out, " token unset\n2\n") {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
	for _, c := range []struct {
		flags, command string
		status         int
		cause          string
	}{
		{"", "missing-command", 127, "not found"},
		{"", "/", 126, "is a directory"},
		{"--token-file /missing", "true", 125, "/missing"},
		{"", "sh -c 'kill -9 $$'", 137, ""},
		{"--only mavn", "true", 2, "did you mean maven?"},
		{"", "", 2, "the command is missing"},
		{"", "curl -sS -p http://denied.test/", 56, "no_rule_matched"},
	} {
		if out, errOut, status := s.run(runLine(p, c.flags, c.command)); status != c.status || !strings.Contains(errOut, c.cause) {
			t.Errorf("%s %s: status %d, want %d: %s%s", c.flags, c.command, status, c.status, out, errOut)
		}
	}
	if after := snapshot(t, filepath.Dir(s.home)); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	shown, errOut, status := s.run("sallyport-step run -- true || echo $?\n" + start(p, "") + "own=$HTTPS_PROXY\nunset HTTPS_PROXY HTTP_PROXY http_proxy https_proxy\n" +
		"sallyport-step run -- sh -c 'echo $HTTPS_PROXY ${BITBUCKET_STEP_OIDC_TOKEN-unset}; exit 7' || echo \"$own $?\"\nsallyport-step run --allow-uid 7 -- true || echo $?\nsallyport-step stop >/dev/null 2>&1\n")
	lines := strings.Split(shown, "\n")
	if status != 0 || len(lines) != 5 || lines[0] != "2" || lines[1] != strings.TrimSuffix(lines[2], " 7")+" unset" || lines[3] != "2" || !strings.Contains(errOut, "--allow-uid is for a forwarder of this command's own") {
		t.Errorf("with the forwarder of start: status %d: %s%s", status, shown, errOut)
	}
}

// TestRunAfterAKilledRun: the files of a run that was killed are restored, and changed
// again.
func TestRunAfterAKilledRun(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	s := newStep(t, "sh")
	before := snapshot(t, filepath.Dir(s.home))
	s.run(runLine(p, "", `sh -c 'kill -9 $PPID'`))
	if !strings.Contains(snapshot(t, s.home), "proxyPort") {
		t.Fatal("the killed run has restored its files")
	}
	out, errOut, status := s.run(runLine(p, "", `sh -c 'echo $HTTPS_PROXY; grep https.proxyPort .gradle/gradle.properties; sallyport-step run --proxy `+p.url+` --ca-file `+p.caFile+` --token-env T -- true'`))
	port, _, _ := strings.Cut(strings.TrimPrefix(out, "http://127.0.0.1:"), "\n")
	if status == 0 || !strings.Contains(out, "proxyPort="+port+"\n") || strings.Contains(errOut, "warning") {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
	_, errOut, status = s.run(runLine(p, "", `sh -c 'export BITBUCKET_STEP_OIDC_TOKEN=`+testToken+`; `+strings.TrimSpace(strings.ReplaceAll(runLine(p, "", "true"), "'", ""))+`'`))
	if status != 0 || !strings.Contains(errOut, "the variables to the forwarder of this command") {
		t.Errorf("status %d: %s", status, errOut)
	}
	if after := snapshot(t, filepath.Dir(s.home)); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestRunPassesSignalsOn: a signal for run reaches the whole process group of the command.
func TestRunPassesSignalsOn(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	s := newStep(t, "sh")
	before := snapshot(t, s.home)
	file := filepath.Join(t.TempDir(), "command")
	if err := os.WriteFile(file, []byte("trap 'echo first; exit 3' TERM\nsh -c 'trap \"echo second; exit\" TERM; echo ready; while :; do sleep 0.1; done' &\nwait\nwait\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, _, _ := s.command(t.TempDir(), "exec "+runLine(p, "", "sh "+file))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.Contains(string(rest), "first") || !strings.Contains(string(rest), "second") {
		t.Errorf("%q, %v", rest, err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("%v", cmd.ProcessState)
	}
	if after := snapshot(t, s.home); after != before {
		t.Errorf("after: %s", after)
	}
}

// TestConnect: standard input and output are connected through the forwarder of start, and
// without one through the proxy; the end of the input is passed on.
func TestConnect(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	s := newStep(t, "sh")
	request := `printf 'GET /x HTTP/1.0\r\n\r\n' | sallyport-step connect `
	own := " --ca-file " + p.caFile + " --proxy " + p.url + "\n"
	for _, c := range []struct {
		script, out, cause string
		status             int
	}{
		{request + "origin.test:80" + own, "origin /x", "", 0},
		{start(p, "") + request + "origin.test:80\nsallyport-step stop 2>/dev/null >&2\n", "origin /x", "", 0},
		{request + "denied.test:80" + own, "", "denied denied.test:80: no_rule_matched", 1},
		{start(p, "") + request + "denied.test:80; s=$?; sallyport-step stop >/dev/null 2>&1; exit $s\n", "", "connect denied.test:80: denied: no_rule_matched, decision 01a1fdf4", 1},
		{request + "origin.test:80\n", "", "no forwarder of sallyport-step is running", 1},
		{request + "origin.test" + own, "", "HOST:PORT", 2},
		{request + own, "", "want one argument", 2},
	} {
		out, errOut, status := s.run(c.script)
		if status != c.status || !strings.Contains(out, c.out) || c.out == "" && out != "" || !strings.Contains(errOut, c.cause) {
			t.Errorf("%s: status %d: %s%s", c.script, status, out, errOut)
		}
		if strings.Count(errOut, "the test refuses it") > 1 {
			t.Errorf("%s: the refusal is printed twice: %s", c.script, errOut)
		}
	}
}

// TestSSHThroughConnect: ssh uses connect as its ProxyCommand. The target is not an ssh
// server: its first bytes arrive.
func TestSSHThroughConnect(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("ssh is not installed")
	}
	t.Parallel()
	p := newSallyport(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p.target = l.Addr().String()
	got := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, "SSH-2.0-test\r\n")
		line, _ := bufio.NewReader(conn).ReadString('\n')
		got <- line
	}()
	s := newStep(t, "sh")
	_, errOut, _ := s.run("ssh -F /dev/null -o BatchMode=yes -o ProxyCommand='sallyport-step connect %h:%p --ca-file " + p.caFile + " --proxy " + p.url + "' git@host.test\n")
	if line := <-got; !strings.HasPrefix(line, "SSH-2.0-") {
		t.Errorf("%q: %s", line, errOut)
	}
}

// TestForward: a port of the forwarder of start, one given to start, and one of forward's
// own reach the target.
func TestForward(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	s := newStep(t, "sh")
	out, errOut, status := s.run("set -e\n" + start(p, "") + "unset HTTP_PROXY http_proxy\n" +
		"at=$(sallyport-step forward 0:db.test:5432)\ncurl -sS --noproxy '*' http://$at/x\nsallyport-step forward 0:db.test || echo \" status $?\"\nsallyport-step stop 2>/dev/null >&2\n" +
		"curl -s --noproxy '*' http://$at/x || echo closed\n")
	if status != 0 || !strings.HasPrefix(out, "origin /x") || !strings.HasSuffix(out, " status 2\nclosed\n") {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
	p.mu.Lock()
	if len(p.targets) != 1 || p.targets[0] != "db.test:5432" {
		t.Errorf("targets %q", p.targets)
	}
	p.mu.Unlock()
	cmd, _, _ := s.command(t.TempDir(), "exec sallyport-step forward 0:db.test:5432 --ca-file "+p.caFile+" --proxy "+p.url+"\n")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(pipe).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if out, errOut, status := s.run("curl -sS --noproxy '*' http://" + address); status != 0 || !strings.HasPrefix(out, "origin /") {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
