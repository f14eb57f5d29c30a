package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// manager acts as the server's service manager: it keeps the listening sockets,
// passes them on, and receives the server's notifications.
type manager struct {
	t     testing.TB
	w     *fixture
	files []*os.File // from descriptor 3 on
}

// manage opens the fixture's listeners, as systemd does for a socket unit.
func manage(t testing.TB, w *fixture, addresses ...string) *manager {
	t.Helper()
	m := &manager{t: t, w: w}
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		m.pass(l.(*net.TCPListener).File())
		_ = l.Close() // the file continues
	}
	return m
}

// pass adds a file to those that processes are started with.
func (m *manager) pass(file *os.File, err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = file.Close() })
	m.files = append(m.files, file)
}

// managed is a process of the manager's.
type managed struct {
	*server
	notifications chan string // its notifications to the manager
}

// run starts a process with the sockets. LISTEN_PID has to be its own, which
// only a shell that becomes it can know.
func (m *manager) run(env ...string) *managed {
	m.t.Helper()
	return m.runWith(m.w.config, env...)
}

func (m *manager) runWith(config string, env ...string) *managed {
	m.t.Helper()
	directory, err := os.MkdirTemp("", "sallyport-notify-") // a socket's path has to be short
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = os.RemoveAll(directory) })
	path := filepath.Join(directory, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		m.t.Fatal(err)
	}
	p := &managed{&server{t: m.t, admin: m.w.admin, log: newLogbook(), ended: make(chan struct{})}, make(chan string, 1024)}
	go p.listen(socket)
	p.cmd = exec.Command("sh", "-c", `: "${LISTEN_PID=$$}"; export LISTEN_PID; exec "$0" serve -c "$1"`, m.w.program, config)
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, fmt.Sprintf("LISTEN_FDS=%d", len(m.files)))
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.ExtraFiles = m.files
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	m.t.Cleanup(func() {
		if p.running() {
			p.signal(syscall.SIGTERM)
			p.await(-1)
		}
		_ = socket.Close()
		if m.t.Failed() {
			m.t.Logf("the log of process %d:\n%s", p.cmd.Process.Pid, tail(p.log.text()))
		}
	})
	return p
}

func (p *managed) listen(socket *net.UnixConn) {
	message := make([]byte, 4096)
	for {
		n, err := socket.Read(message)
		if err != nil {
			return
		}
		state, _, _ := strings.Cut(string(message[:n]), "\n")
		p.notifications <- state
	}
}

// expect waits until the manager receives this notification, whatever it receives before.
func (p *managed) expect(state string) {
	p.t.Helper()
	late := time.After(patience)
	for {
		select {
		case got := <-p.notifications:
			if got == state {
				return
			}
		case <-p.ended:
			p.t.Fatalf("the process ended, and did not say %s: %v", state, p.err)
		case <-late:
			p.t.Fatalf("the manager was not told %s", state)
		}
	}
}

// flood opens tunnels without a pause, sends a word in each and closes it.
type flood struct {
	done   atomic.Int64
	stop   chan struct{}
	once   sync.Once
	all    sync.WaitGroup
	mu     sync.Mutex
	failed []string
}

func startFlood(address, head string, workers int) *flood {
	f := &flood{stop: make(chan struct{})}
	for range workers {
		f.all.Go(func() {
			for {
				select {
				case <-f.stop:
					return
				default:
				}
				if err := throughTunnel(address, head); err != nil {
					f.mu.Lock()
					f.failed = append(f.failed, err.Error())
					f.mu.Unlock()
				}
				f.done.Add(1)
			}
		})
	}
	return f
}

// throughTunnel is one connection, one CONNECT and one word there and back.
func throughTunnel(address, head string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	if _, err := io.WriteString(conn, "word"); err != nil {
		return err
	}
	back := make([]byte, 4)
	if _, err := io.ReadFull(in, back); err != nil || string(back) != "word" {
		return fmt.Errorf("heard %q: %v", back, err)
	}
	return nil
}

// progress waits for so many more visits.
func (f *flood) progress(t testing.TB, visits int64) {
	t.Helper()
	until := f.done.Load() + visits
	eventually(t, "connections are served", func() bool { return f.done.Load() >= until })
}

func (f *flood) halt() {
	f.once.Do(func() { close(f.stop) })
	f.all.Wait()
}

func (f *flood) end(t testing.TB) int64 {
	t.Helper()
	f.halt()
	if len(f.failed) > 0 {
		t.Errorf("%d of %d connections failed, the first: %s", len(f.failed), f.done.Load(), f.failed[0])
	}
	return f.done.Load()
}

