package proxy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// recording are the functions of this package that record an event, and what
// limits each. A client reaches Gate.Admit and its admission, and nothing else.
var recording = map[string]string{
	"evaluation.write":           "called by evaluation.allow and evaluation.record alone: see below",
	"Admission.close":            "once for each allow",
	"Admission.recordWouldClose": "at most twice for each allow of a tunnel in report mode: after the hello timeout, and after the hello",
	"Gate.RecordRepeats":         "once a minute for each refusal that was repeated; at most maxRepeatKeys of a step",
	"Reevaluator.record":         "once for each revision; no client causes it",
}

// writing are the functions that call evaluation.write, record or allow.
var writing = map[string]string{
	"evaluation.allow":              "behind evaluation.acquire: limits.*.requests_per_second",
	"evaluation.record":             "called by the two below, behind evaluation.mayRecord",
	"evaluation.deny":               "asks evaluation.mayRecord: under acquire, or the limits of refusals",
	"evaluation.refuseUnidentified": "asks evaluation.mayRecord",
	"Gate.Evaluate":                 "once for each target of an inquiry, at most 32: behind frontend's stepRequests",
	"Gate.RecordNetworkCheck":       "once for each network check: behind frontend's networkChecks",
}

// TestRecordingPaths: no function of this package records an event but those that
// are listed with their limit.
func TestRecordingPaths(t *testing.T) {
	found, callers := map[string]bool{}, map[string]bool{}
	calls(t, func(function string, call *ast.SelectorExpr) {
		switch call.Sel.Name {
		case "Record":
			found[function] = true
		case "write", "record":
			if x, ok := call.X.(*ast.Ident); ok && x.Name == "p" {
				callers[function] = true
			}
		}
	})
	if want := slices.Sorted(maps.Keys(recording)); !slices.Equal(slices.Sorted(maps.Keys(found)), want) {
		t.Errorf("%v record events, want %v: list each with its limit", slices.Sorted(maps.Keys(found)), want)
	}
	if want := slices.Sorted(maps.Keys(writing)); !slices.Equal(slices.Sorted(maps.Keys(callers)), want) {
		t.Errorf("%v write events, want %v", slices.Sorted(maps.Keys(callers)), want)
	}
}

// calls visits every method call in this package's own files.
func calls(t *testing.T, visit func(function string, call *ast.SelectorExpr)) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, entry.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.Name.Name
			if f.Recv != nil {
				receiver := f.Recv.List[0].Type
				if star, ok := receiver.(*ast.StarExpr); ok {
					receiver = star.X
				}
				name = fmt.Sprint(receiver) + "." + name
				if id, ok := receiver.(*ast.Ident); ok {
					name = id.Name + "." + f.Name.Name
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					visit(name, s)
				}
				return true
			})
		}
	}
}

// unlimitedPaths are the ways by which a step that has a valid token, or had one,
// gets refusals that no limit of requests bounds.
var unlimitedPaths = map[string]func(*crowd, *Gate, *Attempt){
	"an emergency stop":                  func(_ *crowd, g *Gate, _ *Attempt) { g.Stop() },
	"an emergency stop, no target":       func(_ *crowd, g *Gate, a *Attempt) { g.Stop(); a.Target = "x" },
	"names unavailable":                  func(c *crowd, _ *Gate, _ *Attempt) { c.problem = identity.NamesUnavailable },
	"names unavailable, no target":       func(c *crowd, _ *Gate, a *Attempt) { c.problem = identity.NamesUnavailable; a.Target = "x" },
	"an ended token, database away":      func(c *crowd, _ *Gate, _ *Attempt) { c.problem = identity.AdmittedUnavailable },
	"an ended token, during a stop":      func(c *crowd, g *Gate, _ *Attempt) { g.Stop(); c.problem = identity.AdmittedUnavailable },
	"a revoked token":                    func(c *crowd, _ *Gate, _ *Attempt) { c.problem = identity.CredentialRevoked },
	"a revoked token, during a stop":     func(c *crowd, g *Gate, _ *Attempt) { g.Stop(); c.problem = identity.CredentialRevoked },
	"an ended token":                     func(c *crowd, _ *Gate, _ *Attempt) { c.problem = identity.CredentialExpired },
	"over the rate":                      func(*crowd, *Gate, *Attempt) {},
	"over the rate, with a wrong target": func(_ *crowd, _ *Gate, a *Attempt) { a.Target = "x" },
}

// TestEveryRefusalIsLimited floods every such path from many addresses, by one
// step and by many of one repository, for ten seconds: the log gets few rows, all
// refusals are counted, and another repository's refusal is recorded.
func TestEveryRefusalIsLimited(t *testing.T) {
	for name, set := range unlimitedPaths {
		for _, steps := range []int{1, 100} {
			t.Run(fmt.Sprintf("%s, %d steps", name, steps), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { floodRefusals(t, steps, set) })
			})
		}
	}
}

