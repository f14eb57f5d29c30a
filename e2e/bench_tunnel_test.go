package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/elazarl/goproxy"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// The tunnels of a benchmark go to this machine, as with the bare proxy.
const benchPolicy = `package sallyport.egress

allow contains {"rule": "bench", "protocol": "any", "allow_ip_literal": true} if input.target.host == "127.0.0.1"
`

const (
	benchRounds = 3
	benchTime   = 1500 * time.Millisecond // of each load in each round
	benchRate   = 1_000_000               // requests a second: no limit, but the width of the gate
)

// benchLoad opens tunnels, carries a byte each way and closes them: so many clients of each
// repository. Where measured is set, only the first repository's tunnels are counted.
type benchLoad struct {
	name     string
	clients  []int
	measured bool
}

var benchLoads = []benchLoad{
	{"one at a time", []int{1}, false},
	{"16 of one repository", []int{16}, false},
	{"8 each of two repositories", []int{8, 8}, false},
	{"one at a time beside 16 of another repository", []int{1, 16}, true},
}

// benchTarget is a proxy that is measured.
type benchTarget struct {
	name      string
	proxy     string
	processes func() float64 // seconds of processor time of the proxy
	database  func() float64 // and of PostgreSQL
	heads     [2][]string    // CONNECT of each step, by repository
}

// benchResult is one load in one round.
type benchResult struct {
	tunnels  float64 // per second
	cpu      float64 // µs of the proxy per tunnel, of whatever repository
	database float64
	took     latencies
}

