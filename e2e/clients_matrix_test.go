package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/clientmatrix"
)

var (
	whichClients  = flag.String("clients", "short", "run these clients: short, all, or those whose name contains one of these texts, separated by commas")
	updateClients = flag.Bool("update-clients", false, "write docs/clients.md from the clients that were run")
	keepRows      = flag.Bool("keep-rows", false, "keep the directories of the clients")
)

const (
	clientResults = "testdata/clients.json"
	clientPage    = "../docs/clients.md"
)

// TestClients runs real clients against the real program and a real TLS upstream: a
// transfer that is allowed, one that is denied, one after the token has expired, and
// two while and after the proxy restarts, in each way. The token may be nowhere but
// where it was given. What it measures is what docs/clients.md states: the test fails
// if a client behaves otherwise, also if it behaves better.
func TestClients(t *testing.T) {
	t.Parallel()
	run := &clientRun{clientMatrix: newClientMatrix(t, nil), slots: make(chan struct{}, 3)}
	run.restarted = newClientMatrix(t, run.clientMatrix)
	for _, m := range []*clientMatrix{run.clientMatrix, run.restarted} {
		m.openPostgreSQL(t)
		if *whichClients != "short" {
			m.openSSH(t)
		}
	}
	for _, client := range clientmatrix.Clients() {
		if !isSelected(client) {
			continue
		}
		result := &clientmatrix.Result{Client: client.Name}
		run.results = append(run.results, result)
		if need := run.missing(t, client); need != "" {
			result.NotRun = need + " is not installed"
			t.Logf("%s: %s", client.Name, result.NotRun)
			continue
		}
		result.Version, result.Ways = run.version(t, client), make(map[clientmatrix.Way]*clientmatrix.Outcome)
		for _, way := range clientmatrix.Ways {
			if client.RunsIn(way) {
				result.Ways[way] = &clientmatrix.Outcome{}
				run.cells = append(run.cells, &clientCell{client: client, way: way, outcome: result.Ways[way]})
			}
		}
	}
	run.measure(t)
	for _, m := range []*clientMatrix{run.clientMatrix, run.restarted} {
		m.w.stop()
	}
	run.judge(t)
}

func isSelected(client *clientmatrix.Client) bool {
	switch *whichClients {
	case "short":
		return client.Short
	case "all":
		return true
	}
	return slices.ContainsFunc(strings.Split(*whichClients, ","), func(part string) bool { return strings.Contains(client.Name, part) })
}

// clientRun is one run of the matrix.
type clientRun struct {
	*clientMatrix
	restarted *clientMatrix // for the rows that restart the proxy
	slots     chan struct{} // transfers at once
	results   []*clientmatrix.Result
	cells     []*clientCell
}

// clientCell is a client in one way.
type clientCell struct {
	client  *clientmatrix.Client
	way     clientmatrix.Way
	mu      sync.Mutex
	outcome *clientmatrix.Outcome
}

func (c *clientCell) leaked(leaks []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcome.Leaks = slices.Compact(slices.Sorted(slices.Values(append(c.outcome.Leaks, leaks...))))
}

// measure runs all rows. Those that wait for the end of a token hold no slot meanwhile.
func (run *clientRun) measure(t *testing.T) {
	var all sync.WaitGroup
	var paused []*clientCell
	for _, cell := range run.cells {
		all.Go(func() { run.single(t, cell) })
		if *whichClients == "short" && cell.way != clientmatrix.Step {
			continue // these rows need seconds each
		}
		paused = append(paused, cell)
		all.Go(func() { run.expire(t, cell) })
	}
	const batch = 10
	for cells := range slices.Chunk(paused, batch) {
		run.restart(t, cells)
	}
	all.Wait()
}

// slot runs a part of a row that needs the machine.
func (run *clientRun) slot(part func()) {
	run.slots <- struct{}{}
	defer func() { <-run.slots }()
	part()
}

// single measures an allowed and a denied transfer.
func (run *clientRun) single(t *testing.T, cell *clientCell) {
	zone := cmp.Or(cell.client.Zone, clientmatrix.Allowed)
	run.slot(func() {
		r := run.start(t, run.clientMatrix, cell, "a", zone, 0)
		r.finish(t)
		cell.outcome.Works = r.ok()
		if !r.ok() {
			cell.outcome.Seen, _ = clientmatrix.Message(r.seen(), "no_rule_matched")
		}
		if m := cell.client.Mentions; m != "" && !strings.Contains(r.output.String(), m) {
			t.Errorf("%s: the step's output does not show the cause %s:\n%s", cell.client.Name, m, r.output)
		}
		run.report(t, r)
		cell.leaked(r.leaks)
	})
	if zone == clientmatrix.Report {
		return // nothing is denied
	}
	run.slot(func() {
		r := run.start(t, run.clientMatrix, cell, "d", clientmatrix.Denied, 0)
		r.finish(t)
		cell.outcome.Denied = run.refusal(t, r, "no_rule_matched")
		run.report(t, r)
		cell.leaked(r.leaks)
	})
}

