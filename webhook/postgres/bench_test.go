package postgres

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

// benchBody is the size of a usual push in bytes.
const benchBody = 4096

var benchNumber atomic.Int64

// benchDelivery is a verified delivery of one of 100 repositories.
func benchDelivery(secret webhook.Secret) *webhook.Delivery {
	n := int(benchNumber.Add(1))
	d := delivery(repository(n%100), n)
	d.Body = append(d.Body, make([]byte, benchBody)...)
	d.Digest = [32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}
	signature := secret.Sign(d.Body)
	if !secret.Verify(d.Body, signature) { // what a receiver does with each delivery
		panic("not verified")
	}
	return d
}

func benchSecret(b testing.TB) webhook.Secret {
	b.Helper()
	secret, err := webhook.NewSecret("a secret of a webhook")
	if err != nil {
		b.Fatal(err)
	}
	return secret
}

// BenchmarkAccept is the cost of a delivery of 4 KiB from its verification to the durable
// commit with its event and one task. deliveries/s is the figure.
func BenchmarkAccept(b *testing.B) {
	server := pgtest.Start(b, pgtest.Options{})
	db := server.NewFrom(b, "sallyport", migrate)
	q := newInstance(b, db.URL(database.Writer))
	secret := benchSecret(b)
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var next atomic.Int64
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						if outcome, err := q.Accept(b.Context(), benchDelivery(secret), allowed("jenkins")); err != nil || outcome != webhook.Accepted {
							b.Errorf("%v, %v", outcome, err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

// BenchmarkCarryOut is the cost of a task from its claim to the durable commit of its end
// with its event, by so many claimers that take up to 8 streams each.
func BenchmarkCarryOut(b *testing.B) {
	server := pgtest.Start(b, pgtest.Options{})
	db := server.NewFrom(b, "sallyport", migrate)
	q := newInstance(b, db.URL(database.Writer))
	secret := benchSecret(b)
	for _, claimers := range []int{1, 8} {
		b.Run(fmt.Sprintf("claimers=%d", claimers), func(b *testing.B) {
			var wg sync.WaitGroup
			var next atomic.Int64
			for range 32 {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						accept(b, q, benchDelivery(secret), allowed("jenkins"))
					}
				})
			}
			wg.Wait()
			var ended atomic.Int64
			b.ResetTimer()
			for range claimers {
				wg.Go(func() {
					for ended.Load() < int64(b.N) {
						tasks, err := q.Claim(b.Context(), "jenkins", 8, time.Minute)
						if err != nil {
							b.Error(err)
							return
						}
						var each sync.WaitGroup
						for _, task := range tasks {
							each.Go(func() {
								if err := q.Done(b.Context(), task, webhook.TaskResult{Status: 200}); err != nil {
									b.Error(err)
								}
							})
						}
						each.Wait()
						ended.Add(int64(len(tasks)))
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}

// benchDecision is the event of an allowed CONNECT.
func benchDecision(n int) *audit.Event {
	now := time.Now()
	return &audit.Event{
		Time: now, Kind: audit.KindDecision, DecisionID: uuid.NewV7(now), Issuer: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
		CredentialKind: "bitbucket_oidc", RepositoryUUID: repository(n % 500), StepUUID: uuid.NewV7(now), Workspace: "acme", Repository: "acme/payments",
		Action: "connect", Scheme: "https", Host: "api.partner.example", Port: 443, Verdict: "allow", Mode: "enforce", Reason: "policy_allowed",
		Rule: "payments-partner", Status: 200, Input: bytes.Repeat([]byte(" "), 700), Source: audit.Source{Repository: repository(n % 500), Step: "step"},
	}
}

// BenchmarkDecision is a decision's wait for its commit in the audit log, one decision after
// the other with random pauses, beside so many callers that accept deliveries of 4 KiB
// without a pause. deliveries/s is the rate of these callers.
func BenchmarkDecision(b *testing.B) {
	server := pgtest.Start(b, pgtest.Options{})
	db := server.NewFrom(b, "sallyport", migrate)
	q := newInstance(b, db.URL(database.Writer))
	secret := benchSecret(b)
	for _, callers := range []int{0, 1, 16, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var stop atomic.Bool
			var accepted atomic.Int64
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for !stop.Load() {
						if outcome, err := q.Accept(b.Context(), benchDelivery(secret), allowed("jenkins")); err != nil || outcome != webhook.Accepted {
							b.Errorf("%v, %v", outcome, err)
							return
						}
						accepted.Add(1)
					}
				})
			}
			var waits []time.Duration
			b.ResetTimer()
			for n := range b.N {
				time.Sleep(rand.N(4 * time.Millisecond))
				e := benchDecision(n)
				began := time.Now()
				if err := q.audit.Record(b.Context(), e); err != nil {
					b.Fatal(err)
				}
				waits = append(waits, time.Since(began))
			}
			elapsed := b.Elapsed()
			stop.Store(true)
			wg.Wait()
			slices.Sort(waits)
			b.ReportMetric(float64(accepted.Load())/elapsed.Seconds(), "deliveries/s")
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(waits[min(len(waits)-1, len(waits)*99/100)].Microseconds())/1000, "ms-p99")
			b.ReportMetric(0, "ns/op") // with the pauses
		})
	}
}
