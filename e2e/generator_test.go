package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// generator sends requests from a process of its own, at the lowest priority: in the
// field clients are other machines, which take no processor time of the server.
type generator struct {
	Proxy string
	// Heads are sent in turn, by as many Connections at once. Each "{i}" in a head is
	// replaced by the number of the request.
	Heads       []string
	Connections int
}

// generatorVariable makes this program a generator, which reads its [generator] from
// standard input.
const generatorVariable = "SALLYPORT_TEST_GENERATOR"

// generate is the generator's process. It sends until its standard input ends, and
// then writes the number of answers by status and reason.
func generate() {
	lowerPriority()
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	var g generator
	if err == nil {
		err = json.Unmarshal(line, &g)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load generator:", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	answers := map[string]int{}
	var next atomic.Int64
	started := make(chan struct{})
	for range g.Connections {
		go func() {
			for {
				i := next.Add(1)
				if i == int64(g.Connections) {
					close(started)
				}
				answer := g.send(int(i))
				mu.Lock()
				answers[answer]++
				mu.Unlock()
			}
		}()
	}
	<-started
	fmt.Println("started")
	_, _ = io.Copy(io.Discard, in)
	mu.Lock()
	defer mu.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(answers)
}

// send sends one head and waits for the head of the answer. The connections come from
// 16 addresses: one address has too few ports.
func (g *generator) send(i int) (answer string) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 4, byte(1+i%16))}, Timeout: patience}
	conn, err := d.Dial("tcp", g.Proxy)
	if err != nil {
		return "not connected"
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, strings.ReplaceAll(g.Heads[i%len(g.Heads)], "{i}", strconv.Itoa(i))); err != nil {
		return "not written"
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return "no answer"
	}
	return strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Sallyport-Reason")))
}

// start starts the process, and returns once each connection was used. stop ends the
// process and returns the number of answers by status and reason.
func (g generator) start(t testing.TB) (stop func() map[string]int) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env, cmd.Stderr = append(os.Environ(), generatorVariable+"=1"), os.Stderr
	cmd.SysProcAttr = ownSession()
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
	end := sync.OnceFunc(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // after a failure its status has no meaning
	})
	t.Cleanup(end)
	if err := json.NewEncoder(in).Encode(g); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("the load generator does not start: %q %v", line, err)
	}
	return func() (answers map[string]int) {
		_ = in.Close()
		if err := json.NewDecoder(lines).Decode(&answers); err != nil {
			t.Errorf("the load generator failed: %v", err)
		}
		end()
		return answers
	}
}
