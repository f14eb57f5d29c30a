package dispatch

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// outage is an endpoint that is down for an hour, while instances and the database are
// killed. It returns what is wrong, by the list of accepted deliveries that it keeps.
func outage(t *testing.T, kills int, change func(*memory)) []string {
	m, e := newMemory(), &target{latency: 300 * time.Millisecond, answer: respond(503)}
	m.unknown = 0.05
	if change != nil {
		change(m)
	}
	const instances = 2
	var stops [instances]func()
	start := func(i int) { _, stops[i] = run(t, m, nil, Endpoint{Name: "jenkins", Send: e.Send}) }
	for i := range instances {
		start(i)
	}
	accepted := map[string][]string{}
	receive := func() {
		repository := fmt.Sprint("r", rand.IntN(5))
		// An accept that fails is answered 503: the sender's list does not have it.
		if delivery, err := m.add("jenkins", repository); err == nil {
			accepted["jenkins "+repository] = append(accepted["jenkins "+repository], delivery)
		}
	}
	pause := time.Hour / time.Duration(kills)
	for i := range kills {
		for range 4 {
			receive()
			time.Sleep(rand.N(pause / 4))
		}
		if i%2 == 0 {
			m.set(func() { m.unavailable = true })
			receive()
			time.Sleep(rand.N(time.Minute))
			m.set(func() { m.unavailable = false })
		}
		stops[i%instances]()
		receive()
		time.Sleep(rand.N(5 * time.Second))
		start(i % instances)
		if i == kills*4/5 { // the endpoint recovers while the kills continue
			e.set(nil)
		}
	}
	m.set(func() { m.unknown = 0 })
	time.Sleep(2 * time.Hour)
	for _, stop := range stops {
		stop()
	}
	faults := check(accepted, e.all())
	if n := m.states(); n[webhook.TaskPending]+n[webhook.TaskLeased]+n[webhook.TaskDead] > 0 {
		faults = append(faults, fmt.Sprintf("not all are done: %v", n))
	}
	return faults
}

// TestOutageOfAnHour is the promise of the gateway: what was accepted arrives, in order.
func TestOutageOfAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, fault := range outage(t, 50, nil) {
			t.Error(fault)
		}
	})
}

// TestOutageFindsFaults shows that the same test finds a store that breaks its contract.
func TestOutageFindsFaults(t *testing.T) {
	for name, change := range map[string]func(*memory){
		"acknowledged before the commit": func(m *memory) { m.early = true },
		"no order":                       func(m *memory) { m.withoutOrder = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if faults := outage(t, 50, change); faults == nil {
					t.Error("the test does not find the fault")
				}
			})
		})
	}
}
