package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/webhook/agent"
	agentpg "github.com/sallyport/sallyport/webhook/agent/postgres"
)

// process is a role of the test binary that runs on its own.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{}
}

func start(t testing.TB, as string, s settings) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stderr = pgtest.LogWriter{T: t}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, stdin, make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	if err := json.NewEncoder(stdin).Encode(s); err != nil {
		t.Fatal(err)
	}
	return p
}

// kill ends the process at once (SIGKILL).
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// endpoint keeps the arrivals at one endpoint.
type endpoint struct {
	mu       sync.Mutex
	down     bool
	arrivals []arrived
}

type arrived struct {
	push
	delivery string
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var p push
	err := json.NewDecoder(r.Body).Decode(&p)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil || e.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	e.arrivals = append(e.arrivals, arrived{p, r.Header.Get("Sallyport-Delivery")})
}

func (e *endpoint) recover() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = false
}

// faults compares the arrivals with the list of accepted pushes, in the order of acceptance.
// A push whose acceptance is unknown may arrive or not.
func (e *endpoint) faults(accepted map[string][]int) (lost int, faults []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ids, first := map[int]string{}, map[string][]int{}
	for _, a := range e.arrivals {
		id, repeated := ids[a.Number]
		switch {
		case !repeated:
			ids[a.Number] = a.delivery
			first[a.Repository] = append(first[a.Repository], a.Number)
		case id != a.delivery:
			faults = append(faults, fmt.Sprintf("push %d arrived as %s and %s", a.Number, id, a.delivery))
		}
	}
	for repository, list := range accepted {
		got := slices.DeleteFunc(slices.Clone(first[repository]), func(n int) bool { return !slices.Contains(list, n) })
		lost += len(list) - len(got)
		if want := slices.DeleteFunc(slices.Clone(list), func(n int) bool { return !slices.Contains(got, n) }); !slices.Equal(got, want) {
			faults = append(faults, fmt.Sprintf("%s: arrived %v, accepted %v", repository, got, list))
		}
	}
	return lost, faults
}

// kills has two endpoints that are down, one of them behind an agent, while the gateway,
// PostgreSQL and the agent are killed in turn. It returns how many accepted pushes were
// lost, and what else is wrong, by the sender's own list.
func kills(t *testing.T, rounds int, early bool) (lost int, faults []string) {
	t.Helper()
	server := pgtest.Start(t, pgtest.Options{})
	db := server.New(t)
	if _, _, err := database.Migrate(t.Context(), db.URL(""), nil); err != nil {
		t.Fatal(err)
	}
	store, err := agentpg.Open(t.Context(), db.URL(database.Writer))
	if err != nil {
		t.Fatal(err)
	}
	text, credential := agent.NewCredential("private")
	if err := store.Add(t.Context(), credential, "", "test"); err != nil {
		t.Fatal(err)
	}
	store.Close()
	direct, private := &endpoint{down: true}, &endpoint{down: true}
	at := func(e *endpoint) string {
		s := httptest.NewServer(e)
		t.Cleanup(func() {
			s.CloseClientConnections()
			s.Close()
		})
		return s.URL
	}
	s := settings{Database: db.URL(database.Writer), Listen: freeAddress(t), Direct: at(direct), Private: at(private), Credential: text, Early: early}
	gateway, beside := start(t, "gateway", s), start(t, "agent", s)
	defer func() { gateway.kill(); beside.kill() }()

	sender := &sender{url: "http://" + s.Listen + "/accept", accepted: map[string][]int{}}
	for i := range rounds {
		sender.untilAccepted(t)
		gateway.kill() // right after an acknowledgement
		sender.send(t)
		gateway = start(t, "gateway", s)
		sender.untilAccepted(t)
		beside.kill()
		beside = start(t, "agent", s)
		sender.untilAccepted(t)
		server.Kill(t)
		sender.send(t)
		server.Restart(t)
		if i == rounds*3/4 { // the endpoints recover while the kills continue
			direct.recover()
			private.recover()
		}
	}
	direct.recover()
	private.recover()
	sender.untilAccepted(t)
	sender.untilArrived(t, direct, private)
	deadline := time.Now().Add(time.Minute)
	for !early && missing(sender.accepted, direct, private) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	for _, e := range []*endpoint{direct, private} {
		n, wrong := e.faults(sender.accepted)
		lost, faults = lost+n, append(faults, wrong...)
	}
	t.Logf("%d pushes were accepted, %d arrivals at the endpoint, %d at the agent's", sender.count(), direct.count(), private.count())
	return lost, faults
}

// missing reports whether an accepted push has not arrived everywhere.
func missing(accepted map[string][]int, all ...*endpoint) bool {
	return slices.ContainsFunc(all, func(e *endpoint) bool {
		lost, _ := e.faults(accepted)
		return lost > 0
	})
}

func (e *endpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.arrivals)
}

func (e *endpoint) has(number int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.arrivals, func(a arrived) bool { return a.Number == number })
}

// sender sends pushes one after the other, and keeps the list of accepted ones: the oracle.
type sender struct {
	url      string
	number   int
	accepted map[string][]int
}

// send sends the next push, and reports whether it was accepted.
func (s *sender) send(t *testing.T) bool {
	t.Helper()
	s.number++
	p := push{fmt.Sprintf("acme/r%d", s.number%3), s.number}
	body, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false
	}
	s.accepted[p.Repository] = append(s.accepted[p.Repository], p.Number)
	return true
}

// untilAccepted sends pushes until one of each repository was accepted.
func (s *sender) untilAccepted(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for accepted := 0; accepted < 3; {
		if s.send(t) {
			accepted++
			continue
		}
		if time.Now().After(deadline) {
			t.Fatal("the gateway accepts nothing")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// untilArrived sends pushes until one has arrived everywhere: all processes work.
func (s *sender) untilArrived(t *testing.T, all ...*endpoint) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if !s.send(t) {
			continue
		}
		next := time.Now().Add(time.Second)
		for time.Now().Before(next) {
			if !slices.ContainsFunc(all, func(e *endpoint) bool { return !e.has(s.number) }) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	t.Fatal("nothing arrives")
}

func (s *sender) count() (n int) {
	for _, list := range s.accepted {
		n += len(list)
	}
	return n
}

// freeAddress is an address that a process can listen on, also after it was killed.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// TestKills is the gateway's promise with real processes: what was accepted arrives, in the
// order of its repository, and repeats have the same id.
func TestKills(t *testing.T) {
	t.Parallel()
	lost, faults := kills(t, 3, false)
	if lost != 0 || faults != nil {
		t.Errorf("%d accepted pushes are lost; %v", lost, faults)
	}
}

// TestKillsFindAnEarlyAcknowledgement: the same test finds a gateway that acknowledges
// before it commits.
func TestKillsFindAnEarlyAcknowledgement(t *testing.T) {
	t.Parallel()
	if lost, _ := kills(t, 2, true); lost == 0 {
		t.Error("the test does not find lost pushes")
	}
}
