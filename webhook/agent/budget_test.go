package agent

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// holding claims as an agent does that takes deliveries and never acknowledges one, until
// another delivery than the first is given out, and at most so many times.
func holding(t *testing.T, g *gateway, credential, first string, times int) (last string) {
	t.Helper()
	for range times {
		status, text := g.post(t, credential, "claim", `{"max": 1, "wait_seconds": 0}`)
		var response claimResponse
		if status == http.StatusOK {
			if err := json.Unmarshal([]byte(text), &response); err != nil {
				t.Fatal(err)
			}
			last = response.Tasks[0].Delivery
		}
		if last != first {
			return last
		}
		g.store.expire()
	}
	return last
}

// TestAgentThatNeverAcknowledges: after retry_for its delivery is a dead letter at the next
// lease, and the next one of the repository is given out. Without the time of the lease
// before, the agent blocks the repository forever.
func TestAgentThatNeverAcknowledges(t *testing.T) {
	t.Parallel()
	for name, without := range map[string]bool{"control": false, "needed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, Endpoint{Name: "jenkins", RetryFor: time.Hour})
			g.store.withoutTimes = without
			credential := g.credentials.add("jenkins")
			first, second := g.store.add("jenkins", "r", nil, "{}"), g.store.add("jenkins", "r", nil, "{}")
			if last := holding(t, g, credential, first, 10); last != first {
				t.Fatal("the delivery ended within its budget")
			}
			g.store.age(first, 2*time.Hour, 2*time.Hour) // the lease before began within the budget
			last := holding(t, g, credential, first, 10)
			state, cause := g.store.state(first)
			if without {
				if state != webhook.TaskLeased || last != first {
					t.Errorf("%s, %s", state, last)
				}
				return
			}
			if state != webhook.TaskDead || cause == "" {
				t.Errorf("%s, %q", state, cause)
			}
			if last != second {
				t.Errorf("%s is given out, and not %s", last, second)
			}
		})
	}
}

// TestAgentThatExtendsForever: after retry_for, one attempt lasts an hour at most.
func TestAgentThatExtendsForever(t *testing.T) {
	t.Parallel()
	g := newGateway(t, Endpoint{Name: "jenkins", RetryFor: 2 * time.Hour})
	credential := g.credentials.add("jenkins")
	for _, c := range []struct {
		received, leased time.Duration // ago
		want             int
	}{
		{0, 0, 204}, {time.Hour, time.Hour + time.Minute, 204}, {3 * time.Hour, time.Minute, 204}, {3 * time.Hour, time.Hour + time.Minute, 409},
	} {
		delivery := g.store.add("jenkins", "r"+c.received.String()+c.leased.String(), nil, "{}")
		key := g.credentials.list[credential[len(credentialPrefix):len(credentialPrefix)+idDigits]].LeaseKey
		task, err := open(key, "jenkins", g.claim(t, credential).Lease)
		if err != nil || task.Delivery != delivery || time.Since(task.Leased) > time.Minute {
			t.Fatalf("%+v, %v", task, err)
		}
		task.Received, task.Leased = task.Received.Add(-c.received), task.Leased.Add(-c.leased)
		lease, err := seal(key, task)
		if err != nil {
			t.Fatal(err)
		}
		if status, text := g.post(t, credential, "extend", acknowledgement(lease, "")); status != c.want {
			t.Errorf("%v ago, leased %v ago: %d %s", c.received, c.leased, status, text)
		}
	}
}