func (run *clientRun) start(t *testing.T, m *clientMatrix, cell *clientCell, name string, zone clientmatrix.Zone, lifetime time.Duration) *clientRow {
	r := m.newRow(t, cell.client, cell.way, name, zone, lifetime)
	m.processes.add(r)
	r.start(t)
	return r
}

// refusal is what the user of a row got to see.
func (run *clientRun) refusal(t *testing.T, r *clientRow, reason string) *clientmatrix.Refusal {
	f := &clientmatrix.Refusal{Status: r.status}
	f.Attempts, f.Same = r.m.attempts(t, r.host)
	f.Seen, f.Reason = clientmatrix.Message(r.seen(), reason)
	return f
}

// expire measures a transfer after the end of the token's lifetime. The first one has
// to be done by then; on a slow machine it gets more time.
func (run *clientRun) expire(t *testing.T, cell *clientCell) {
	lifetime := 8 * time.Second
	if cell.client.Slow {
		lifetime = 40 * time.Second
	}
	for n := 0; ; n++ {
		var r *clientRow
		run.slot(func() {
			r = run.start(t, run.clientMatrix, cell, fmt.Sprintf("e%d", n), cmp.Or(cell.client.Zone, clientmatrix.Allowed), lifetime)
			<-r.first
		})
		inTime := time.Now().Before(r.expiry) || n == 3
		if inTime && r.firstOK {
			run.rejects(t, r)
		}
		r.proceed()
		r.finish(t)
		cell.leaked(r.leaks)
		if lifetime *= 2; !inTime {
			continue
		}
		if r.firstOK {
			cell.outcome.Expired = run.refusal(t, r, "credential_expired")
			run.report(t, r)
		}
		return
	}
}

// restart measures transfers that are in progress when the proxy stops, and their
// successors. All cells share one restart.
func (run *clientRun) restart(t *testing.T, cells []*clientCell) {
	m := run.restarted
	rows := make([]*clientRow, len(cells))
	var releases []func()
	var started sync.WaitGroup
	for i, cell := range cells {
		r := m.newRow(t, cell.client, cell.way, "r", cmp.Or(cell.client.Zone, clientmatrix.Allowed), 0)
		m.processes.add(r)
		arrived, release := m.upstream.Hold(r.host)
		rows[i], releases = r, append(releases, release)
		started.Go(func() {
			run.slot(func() {
				r.start(t)
				select {
				case <-arrived:
				case <-r.first:
				case <-r.ended:
				}
			})
		})
	}
	started.Wait()
	m.restartProxy(t, func() {
		for _, release := range releases {
			release()
		}
	})
	var ended sync.WaitGroup
	for i, r := range rows {
		ended.Go(func() {
			<-r.first
			r.proceed()
			r.finish(t)
			cells[i].outcome.Restart = &clientmatrix.Restart{During: r.firstOK, After: r.ok()}
			run.report(t, r)
			cells[i].leaked(r.leaks)
		})
	}
	ended.Wait()
}

// report logs what a row has measured.
func (run *clientRun) report(t *testing.T, r *clientRow) {
	if testing.Verbose() {
		t.Logf("%s through %s, row %s: status %d, first %v, ok %v, leaks %q\n%s", r.client.Name, r.way, r.name, r.status, r.firstOK, r.ok(), r.leaks, tail(r.output.String()))
	}
}

// judge compares what was measured with the page, or writes the page.
func (run *clientRun) judge(t *testing.T) {
	for _, cell := range run.cells {
		if cell.way != clientmatrix.Step {
			continue
		}
		for _, violation := range clientmatrix.Violations(cell.client, cell.outcome) {
			t.Errorf("%s through %s: %s", cell.client.Name, cell.way, violation)
		}
	}
	documented, err := clientmatrix.Load(clientResults)
	if err != nil && !(*updateClients && os.IsNotExist(err)) {
		t.Fatal(err)
	}
	if *updateClients {
		run.update(t, documented)
		return
	}
	for _, measured := range run.results {
		i := slices.IndexFunc(documented, func(r *clientmatrix.Result) bool { return r.Client == measured.Client })
		if i < 0 || documented[i].NotRun != "" {
			if measured.NotRun == "" {
				t.Errorf("%s is not documented: make clients", measured.Client)
			}
			continue
		}
		for _, difference := range clientmatrix.Differences(measured, documented[i]) {
			t.Errorf("%s: correct the client's row, or run make clients", difference)
		}
	}
}

// update puts the clients that were run into the results, in the table's order.
func (run *clientRun) update(t *testing.T, documented []*clientmatrix.Result) {
	var results []*clientmatrix.Result
	for _, client := range clientmatrix.Clients() {
		for _, list := range [][]*clientmatrix.Result{run.results, documented} {
			i := slices.IndexFunc(list, func(r *clientmatrix.Result) bool { return r.Client == client.Name })
			if i >= 0 {
				results = append(results, list[i])
				break
			}
		}
	}
	if err := clientmatrix.Save(clientResults, results); err != nil {
		t.Fatal(err)
	}
	if err := clientmatrix.WritePage(clientPage, results); err != nil {
		t.Fatal(err)
	}
}
