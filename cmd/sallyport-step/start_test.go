package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/step/session"
	"github.com/sallyport/sallyport/step/shell"
)

const curlAllowed = "curl -sS -p http://origin.test/x\n"

// TestStartAndStop: tools reach targets without a credential, refusals are on standard
// error, the token is nowhere, and after stop everything is as before.
func TestStartAndStop(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	eachShell(t, func(t *testing.T, s *step) {
		gradle := filepath.Join(s.home, ".gradle/gradle.properties")
		if err := os.Mkdir(filepath.Dir(gradle), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(gradle, []byte("a=b"), 0o640); err != nil {
			t.Fatal(err)
		}
		before := snapshot(t, filepath.Dir(s.home))
		cmd, outFile, errFile := s.command(t.TempDir(), "set -eu\nexport HTTP_PROXY=mine\n"+start(p, "--unset-token")+curlAllowed+
			"curl -sS -p http://denied.test/ || echo \" curl $?\"\n"+
			"echo \"token ${BITBUCKET_STEP_OIDC_TOKEN-unset}\"\ncat .gradle/gradle.properties\nls -l .gradle\nenv\n")
		s.redirect(cmd, outFile, errFile)
		_ = cmd.Run()
		out, errOut, status := s.read(outFile), s.read(errFile), cmd.ProcessState.ExitCode()
		if status != 0 || !strings.Contains(out, `origin /x authorization="" proxy=""`) || !strings.Contains(out, "curl 56") || !strings.Contains(out, "token unset") || !strings.Contains(out, "systemProp.https.proxyHost=127.0.0.1") {
			t.Errorf("status %d: %s\n%s", status, out, errOut)
		}
		searchToken(t, s, out, errOut)
		stopped, summary, status := s.run("set -eu\n" + start(p, "") + "HTTP_PROXY=\neval \"$(sallyport-step stop)\"\necho \"${HTTPS_PROXY-unset} ${JAVA_TOOL_OPTIONS-unset} ${SALLYPORT_STEP_SESSION-unset}\"\n")
		if status != 0 || stopped != "unset unset unset\n" || !strings.Contains(summary, "denied           1  denied.test:80") || !strings.Contains(summary, "allowed          1  origin.test:80") {
			t.Errorf("stop: status %d: %q\n%s", status, stopped, summary)
		}
		errOut = s.read(errFile) // complete after the end of the forwarder
		if !strings.Contains(errOut, "sallyport: denied denied.test:80: no_rule_matched: the test refuses it; decision 01a1fdf4") || !strings.Contains(errOut, "(acme/app, enforce mode)") {
			t.Errorf("standard error: %s", errOut)
		}
		if after := snapshot(t, filepath.Dir(s.home)); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

// snapshot lists every file below a directory with its mode and content.
func snapshot(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(path + " " + info.Mode().String())
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.WriteString(" " + info.ModTime().String() + " " + strconv.Quote(string(text)))
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// searchToken searches the output of a step, its files, and the environment and the
// arguments of its forwarder for the token.
func searchToken(t *testing.T, s *step, outputs ...string) {
	t.Helper()
	found := func(where, text string) {
		if strings.Contains(text, testToken) {
			t.Errorf("the token is in %s", where)
		}
	}
	for _, out := range outputs {
		found("the output", out)
	}
	found("a file", snapshot(t, filepath.Dir(s.home)))
	for name, text := range processTexts(t, s.status().PID) {
		found(name+" of the forwarder", text)
	}
}

// processTexts are what other processes can read of a process.
func processTexts(t *testing.T, pid int) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, name := range []string{"environ", "cmdline"} {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
		if err != nil {
			t.Fatal(err)
		}
		texts[name] = string(text)
	}
	return texts
}

// TestHandoverIsNeeded: a process that gets the token in its environment or its arguments
// shows it to processTexts.
func TestHandoverIsNeeded(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "echo ready; read line", testToken)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), defaultTokenVariable + "=" + testToken}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	for name, text := range processTexts(t, cmd.Process.Pid) {
		if !strings.Contains(text, testToken) {
			t.Errorf("the token is not found in %s", name)
		}
	}
	_ = in.Close()
	_ = cmd.Wait()
}

// status is that of the step's forwarder.
func (s *step) status() session.Status {
	s.t.Helper()
	var status session.Status
	path := filepath.Join(s.tmp, "sallyport-step-"+strconv.Itoa(os.Geteuid()))
	if err := session.Call(s.t.Context(), path, session.Request{Operation: session.OperationStatus}, &status); err != nil {
		s.t.Fatal(err)
	}
	return status
}

// failure is one start that fails.
type failure struct {
	name   string
	script string // before start
	flags  string
	cause  string
}

// TestFailedStart: the cause is on standard error, the proxies are a closed port, and a
// script with set -e ends.
func TestFailedStart(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	rows := []failure{
		{"no token", "unset BITBUCKET_STEP_OIDC_TOKEN\n", "", "BITBUCKET_STEP_OIDC_TOKEN is not set"},
		{"refused token", "export BITBUCKET_STEP_OIDC_TOKEN=a.b.c\n", "", "credential_invalid"},
		{"token with a line end", "export BITBUCKET_STEP_OIDC_TOKEN='a\nb'\n", "", "not a token"},
		{"name of a variable", "", "--token-env 'X;id'", "not the name of a variable"},
		{"unknown tool", "", "--only mavn", "did you mean maven?"},
		{"unknown flag", "", "--prxy x", "did you mean --proxy?"},
		{"hostile proxy", "", `--proxy "https://x'; echo BAD; '$(printf '\n')y"`, "sallyport-step: start failed"},
		{"plain proxy", "", "--proxy http://127.0.0.1:1", "without encryption"},
		{"proxy without a scheme", "", "--proxy egress:3129", `--proxy: "egress:3129" is not the URL of a proxy`},
		{"user by name", "", "--allow-uid root", `"root" is not the id of a user`},
		{"address after a space", "", "--listen-docker 172.17.0.1", "write --listen-docker=172.17.0.1"},
		{"wrong authority", "", "--ca-file /dev/null", "no certificate"},
		{"public listener", "", "--listen 0.0.0.0:0", "not an IPv4 address of loopback"},
		{"missing file", "", "--token-file /missing/token", "/missing/token"},
		{"failing command", "", "--token-command 'echo why >&2; false'", "why"},
		{"forward", "", "--forward 1:2", "not a forwarded port"},
		{"relative session", "export SALLYPORT_STEP_SESSION=x\n", "", "not absolute"},
		{"session of others", "mkdir \"$TMPDIR/s\"; chmod 755 \"$TMPDIR/s\"; export SALLYPORT_STEP_SESSION=\"$TMPDIR/s\"\n", "", "chmod 700"},
		{"directory of others", "mkdir \"$TMPDIR/o\"; chmod 777 \"$TMPDIR/o\"; export SALLYPORT_STEP_SESSION=\"$TMPDIR/o/s\"\n", "", "other users can write"},
	}
	eachShell(t, func(t *testing.T, s *step) {
		for _, row := range rows {
			line := start(p, row.flags)
			if row.name == "plain proxy" {
				line = strings.Replace(line, p.url, "", 1)
				line = strings.Replace(line, "--proxy ", "", 1)
			}
			out, errOut, status := s.run(row.script + line + "echo \"status $? $HTTPS_PROXY $http_proxy $npm_config_proxy $JAVA_TOOL_OPTIONS\"\n")
			if !strings.HasPrefix(out, "status 1 http://127.0.0.1:9 http://127.0.0.1:9 http://127.0.0.1:9 ") || !strings.Contains(out, "proxyPort=9 ") || strings.Contains(errOut, "\nBAD") || !strings.Contains(errOut, row.cause) {
				t.Errorf("%s: status %d: %s%s", row.name, status, out, errOut)
			}
			if out, _, status = s.run("set -e\n" + row.script + line + "echo continued\n"); out != "" || status == 0 {
				t.Errorf("%s: with set -e: status %d: %s", row.name, status, out)
			}
		}
		if left := snapshot(t, s.home); strings.Contains(left, "proxyPort") {
			t.Errorf("a file was changed: %s", left)
		}
		out, errOut, _ := s.run(start(p, "--only mavn") + "eval \"$(sallyport-step stop)\"\necho \"${HTTPS_PROXY-unset}\"\n")
		if out != "unset\n" {
			t.Errorf("stop after a start that failed: %s%s", out, errOut)
		}
	})
}

// TestKilledStart: a start that is killed before it printed its result leaves closed
// proxies, and a forwarder that ends by itself.
func TestKilledStart(t *testing.T) {
	t.Parallel()
	eachShell(t, func(t *testing.T, s *step) {
		printed, status := killStart(t, s)
		if printed != "" && (strings.HasPrefix(printed, "status 0") || !strings.Contains(printed, "http://127.0.0.1:9")) {
			t.Errorf("printed %q", printed)
		}
		if printed == "" && status == 0 {
			t.Error("the shell ended with status 0")
		}
	})
}

// TestOpeningIsNeeded: without the opening, the script of a killed start is empty, and the
// step continues without a proxy.
func TestOpeningIsNeeded(t *testing.T) {
	t.Parallel()
	eachShell(t, func(t *testing.T, s *step) {
		s.env = append(s.env, mainVariable+"="+withoutOpening)
		if printed, status := killStart(t, s); status != 0 || printed != "status 0 \n" {
			t.Errorf("status %d, printed %q", status, printed)
		}
	})
}

// killStart kills a start that waits for the proxy, and returns what the shell then prints.
func killStart(t *testing.T, s *step) (printed string, status int) {
	t.Helper()
	p := newSallyport(t)
	p.hold = make(chan struct{})
	// The shell writes the process id of start through a wrapper that it becomes.
	script := strings.Replace(start(p, ""), "sallyport-step", `sh -c 'echo $$ >pid; exec sallyport-step "$@"' x`, 1)
	cmd, out, errOut := s.command(t.TempDir(), script+"echo \"status $? ${HTTPS_PROXY-}\"\n")
	s.redirect(cmd, out, errOut)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-p.asked
	pid, err := strconv.Atoi(strings.TrimSpace(s.read(filepath.Join(s.home, "pid"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	close(p.hold)
	path := filepath.Join(s.tmp, "sallyport-step-"+strconv.Itoa(os.Geteuid()))
	if dir, err := session.Open(path); err == nil {
		if err := dir.WaitEnded(t.Context()); err != nil {
			t.Error(err)
		}
	}
	return s.read(out), cmd.ProcessState.ExitCode()
}

// TestOpeningIsFirst: the opening is printed by the first write, in one piece.
func TestOpeningIsFirst(t *testing.T) {
	var out bytes.Buffer
	printOpening([]string{"start", "--proxy", "x"}, &out)
	if out.Len() == 0 || out.Len() > shell.MaxOpeningBytes {
		t.Errorf("%d bytes", out.Len())
	}
	for _, args := range [][]string{{"start", "--help"}, {"stop"}, nil} {
		out.Reset()
		if printOpening(args, &out); out.Len() > 0 {
			t.Errorf("%q prints %s", args, &out)
		}
	}
}

// TestSecondStart: the same options keep the forwarder; other ones, or another token,
// replace it.
func TestSecondStart(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	s := newStep(t, "sh")
	show := "echo \"$HTTPS_PROXY\"\n"
	_, errOut, status := s.run("set -e\n" + start(p, "") + show)
	first := s.status()
	if status != 0 {
		t.Fatal(errOut)
	}
	out, errOut, _ := s.run("set -e\n" + start(p, "") + start(p, "") + show + curlAllowed)
	if s.status().PID != first.PID || !strings.HasPrefix(out, "http://"+first.Forwarder.String()+"\norigin") || strings.Contains(errOut, "replaced") {
		t.Errorf("%s%s", out, errOut)
	}
	out, errOut, status = s.run("set -e\n" + start(p, "--allow-uid 12345") + curlAllowed)
	second := s.status()
	if status != 0 || second.PID == first.PID || !strings.Contains(errOut, "is replaced") || !strings.HasPrefix(out, "origin") {
		t.Errorf("%d %s%s", status, out, errOut)
	}
	// Other options about tools change their files too.
	out, errOut, status = s.run("set -e\n" + start(p, "--no-proxy cache") + "cat .gradle/gradle.properties\n")
	if status != 0 || !strings.Contains(errOut, "is replaced") || !strings.Contains(out, "|cache|") {
		t.Errorf("%d %s%s", status, out, errOut)
	}
	// A start that fails leaves no forwarder of another token behind.
	if _, errOut, status = s.run("set -e\nexport BITBUCKET_STEP_OIDC_TOKEN=a.b.c\n" + start(p, "--allow-uid 12345")); status == 0 || !strings.Contains(errOut, "is replaced") {
		t.Errorf("%d %s", status, errOut)
	}
	// A shell that evaluated no script of start has nothing to restore.
	if out, errOut, status = s.run("sallyport-step stop\n"); status != 0 || out != "" || !strings.Contains(errOut, "no forwarder is running") {
		t.Errorf("%d %s%s", status, out, errOut)
	}
}

// TestEndsWithoutStop: a forwarder that is killed leaves files that stop restores, and one
// that is terminated or whose lifetime ends restores them itself.
func TestEndsWithoutStop(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	for _, c := range []struct {
		name, flags string
		signal      syscall.Signal
	}{{"killed", "", syscall.SIGKILL}, {"terminated", "", syscall.SIGTERM}, {"lifetime", "--lifetime 1ms", 0}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStep(t, "sh")
			before := snapshot(t, filepath.Dir(s.home))
			cmd, _, _ := s.command(t.TempDir(), "set -e\n"+start(p, c.flags))
			ended, err := cmd.StderrPipe() // the forwarder holds its other end until it ends
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if state, err := cmd.Process.Wait(); err != nil || !state.Success() {
				t.Fatal(state, err)
			}
			if c.signal != 0 {
				if err := syscall.Kill(s.status().PID, c.signal); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.ReadAll(ended); err != nil {
				t.Fatal(err)
			}
			if c.signal == syscall.SIGKILL {
				if !strings.Contains(snapshot(t, s.home), "proxyPort") {
					t.Error("the file was restored by a killed process")
				}
				if _, errOut, status := s.run("sallyport-step stop\n"); status != 0 {
					t.Error(errOut)
				}
			}
			if after := snapshot(t, filepath.Dir(s.home)); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// TestStopReportsEdits: a file that cannot be restored is named, and the status is 1.
func TestStopReportsEdits(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	s := newStep(t, "sh")
	_, errOut, status := s.run("set -e\necho a=b >.gradle.old; mkdir .gradle; cp .gradle.old .gradle/gradle.properties\n" + start(p, "") +
		"sed -i s/proxyPort/proxyport/ .gradle/gradle.properties\nsallyport-step stop\n")
	if status != 1 || !strings.Contains(errOut, "not restored: gradle: ") || !strings.Contains(errOut, "the original is ") {
		t.Errorf("status %d: %s", status, errOut)
	}
	if text := s.read(filepath.Join(s.home, ".gradle/gradle.properties")); !strings.Contains(text, "proxyport") {
		t.Errorf("the edit is lost: %s", text)
	}
}