// BenchmarkTunnels measures new tunnels through the running server with a PostgreSQL that
// waits for the disk: as it is, without the pacing of contended repositories (a build
// overlay), and through bare goproxy. The targets take turns in each round; the figures are
// medians of the rounds. Processor times are per tunnel, in microseconds. Run it alone on a
// machine:
//
//	go test ./e2e -run '^$' -bench '^BenchmarkTunnels$'
func BenchmarkTunnels(b *testing.B) {
	echo := newTap(b, "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(c, c) })
	to := "127.0.0.1:" + echo.port
	database, postgres := newServerDatabase(b)
	second := postgres.New(b)
	if err := migrate(b.Context(), released(b), second.URL("")); err != nil {
		b.Fatal(err)
	}
	targets := []*benchTarget{
		newBenchServer(b, "paced", released(b), database, postgres, to),
		newBenchServer(b, "not paced", builds.get(b, "unpaced", withoutPacing), nameDatabase(b, second), postgres, to),
		newBareProxy(b, to),
	}
	results := map[string][]benchResult{}
	for round := range benchRounds + 1 { // the first one only warms up
		for _, load := range benchLoads {
			for _, target := range targets {
				r, err := target.measure(to, load)
				if err != nil {
					b.Fatalf("%s, %s: %v", target.name, load.name, err)
				}
				if round > 0 {
					results[load.name+"/"+target.name] = append(results[load.name+"/"+target.name], r)
				}
			}
		}
	}
	for _, load := range benchLoads {
		for _, target := range targets {
			b.Run(load.name+"/"+target.name, func(b *testing.B) {
				rounds := results[load.name+"/"+target.name]
				median := func(of func(benchResult) float64) float64 {
					var list latencies
					for _, r := range rounds {
						list = append(list, time.Duration(of(r)*1000))
					}
					return float64(list.quantile(.5)) / 1000
				}
				b.ReportMetric(median(func(r benchResult) float64 { return r.tunnels }), "tunnels/s")
				b.ReportMetric(median(func(r benchResult) float64 { return r.cpu }), "µs-proxy")
				b.ReportMetric(median(func(r benchResult) float64 { return r.database }), "µs-postgres")
				b.ReportMetric(median(func(r benchResult) float64 { return float64(r.took.quantile(.5).Microseconds()) }), "µs-p50")
				b.ReportMetric(median(func(r benchResult) float64 { return float64(r.took.p99().Microseconds()) }), "µs-p99")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// withoutPacing is the overlay that removes the width of the gate.
func withoutPacing() (map[string]string, error) {
	const file, from = "../proxy/limits.go", "\treturn unsettledPerProcessor * runtime.GOMAXPROCS(0)\n"
	source, err := os.ReadFile(file)
	if err == nil && strings.Count(string(source), from) != 1 {
		err = errors.New("the overlay does not fit " + file + ": change it together with the function width")
	}
	return map[string]string{file: strings.Replace(string(source), from, "\treturn 0 * unsettledPerProcessor * runtime.GOMAXPROCS(0)\n", 1)}, err
}

// newBenchServer starts a server with two repositories of eight steps each.
func newBenchServer(b *testing.B, name, program string, db *database, postgres *pgtest.Server, to string) *benchTarget {
	b.Helper()
	w := newFixture(b, options{program: program, database: db, extra: fmt.Sprintf("limits:\n  step: {requests_per_second: %d}\n  repository: {requests_per_second: %[1]d}\n", benchRate)})
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "bench.rego"), []byte(benchPolicy), 0o644); err != nil {
		b.Fatal(err)
	}
	w.start()
	t := &benchTarget{
		name: name, proxy: w.proxy, processes: func() float64 { return processTime(fmt.Sprint(w.cmd.Process.Pid)) },
		database: func() (seconds float64) {
			for _, pid := range postgres.Processes("") {
				seconds += processTime(fmt.Sprint(pid))
			}
			return seconds
		},
	}
	for i, r := range []*bitbuckettest.Repository{w.Payments, w.Tools} {
		for range 8 {
			step := r.Run("main").Step(nil)
			c := caller{step, step.Token(bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}})}
			t.heads[i] = append(t.heads[i], connectTo(to, c.basic()))
		}
	}
	return t
}

// measure applies a load for a time.
func (t *benchTarget) measure(to string, load benchLoad) (benchResult, error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var r benchResult
	var failed error
	opened := 0
	end := time.Now().Add(benchTime)
	proxy, database := t.processes(), t.database()
	for repository, clients := range load.clients {
		for n := range clients {
			wg.Go(func() {
				heads := t.heads[repository]
				var took latencies
				var err error
				for err == nil && time.Now().Before(end) {
					began := time.Now()
					err = openTunnel(t.proxy, heads[n%len(heads)])
					took = append(took, time.Since(began))
				}
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
				if opened += len(took); !load.measured || repository == 0 {
					r.took = append(r.took, took...)
				}
			})
		}
	}
	wg.Wait()
	r.tunnels = float64(len(r.took)) / benchTime.Seconds()
	r.cpu = 1e6 * (t.processes() - proxy) / float64(opened)
	r.database = 1e6 * (t.database() - database) / float64(opened)
	return r, failed
}

// openTunnel opens a tunnel, carries a byte each way and closes it.
func openTunnel(proxy, head string) error {
	conn, err := net.DialTimeout("tcp", proxy, patience)
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
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy answered %s", response.Status)
	}
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err = reader.ReadByte()
	return err
}

// bareVariable makes this program a bare proxy on the address that it has.
const bareVariable = "SALLYPORT_TEST_BARE_PROXY"

func init() {
	if address := os.Getenv(bareVariable); address != "" {
		fmt.Fprintln(os.Stderr, "bare proxy:", http.ListenAndServe(address, goproxy.NewProxyHttpServer()))
		os.Exit(1)
	}
}

// newBareProxy starts goproxy in a process of its own: no authentication, no log.
func newBareProxy(b *testing.B, to string) *benchTarget {
	b.Helper()
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	address := freeAddress(b)
	cmd := exec.CommandContext(b.Context(), program)
	cmd.Env, cmd.Stderr = append(os.Environ(), bareVariable+"="+address), os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	eventually(b, "the bare proxy listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	heads := []string{connectTo(to, "")}
	return &benchTarget{
		name: "bare goproxy", proxy: address, heads: [2][]string{heads, heads},
		processes: func() float64 { return processTime(fmt.Sprint(cmd.Process.Pid)) }, database: func() float64 { return 0 },
	}
}
