package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRun: every load works through a proxy and without one, and each cell has its figures.
func TestRun(t *testing.T) {
	t.Parallel()
	upstream, err := StartUpstream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Close)
	loads := slices.DeleteFunc(Loads(), func(l *Load) bool { return l.Clients > 16 || l.Name == "idle9000" })
	self := func() []int { return []int{os.Getpid()} }
	r := Run(Options{
		Upstream: upstream, Baseline: "proxy", Loads: loads, Rounds: 2, Time: 5 * time.Millisecond, Bytes: 64 << 10, Tunnels: 5,
		Targets: []*Target{
			{Name: "direct"},
			{Name: "proxy", Version: "1", Proxy: startProxy(t, ""), Processes: self},
			{Name: "with credentials", Proxy: startProxy(t, "Basic x"), Credentials: []string{"Basic x"}, Processes: self, Database: self},
			{Name: "refuses", Proxy: startProxy(t, "Basic y"), Loads: []string{"connect"}},
		},
	})
	for _, l := range loads {
		for _, target := range []string{"direct", "proxy", "with credentials", "refuses"} {
			c := r.Cell(l.Name, target)
			switch {
			case target == "refuses" && l.Name == "connect":
				if c == nil || !strings.Contains(c.Failure, "status 403") {
					t.Errorf("a proxy that refuses every tunnel has the cell %+v", c)
				}
			case target == "refuses", l.WithoutDirect && target == "direct", l.Refused && target == "proxy":
				if c != nil {
					t.Errorf("%s was measured with %s: %+v", target, l.Name, c)
				}
			case c == nil || c.Failure != "":
				t.Errorf("%s with %s: %+v", target, l.Name, c)
			case l.tunnels == 0 && (c.Rate == nil || c.Rate.Median <= 0 || c.Median == nil):
				t.Errorf("%s with %s has no rate: %+v", target, l.Name, c)
			case l.tunnels == 0 && target == "with credentials" && c.Rate.Ratio == nil:
				t.Errorf("%s with %s has no ratio: %+v", target, l.Name, c)
			}
		}
	}
	if r.Versions["proxy"] != "1" {
		t.Errorf("the versions are %v", r.Versions)
	}
}

// startProxy is a small proxy. It refuses requests without this credential; empty: none.
// It refuses [DeniedAddress].
func startProxy(t *testing.T, credential string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Proxy-Authorization") != credential, r.Host == DeniedAddress:
			http.Error(w, "no", http.StatusForbidden)
		case r.Method == http.MethodConnect:
			relay(w, r)
		default:
			r.RequestURI = ""
			resp, err := transport.RoundTrip(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			w.Header().Set("Content-Length", resp.Header.Get("Content-Length"))
			_, _ = io.Copy(w, resp.Body) // the client notices
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		transport.CloseIdleConnections()
		<-done
	})
	return l.Addr().String()
}

func relay(w http.ResponseWriter, r *http.Request) {
	target, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer target.Close()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, target}, {target, client}} {
		go func() { _, _ = io.Copy(way[0], way[1]); ended <- struct{}{} }()
	}
	<-ended
}

// TestProcessorTime: the time of a process that works is counted, with nanoseconds.
func TestProcessorTime(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("the kernel has no /proc/PID/schedstat")
	}
	self := []int{os.Getpid()}
	before := readProcessorTimes(self)
	sum := 0
	for readProcessorTimes(self).since(before) < 5*time.Millisecond { // the test hangs here if nothing is counted
		for i := range 100_000 {
			sum += i
		}
	}
	if got := readProcessorTimes([]int{1 << 30}).since(before); got != 0 {
		t.Errorf("a process that does not exist used %v", got)
	}
	if memory := residentMemory(self); memory < 1<<20 {
		t.Errorf("this process has %d bytes of memory", memory)
	}
}

func TestDescendants(t *testing.T) {
	t.Parallel()
	if list := descendants([]int{os.Getppid()}); !slices.Contains(list, os.Getpid()) {
		t.Errorf("the descendants of this process's parent are %v", list)
	}
	if list := descendants(nil); list != nil {
		t.Errorf("without a process: %v", list)
	}
}

func TestReadResponse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		response string
		keep     bool
		err      string
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", true, ""},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", false, ""},
		{"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", false, ""},
		{"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc", true, ""},
		{"HTTP/1.1 200 OK\r\n\r\nabc", false, ""},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false, "transfer coding"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", false, "EOF"},
		{"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", false, "status 403"},
		{"garbage\r\n\r\n", false, "garbage"},
		{"", false, "EOF"},
	} {
		keep, err := readResponse(bufio.NewReader(strings.NewReader(c.response)))
		if keep && err == nil != c.keep || fmt.Sprint(err) != "<nil>" != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: keep %t, %v", c.response, keep, err)
		}
	}
}

// figure is a cell's figure with a ratio.
func figure(median, low, high float64) *Figure {
	return &Figure{Median: 100 * median, Low: 100 * low, High: 100 * high, Ratio: &Ratio{median, low, high}}
}

