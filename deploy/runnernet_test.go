package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/netcheck"
)

// role is set in the environment of processes of a test of firewall rules: roleHost is the
// runner's machine, in a network namespace of its own, rolePeer obeys lines on its
// standard input.
const (
	role     = "SALLYPORT_TEST_ROLE"
	roleHost = "host"
	rolePeer = "peer"
	stepUser = "SALLYPORT_TEST_STEP_USER" // the user of steps
)

// noNamespace is the exit status of a process that may not change its network.
const noNamespace = 77

// inNamespace runs the body of a test in a process with a network namespace of its own, as
// root or in a user namespace. It skips the test where neither is permitted.
func inNamespace(t *testing.T, body func(*testing.T)) {
	if os.Getenv(role) == roleHost {
		for _, probe := range []string{"ip link add probe0 type veth peer name probe1 && ip link del probe0", "nft add table inet probe && nft delete table inet probe"} {
			if out, err := shell(probe).CombinedOutput(); err != nil {
				fmt.Printf("%s: %v\n%s\n", probe, err, out)
				os.Exit(noNamespace)
			}
		}
		body(t)
		return
	}
	t.Parallel()
	for _, program := range []string{"ip", "nft"} {
		if out, err := shell("command -v " + program).CombinedOutput(); err != nil {
			t.Skipf("%s is not installed (tools/needs.sh %s): %v %s", program, program, err, out)
		}
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that started the process
	defer runtime.UnlockOSThread()
	one := func(id int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: id, Size: 1}} }
	var last string
	for _, c := range []struct {
		user string
		attr *syscall.SysProcAttr
	}{
		{"65534", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}},
		{"0", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, UidMappings: one(os.Getuid()), GidMappings: one(os.Getgid())}},
	} {
		c.attr.Pdeathsig = syscall.SIGKILL
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=3m")
		cmd.Env, cmd.SysProcAttr = append(os.Environ(), role+"="+roleHost, stepUser+"="+c.user), c.attr
		out, err := cmd.CombinedOutput()
		if _, ran := errors.AsType[*exec.ExitError](err); err == nil || ran && cmd.ProcessState.ExitCode() != noNamespace {
			t.Logf("in a network namespace:\n%s", out)
			if err != nil {
				t.Error(err)
			}
			return
		}
		last = fmt.Sprintf("%v %s", err, out)
	}
	t.Skipf("no network namespace can be made, as root or in a user namespace: %s", last)
}

// shell is a command line with the directories of administrators' programs in its path.
func shell(command string) *exec.Cmd {
	cmd := exec.Command("sh", "-euc", command)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	return cmd
}

// run runs a command line in this process's network.
func run(t *testing.T, command string) {
	t.Helper()
	if out, err := shell(command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// peer is a process that obeys lines: a step, or all of the world outside.
type peer struct {
	pid int
	in  io.Writer
	out *bufio.Scanner
}

// startPeer starts a peer, in a network namespace of its own or as another user.
func startPeer(t *testing.T, attr *syscall.SysProcAttr) *peer {
	t.Helper()
	runtime.LockOSThread() // until the test's goroutine ends: the peer ends with its thread
	attr.Pdeathsig = syscall.SIGKILL
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestRunnerPeer$")
	cmd.Env, cmd.SysProcAttr, cmd.Stderr, cmd.Dir = append(os.Environ(), role+"="+rolePeer), attr, os.Stderr, "/"
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
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return &peer{cmd.Process.Pid, in, bufio.NewScanner(out)}
}

// do sends a line and returns the reply.
func (p *peer) do(t *testing.T, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if !p.out.Scan() {
		t.Fatalf("%s: no reply: %v", line, p.out.Err())
	}
	return p.out.Text()
}

// must sends a line whose reply has to be ok.
func (p *peer) must(t *testing.T, line string) {
	t.Helper()
	if reply := p.do(t, line); reply != "ok" {
		t.Fatalf("%s: %s", line, reply)
	}
}

// TestRunnerPeer is the process of a peer, and no test by itself.
func TestRunnerPeer(t *testing.T) {
	if os.Getenv(role) != rolePeer {
		t.Skip("a process of the tests of firewall rules")
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		command, argument, _ := strings.Cut(lines.Text(), " ")
		reply := "ok"
		if err := obey(command, argument, &reply); err != nil {
			reply = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(reply)
	}
	os.Exit(0)
}

func obey(command, argument string, reply *string) error {
	switch command {
	case "sh":
		if out, err := shell(argument).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	case "serve":
		return serve(argument)
	case "dial":
		conn, err := net.DialTimeout("tcp", argument, patience)
		if err == nil {
			conn.Close()
		}
		return err
	case "check":
		c := netcheck.Config{Timeout: patience}
		if err := json.Unmarshal([]byte(argument), &c); err != nil {
			return err
		}
		check, err := netcheck.Check(context.Background(), c)
		if err != nil {
			return err
		}
		b, err := json.Marshal(check)
		*reply = string(b)
		return err
	}
	return errors.New("unknown command")
}

// patience bounds one attempt to connect. Nothing waits for it: rules reject at once, and
// the world answers at once.
const patience = 20 * time.Second

// serve accepts TCP connections at addresses, and answers DNS queries and other datagrams
// there.
func serve(addresses string) error {
	for address := range strings.FieldsSeq(addresses) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, conn); conn.Close() }()
			}
		}()
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		go func() {
			b := make([]byte, 2048)
			for {
				n, from, err := udp.ReadFrom(b)
				if err != nil {
					return
				}
				b[2] |= 0x80 // a response, for DNS
				_, _ = udp.WriteTo(b[:n], from)
			}
		}()
	}
	return nil
}

// outcomes returns the results of a check as one text: name, address and outcome.
func outcomes(t *testing.T, p *peer, c netcheck.Config) map[string]string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"TCP": c.TCP, "UDP": c.UDP, "DNS": c.DNS, "IPv6": c.IPv6, "Metadata": c.Metadata})
	if err != nil {
		t.Fatal(err)
	}
	reply := p.do(t, "check "+string(b))
	var check stepapi.NetworkCheck
	if err := json.Unmarshal([]byte(reply), &check); err != nil {
		t.Fatalf("%s: %v", reply, err)
	}
	all := map[string]string{}
	for _, r := range check.Results {
		all[r.Test+" "+r.Address] = r.Outcome
		if r.Outcome == stepapi.OutcomeError {
			t.Errorf("%s %s: %s", r.Test, r.Address, r.Detail)
		}
	}
	return all
}

// load loads firewall rules in place of all others.
func load(t *testing.T, rules string) {
	t.Helper()
	cmd := shell("nft -f -")
	cmd.Stdin = bytes.NewReader([]byte("flush ruleset\n" + rules))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

// stepUserID is the user of steps in this test.
func stepUserID(t *testing.T) int {
	t.Helper()
	id, err := strconv.Atoi(os.Getenv(stepUser))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
