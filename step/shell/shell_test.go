package shell

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shells are the shells of build images, as commands.
var shells = [][]string{{"dash"}, {"bash"}, {"bash", "--posix"}, {"busybox", "ash"}, {"mksh"}}

// eachShell runs a test for each installed shell.
func eachShell(t *testing.T, test func(t *testing.T, run func(script string, env ...string) (out string, status int))) {
	t.Helper()
	found := 0
	for _, shell := range shells {
		if _, err := exec.LookPath(shell[0]); err != nil {
			continue
		}
		found++
		t.Run(strings.Join(shell, " "), func(t *testing.T) {
			t.Parallel()
			test(t, func(script string, env ...string) (string, int) {
				file := filepath.Join(t.TempDir(), "script")
				if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
					t.Fatal(err)
				}
				cmd := exec.CommandContext(t.Context(), shell[0], append(shell[1:], file)...)
				cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
				out, _ := cmd.CombinedOutput()
				return string(out), cmd.ProcessState.ExitCode()
			})
		})
	}
	if found == 0 {
		t.Fatal("there is no shell")
	}
}

var (
	closed = []Variable{{"HTTPS_PROXY", "http://127.0.0.1:9"}, {"https_proxy", "http://127.0.0.1:9"}, {"NO_PROXY", "localhost"}, {"YARN_HTTP_PROXY", "http://127.0.0.1:9"}}
	live   = []Variable{{"HTTPS_PROXY", "http://127.0.0.1:3128"}, {"https_proxy", "http://127.0.0.1:3128"}, {"NO_PROXY", "a b'c\"d$e`f\\g\nh*;&|<>"}, {"SALLYPORT_STEP_SESSION", "/s"}}
)

const show = "\nprintf 'HTTPS=%s https=%s NO=%s YARN=%s S=%s T=%s' \"${HTTPS_PROXY-unset}\" \"${https_proxy-unset}\" \"${NO_PROXY-unset}\" \"${YARN_HTTP_PROXY-unset}\" \"${SALLYPORT_STEP_SESSION-unset}\" \"${TOKEN-unset}\"\n"

// evaluated is a step's script that evaluates what a file has, as eval "$(start)" does.
func evaluated(t *testing.T, printed []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "printed")
	if err := os.WriteFile(file, printed, 0o600); err != nil {
		t.Fatal(err)
	}
	return "eval \"$(cat " + Quote(file) + ")\"\n"
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestSuccess: hostile values arrive as they are, variables of other tools keep theirs,
// and stop restores all.
func TestSuccess(t *testing.T) {
	eachShell(t, func(t *testing.T, run func(string, ...string) (string, int)) {
		env := []string{"HTTPS_PROXY=was 'x'", "YARN_HTTP_PROXY=mine", "TOKEN=secret"}
		start := evaluated(t, join(Opening(closed), Success(live, closed, []string{"TOKEN"})))
		out, status := run("set -eu\n"+start+show, env...)
		want := "HTTPS=http://127.0.0.1:3128 https=http://127.0.0.1:3128 NO=" + live[2].Value + " YARN=mine S=/s T=unset"
		if out != want || status != 0 {
			t.Errorf("status %d, got %q\nwant %q", status, out, want)
		}
		stop := evaluated(t, Restore(append(closed, live[3]), []string{"SALLYPORT_STEP_SESSION"}))
		if out, status = run("set -eu\n"+start+start+stop+show, env...); out != "HTTPS=was 'x' https=unset NO=unset YARN=mine S=unset T=unset" || status != 0 {
			t.Errorf("after stop: status %d, %q", status, out)
		}
		if out, status = run("set -eu\n"+stop+show, env...); out != "HTTPS=was 'x' https=unset NO=unset YARN=mine S=unset T=secret" || status != 0 {
			t.Errorf("stop alone: status %d, %q", status, out)
		}
	})
}

// TestFailure: the cause is reported, the proxies are closed, and the step ends.
func TestFailure(t *testing.T) {
	eachShell(t, func(t *testing.T, run func(string, ...string) (string, int)) {
		const cause = "start: it's `broken` $(now) \"\n%s\\"
		start := evaluated(t, join(Opening(closed), Failure(cause)))
		out, status := run("set -e\n" + start + "echo continued")
		if out != cause+"\n" || status == 0 {
			t.Errorf("status %d, %q", status, out)
		}
		if out, _ = run(start + show); out != cause+"\nHTTPS=http://127.0.0.1:9 https=http://127.0.0.1:9 NO=localhost YARN=http://127.0.0.1:9 S=unset T=unset" {
			t.Errorf("without set -e: %q", out)
		}
		if out, status = run(start + "exit $?"); status == 0 {
			t.Errorf("the status of eval is 0: %q", out)
		}
	})
}

// TestCut: a script that was cut anywhere never exports a live proxy, and never ends with
// status 0 before a proxy is closed, except the empty one.
func TestCut(t *testing.T) {
	eachShell(t, func(t *testing.T, run func(string, ...string) (string, int)) {
		whole := join(Opening(closed), Success(live, closed, nil))
		opening := len(Opening(closed))
		var b strings.Builder
		for n := 1; n < len(whole)-1; n += 7 { // each in a subshell: a syntax error ends a shell
			b.WriteString("( eval " + Quote(string(whole[:n])) + "\n s=$?; case ${HTTPS_PROXY-} in *:9) [ \"${https_proxy-}\" = \"$HTTPS_PROXY\" ] && exit 0;; '') [ $s != 0 ] && exit 0;; esac; echo BAD " +
				Quote(string(whole[max(0, n-10):n])) + " \"$s ${HTTPS_PROXY-}\" ) 2>/dev/null\n")
		}
		if out, _ := run(b.String()); strings.Contains(out, "BAD") {
			t.Error(out)
		}
		out, _ := run("( eval " + Quote(string(whole[:opening])) + " ); echo $?")
		if strings.HasSuffix(out, "\n0\n") {
			t.Errorf("the opening alone succeeds: %q", out)
		}
	})
}

// TestOpeningIsNeeded: without the opening, a start that printed only the failure it knew
// of, or was cut before it, leaves the step without a proxy.
func TestOpeningIsNeeded(t *testing.T) {
	eachShell(t, func(t *testing.T, run func(string, ...string) (string, int)) {
		if out, _ := run(evaluated(t, join([]byte("{\n"), Failure("x"))) + show); !strings.Contains(out, "HTTPS=unset") {
			t.Errorf("got %q", out)
		}
		cut := Success(live, nil, nil)
		if out, status := run(evaluated(t, cut[:bytes.Index(cut, []byte(" https_proxy"))]) + "exit $?"); status != 0 {
			t.Errorf("a cut list of exports without a compound command fails: %d %q", status, out)
		}
	})
}

func FuzzQuote(f *testing.F) {
	f.Add("it's\n`x` $(y) \\ \"")
	f.Fuzz(func(t *testing.T, s string) {
		// What the shell reads: quoted parts are literal, and \' is a quote.
		var read strings.Builder
		for rest, quoted := Quote(s), false; rest != ""; rest = rest[1:] {
			switch {
			case rest[0] == '\'':
				quoted = !quoted
			case quoted:
				read.WriteByte(rest[0])
			case strings.HasPrefix(rest, `\'`):
				read.WriteByte('\'')
				rest = rest[1:]
			default:
				t.Fatalf("%q is outside quotes in %q", rest[0], Quote(s))
			}
		}
		if read.String() != strings.ReplaceAll(s, "\x00", "") {
			t.Errorf("%q became %q", s, read.String())
		}
	})
}