// TestCompare: a ratio is worse if it differs by more than the spread of either run.
func TestCompare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		before, now *Cell
		worse       string // part of the only line; empty: none
	}{
		{"same", &Cell{Proxy: figure(2, 2, 2)}, &Cell{Proxy: figure(2, 2, 2)}, ""},
		{"slower", &Cell{Proxy: figure(2, 2, 2)}, &Cell{Proxy: figure(2.3, 2.3, 2.3)}, "processor time is 2.30 × that of bare, and was 2.00 × at abc: 15 % worse"},
		{"faster", &Cell{Proxy: figure(2, 2, 2)}, &Cell{Proxy: figure(1.5, 1.5, 1.5)}, ""},
		{"within 5 %", &Cell{Proxy: figure(2, 2, 2)}, &Cell{Proxy: figure(2.09, 2.09, 2.09)}, ""},
		{"within the spread of the earlier run", &Cell{Proxy: figure(2, 1.5, 2.5)}, &Cell{Proxy: figure(2.3, 2.3, 2.3)}, ""},
		{"within the spread of this run", &Cell{Proxy: figure(2, 2, 2)}, &Cell{Proxy: figure(2.3, 1.9, 2.7)}, ""},
		{"lower rate", &Cell{Rate: figure(0.9, 0.9, 0.9)}, &Cell{Rate: figure(0.5, 0.5, 0.5)}, "the rate is 0.50 ×"},
		{"higher rate", &Cell{Rate: figure(0.5, 0.5, 0.5)}, &Cell{Rate: figure(0.9, 0.9, 0.9)}, ""},
		{"99th percentile", &Cell{P99: figure(1, 1, 1)}, &Cell{P99: figure(9, 9, 9)}, ""},
		{"fails now", &Cell{Proxy: figure(2, 2, 2)}, &Cell{Failure: "refused"}, "failed: refused"},
		{"not measured before", nil, &Cell{Proxy: figure(9, 9, 9)}, ""},
		{"without a ratio", &Cell{Database: &Figure{Median: 1}}, &Cell{Database: &Figure{Median: 9}}, ""},
	} {
		earlier, now := &Report{Baseline: "bare", Commit: "abc"}, &Report{Baseline: "bare"}
		if c.before != nil {
			c.before.Load, c.before.Target = "connect", "ours"
			earlier.Cells = append(earlier.Cells, c.before)
		}
		c.now.Load, c.now.Target = "connect", "ours"
		now.Cells = append(now.Cells, c.now)
		worse := now.Compare(earlier)
		if len(worse) > 0 != (c.worse != "") || len(worse) > 1 || len(worse) == 1 && !strings.Contains(worse[0], c.worse) {
			t.Errorf("%s: %q", c.name, worse)
		}
	}
}

// TestCells: a figure is the median of its rounds, a ratio that of the ratios of each round.
func TestCells(t *testing.T) {
	t.Parallel()
	at := func(micros ...int) (list []measurement) {
		for _, m := range micros {
			list = append(list, measurement{processor: time.Duration(m) * time.Microsecond})
		}
		return list
	}
	c := newCell("connect", "ours", at(100, 300, 200), at(50, 100, 200))
	if want := (Figure{Median: 200, Low: 100, High: 300, Ratio: &Ratio{2, 1, 3}}); c.Proxy == nil || *c.Proxy.Ratio != *want.Ratio || c.Proxy.Median != want.Median || c.Proxy.High != want.High {
		t.Errorf("the figure is %+v", c.Proxy)
	}
	if c.Rate != nil || c.Memory != nil {
		t.Errorf("figures that were not measured: %+v", c)
	}
}

// TestPage: the tables replace what is between the markers, and the report is read as it
// was written.
func TestPage(t *testing.T) {
	t.Parallel()
	cells := []*Cell{
		{Load: "connect", Target: "direct", Rate: &Figure{Median: 14_190}},
		{Load: "connect", Target: "bare", Rate: &Figure{Median: 7328}, Proxy: &Figure{Median: 128.5}},
		{Load: "connect", Target: "Sallyport", Proxy: figure(2.29, 2.2, 2.4), Database: &Figure{Median: 126.2}, Total: figure(3.31, 3.2, 3.4)},
		{Load: "idle", Target: "bare", Memory: &Figure{Median: 12_700}},
		{Load: "connect", Target: "without policy", Proxy: figure(2, 2, 2), Total: figure(3, 3, 3)},
	}
	r := &Report{Date: "2026-12-01", Commit: "abc", Machine: "small", Baseline: "bare", Rounds: 3, Seconds: 1, Versions: map[string]string{"Go": "1"}, Cells: cells}
	earlier := &Report{Versions: map[string]string{"Go": "0", "Squid": "5"}, Cells: []*Cell{{Load: "connect", Target: "direct", Failure: "earlier"}, {Load: "get", Target: "Squid", Rate: &Figure{Median: 5}}}}
	r.Merge(earlier)
	if len(r.Cells) != 6 || r.Cell("connect", "direct").Failure != "" || r.Versions["Go"] != "1" || r.Versions["Squid"] != "5" {
		t.Errorf("the merged report is %+v", r)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if err := r.Write(file); err != nil {
		t.Fatal(err)
	}
	r, err := ReadReport(file)
	if err != nil {
		t.Fatal(err)
	}
	page, err := r.page([]byte("before\n" + begin + "old\n" + end + "after\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"before\n<!--", "-->\nafter\n", "- 2026-12-01, commit abc.", "| | direct | bare | Sallyport | Squid |",
		"| new tunnels with one byte each, 16 clients: tunnels per second | 14,190 | 7,328 |  |  |",
		"| … processor time, µs per tunnel |  | 128 | 229 (2.29 ± 0.10) |  |",
		"| … with PostgreSQL's |  |  | 331 (3.31 ± 0.10) |  |",
		"| memory of an idle tunnel, KB |  | 12.7 |  |  |",
		"| without policy | 200 (-29) | 300 (-31) |  |  |",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(string(page), "old") {
		t.Error("the page still has its old tables")
	}
	if _, err := r.page([]byte("no markers")); err == nil || !strings.Contains(err.Error(), "restore them") {
		t.Errorf("a page without markers: %v", err)
	}
}