func floodRefusals(t *testing.T, steps int, set func(*crowd, *Gate, *Attempt)) {
	c, g := newCrowd(t, Limits{Step: Limit{RequestsPerSecond: 10}, Repository: Limit{RequestsPerSecond: 40}})
	a := attempt("api.partner.example:443")
	set(&c, g, &a)
	g.config.Authenticator = c
	const seconds, perSecond = 10, 1000
	sent := 0
	for range seconds {
		for i := range perSecond {
			a.Credential = identity.NewCredential(fmt.Sprintf("1.%d", i%steps))
			a.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 1)
			if admission, _ := g.Admit(t.Context(), a); admission != nil {
				admission.Close(Outcome{Cause: CauseFinished})
			}
			sent++
		}
		time.Sleep(time.Second)
	}
	// The requests within the limits with their ends, and the refusals.
	perStep := 2*10 + g.refusals.steps.perSecond
	most := min(steps*perStep, 2*40+repositoryRefusals*g.refusals.steps.perSecond)
	if c.problem == identity.CredentialRevoked || c.problem == identity.CredentialExpired {
		most = repositoryRefusals * g.refusals.steps.perSecond
	}
	if rows := len(c.events()); rows == 0 || rows > (seconds+1)*most {
		t.Errorf("%d attempts left %d rows, want at most %d a second", sent, rows, most)
	}
	if counted := len(c.decided); counted != sent {
		t.Errorf("of %d attempts %d are counted", sent, counted)
	}
	a.Credential = identity.NewCredential("2.1")
	if _, refusal := g.Admit(t.Context(), a); refusal != nil && !refusal.Recorded {
		t.Errorf("another repository's refusal is not recorded: %+v", refusal)
	}
}

// TestRefusalLimitIsNeeded is the attack: without the limit of refusals every
// attempt during an emergency stop is a row.
func TestRefusalLimitIsNeeded(t *testing.T) {
	c, g := newCrowd(t, Limits{Step: Limit{RequestsPerSecond: 10}})
	g.refusals.set(1 << 30)
	g.Stop()
	for range 1000 {
		g.repeats = repeats{} // which bounds it as well
		if _, reason := ask(t, g, 1, 1); reason != policy.EmergencyStop {
			t.Fatal(reason)
		}
	}
	if rows := len(c.events()); rows != 1000 {
		t.Errorf("%d rows", rows)
	}
}

// TestStepFloodIsLimited: a step that sends three hundred requests a second with
// long paths for ten seconds fills the log by rows, by bytes and per second only
// as far as its limits let it, whatever its requests are refused for.
func TestStepFloodIsLimited(t *testing.T) {
	const rate, seconds, perSecond = 20, 10, 300
	for name, set := range map[string]func(*crowd, *Gate){
		"denied by policy":  func(c *crowd, _ *Gate) { c.decision.Verdict, c.decision.Reason = policy.Deny, policy.NoRuleMatched },
		"allowed":           func(*crowd, *Gate) {},
		"not resolved":      func(c *crowd, _ *Gate) { c.addrs = nil },
		"emergency stop":    func(_ *crowd, g *Gate) { g.Stop() },
		"names unavailable": func(c *crowd, _ *Gate) { c.problem = identity.NamesUnavailable },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, g := newCrowd(t, Limits{Step: Limit{RequestsPerSecond: rate}})
				set(&c, g)
				g.config.Authenticator = c
				inSecond := make([]int, seconds)
				long := strings.Repeat("p", 60_000)
				bytes := 0
				for second := range seconds {
					before := len(c.events())
					for i := range perSecond {
						a := attempt(fmt.Sprintf("http://api.partner.example/%d/%d/%s", second, i, long))
						a.Action, a.HTTP = policy.Forward, &policy.HTTPRequest{Method: "GET", Path: a.Target[len("http://api.partner.example"):]}
						a.Credential = identity.NewCredential("1.1")
						if admission, _ := g.Admit(t.Context(), a); admission != nil {
							admission.Close(Outcome{Cause: CauseFinished})
						}
					}
					events := c.events()
					inSecond[second] = len(events) - before
					for i := range events[before:] {
						events[before+i].Normalise() // as the recorder does
						bytes += len(events[before+i].AppendRecord(nil))
					}
					time.Sleep(time.Second)
				}
				rows := 0
				for second, n := range inSecond {
					// Of each request its decision and its end; the bucket is full at first.
					if most := 2*2*rate + g.refusals.steps.perSecond + 2; n > most {
						t.Errorf("%d rows in second %d, want at most %d", n, second, most)
					}
					rows += n
				}
				if rows == 0 || bytes > rows*audit.MaxRequestRecord {
					t.Errorf("%d bytes in %d rows", bytes, rows)
				}
			})
		})
	}
}