// beside is the fixture's configuration with a data directory of its own.
func (w *fixture) beside(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(text), w.data, w.data+"2", 1)
	if other == string(text) {
		t.Fatalf("the configuration does not name %s", w.data)
	}
	path := w.config + ".beside.yaml"
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestUpgradeRefusesNothing floods the server while one process after another
// takes over the same sockets: at the same time, and with a gap between them.
func TestUpgradeRefusesNothing(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{extra: "limits: {step: {requests_per_second: 0}, repository: {requests_per_second: 0}}\n"})
	m := manage(t, w, w.proxy, w.admin)
	current := m.run()
	current.expect("READY=1")
	target := echo(t)
	flooding, holding := w.anybody(), w.anybody()
	to := "raw.partner.example:" + target.port
	f := startFlood(w.proxy, connectTo(to, flooding.basic()), 4)
	defer f.halt()
	f.progress(t, 20)

	// Processes that run beside each other have a data_directory each.
	configs := []string{w.config, w.beside(t)}
	for i := range 3 {
		held := w.tunnel(t, holding, to)
		held.echoes(t, "before")
		next := m.runWith(configs[(i+1)%2])
		next.expect("READY=1")
		// The tunnel may have come to either.
		current.signal(syscall.SIGTERM)
		current.expect("STOPPING=1")
		f.progress(t, 20)
		held.echoes(t, "and after")
		held.conn.Close()
		current.await(0)
		current = next
		f.progress(t, 20)
	}
	for range 2 {
		current.signal(syscall.SIGTERM)
		current.await(0)
		current = m.run()
		current.expect("READY=1")
		f.progress(t, 20)
	}
	visits := f.end(t)
	current.signal(syscall.SIGTERM)
	current.await(0)

	// Every one of them is recorded, allowed and ended once.
	rows := w.query(t, `SELECT count(*) AS n, count(closed_at) AS closed FROM audit.decisions WHERE step_uuid = $1::text::uuid AND verdict = 'allow'`, flooding.step.UUID)
	check(t, "audit rows", rows[0], fields{"n": visits, "closed": visits})
	rows = w.query(t, `SELECT count(*) AS n, count(ended_at) AS ended, sum(missing) AS missing FROM audit.writers`)
	check(t, "writers", rows[0], fields{"n": 6, "ended": 6, "missing": 0})
	t.Logf("%d connections over 5 restarts", visits)
}

// TestManager: the server notifies the manager of its start, of a reload and of its
// health, and answers a health check.
func TestManager(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	p := manage(t, w).run("WATCHDOG_USEC=200000", "LISTEN_PID=1", "LISTEN_FDS=7") // sockets for another process
	p.expect("READY=1")
	for range 3 {
		p.expect("WATCHDOG=1")
	}
	p.signal(syscall.SIGHUP)
	p.expect("RELOADING=1")
	p.expect("READY=1")
	p.ready()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"health", "-c", w.config}, "up\n"},
		{[]string{"health", "--url", "http://" + w.admin}, "up\n"},
		{[]string{"health", "--ready", "-c", w.config}, "ready\n"},
	} {
		if code, out, output := command(t, c.args...); code != 0 || out != c.want {
			t.Errorf("%v ended with %d: %q %s", c.args, code, out, output)
		}
	}
	p.signal(syscall.SIGTERM)
	p.expect("STOPPING=1")
	p.await(0)
	if code, _, output := command(t, "health", "-c", w.config); code != 1 || !strings.Contains(output, "is it running") {
		t.Errorf("health of nothing ended with %d: %s", code, output)
	}
}

// TestHealthNamesTheFault queries an instance that runs and is not ready.
func TestHealthNamesTheFault(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"ready": false, "checks": {"policy": "ok", "audit": "the database is away"}}`)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	url := "http://" + l.Addr().String()
	if code, out, output := command(t, "health", "--url", url); code != 0 || out != "up\n" {
		t.Errorf("health ended with %d: %q %s", code, out, output)
	}
	if code, out, output := command(t, "health", "--ready", "--url", url); code != 1 || out != "" || output != "sallyport: not ready\naudit: the database is away\n" {
		t.Errorf("health --ready ended with %d: %q %q", code, out, output)
	}
}

// TestSocketsThatDoNotFit: a socket that nothing would be served on ends the
// start, and the error names the socket.
func TestSocketsThatDoNotFit(t *testing.T) {
	t.Parallel()
	stray := freeAddress(t)
	for _, c := range []struct {
		name string
		open func(*testing.T, *fixture) *manager
		env  []string
		says []string
	}{
		{"of no key", func(t *testing.T, w *fixture) *manager { return manage(t, w, w.proxy, stray) }, []string{"LISTEN_FDNAMES=proxy:other"},
			[]string{`descriptor 4 \"other\"`, stray, "listeners[].address"}},
		{"none at all", func(t *testing.T, w *fixture) *manager {
			m := manage(t, w)
			m.pass(os.Open(os.DevNull))
			return m
		}, nil, []string{"descriptor 3", "not a listening socket", "ListenStream="}},
		{"of another family", func(t *testing.T, w *fixture) *manager {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			m := manage(t, w)
			m.pass(l.File())
			return m
		}, nil, []string{"descriptor 3", "TCP sockets only"}},
		{"not a number", func(t *testing.T, w *fixture) *manager { return manage(t, w) }, []string{"LISTEN_FDS=many"}, []string{"LISTEN_FDS", "many"}},
		{"names that do not match", func(t *testing.T, w *fixture) *manager { return manage(t, w, w.proxy) }, []string{"LISTEN_FDNAMES=a:b"},
			[]string{"LISTEN_FDNAMES", "2 names for 1 sockets"}},
		{"a watchdog without a time", func(t *testing.T, w *fixture) *manager { return manage(t, w) }, []string{"WATCHDOG_USEC=soon"}, []string{"WATCHDOG_USEC"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, options{embedded: true}) // which is not started
			p := c.open(t, w).run(c.env...)
			p.await(1)
			text := strings.ReplaceAll(p.log.text(), `"`, `\"`)
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
		})
	}
}
