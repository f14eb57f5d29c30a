package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/sallyport/sallyport/internal/fair"
)

// counted counts the questions for A.
func counted(count *atomic.Int32, say func(context.Context, netip.AddrPort, question) (answer, error)) func(context.Context, netip.AddrPort, question) (answer, error) {
	return func(ctx context.Context, server netip.AddrPort, q question) (answer, error) {
		if q.qtype == mdns.TypeA {
			count.Add(1)
		}
		return say(ctx, server, q)
	}
}

func TestCacheTimes(t *testing.T) {
	missing := func(soa time.Duration) func(context.Context, netip.AddrPort, question) (answer, error) {
		return func(context.Context, netip.AddrPort, question) (answer, error) {
			return answer{missing: true, ttl: soa}, nil
		}
	}
	for _, test := range []struct {
		why string
		say func(context.Context, netip.AddrPort, question) (answer, error)
		ttl time.Duration
	}{
		{"its TTL", just("192.0.2.1", 20*time.Second), 20 * time.Second},
		{"a TTL of 0 is a second", just("192.0.2.1", 0), time.Second},
		{"a long TTL is five minutes", just("192.0.2.1", 24*time.Hour), 5 * time.Minute},
		{"NXDOMAIN: the SOA's", missing(10 * time.Second), 10 * time.Second},
		{"NXDOMAIN: at most 30 s", missing(time.Hour), 30 * time.Second},
		{"NXDOMAIN without SOA", missing(0), time.Second},
		{"NODATA", func(context.Context, netip.AddrPort, question) (answer, error) {
			return answer{ttl: 10 * time.Second}, nil
		}, 10 * time.Second},
		{"RFC 9520: a failure", func(context.Context, netip.AddrPort, question) (answer, error) {
			return answer{}, &failure{kind: KindServerFailure, err: errors.New("SERVFAIL")}
		}, failureTTL},
		{"one family failed", func(_ context.Context, _ netip.AddrPort, q question) (answer, error) {
			if q.qtype == mdns.TypeAAAA {
				return answer{}, &failure{kind: KindServerFailure, err: errors.New("SERVFAIL")}
			}
			return answer{addrs: addrs("192.0.2.1"), ttl: time.Hour}, nil
		}, time.Second},
	} {
		t.Run(test.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				r := scripted(t, Config{}, counted(&asked, test.say))
				resolve := func() int32 {
					before := asked.Load()
					_, _ = r.Resolve(t.Context(), fair.Subject{}, "api.example")
					return asked.Load() - before
				}
				if resolve() == 0 {
					t.Fatal("nothing was asked")
				}
				time.Sleep(test.ttl - time.Nanosecond)
				if resolve() > 0 {
					t.Errorf("asked again before %v", test.ttl)
				}
				time.Sleep(time.Nanosecond)
				if resolve() == 0 {
					t.Errorf("not asked again after %v", test.ttl)
				}
			})
		})
	}
}

// TestCachedAddressesAreCopied: what a caller does with its list is its own affair.
func TestCachedAddressesAreCopied(t *testing.T) {
	r := scripted(t, Config{}, just("192.0.2.1", time.Hour))
	for range 2 {
		got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example")
		if err != nil || !slices.Equal(got, addrs("192.0.2.1")) {
			t.Fatalf("got %v, %v", got, err)
		}
		got[0] = netip.Addr{}
	}
}

func TestCacheIsBounded(t *testing.T) {
	var asked atomic.Int32
	r := scripted(t, Config{CacheSize: 3}, counted(&asked, just("192.0.2.1", time.Hour)))
	for i := range 100 {
		if _, err := r.Resolve(t.Context(), fair.Subject{}, fmt.Sprintf("a%d.example", i)); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Resolve(t.Context(), fair.Subject{}, "a0.example"); err != nil { // used all the time: it stays
			t.Fatal(err)
		}
	}
	if n := len(r.cache.entries); n != 3 || r.cache.recent.Len() != 3 || asked.Load() != 100 {
		t.Errorf("%d names kept, %d asked", n, asked.Load())
	}
}

// TestOneLookupForAll: many callers, one question; one of them leaving does not
// disturb the others.
func TestOneLookupForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		r := scripted(t, Config{}, counted(&asked, func(ctx context.Context, server netip.AddrPort, q question) (answer, error) {
			select {
			case <-time.After(time.Second):
				return just("192.0.2.1", time.Minute)(ctx, server, q)
			case <-ctx.Done():
				return answer{}, ctx.Err()
			}
		}))
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.Resolve(first, fair.Subject{}, "api.example"); kindIn(t, err) != KindCanceled || !errors.Is(err, context.Canceled) {
				t.Errorf("who left: %v", err)
			}
		})
		synctest.Wait()
		for range 20 {
			wg.Go(func() {
				if got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example"); err != nil || len(got) != 1 {
					t.Errorf("who stayed: %v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		leave()
		wg.Wait()
		if asked.Load() != 1 {
			t.Errorf("%d questions", asked.Load())
		}
	})
}

// TestLastWaiterEndsTheLookup: without a waiting caller nothing runs; and a caller that
// comes while the lookup is still ending gets a lookup of its own.
func TestLastWaiterEndsTheLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		var works atomic.Bool
		r := scripted(t, Config{Timeout: time.Hour, AttemptTimeout: time.Hour}, func(ctx context.Context, server netip.AddrPort, q question) (answer, error) {
			if works.Load() {
				return just("192.0.2.1", time.Minute)(ctx, server, q)
			}
			<-ctx.Done()
			time.Sleep(time.Second) // it takes its time to end
			ended.Add(1)
			return answer{}, ctx.Err()
		})
		ctx, leave := context.WithCancel(t.Context())
		go func() { _, _ = r.Resolve(ctx, fair.Subject{}, "api.example") }()
		synctest.Wait()
		leave()
		synctest.Wait()
		works.Store(true)
		if got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example"); err != nil || len(got) != 1 || ended.Load() != 0 {
			t.Errorf("got %v, %v", got, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if ended.Load() != 2 || len(r.flights) > 0 {
			t.Errorf("%d of 2 questions ended, %d lookups under way", ended.Load(), len(r.flights))
		}
		works.Store(false) // what the canceled one found must not have been kept
		if got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example"); err != nil || len(got) != 1 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		r := scripted(t, Config{Lookups: fair.Config{Step: fair.Limit{Slots: 2, Waiting: 100}, Repository: fair.Limit{Waiting: 100}, Total: fair.Limit{Waiting: 100}, Wait: time.Second, WaitForSlots: true}, Timeout: 10 * time.Second, AttemptTimeout: 10 * time.Second}, func(ctx context.Context, _ netip.AddrPort, q question) (answer, error) {
			if q.qtype == mdns.TypeA {
				now := running.Add(1)
				defer running.Add(-1)
				most.Store(max(most.Load(), now))
			}
			<-ctx.Done()
			return answer{}, ctx.Err()
		})
		var overloaded atomic.Int32
		var wg sync.WaitGroup
		start := time.Now()
		for i := range 10 {
			wg.Go(func() {
				_, err := r.Resolve(t.Context(), fair.Subject{}, fmt.Sprintf("a%d.example", i))
				if kindIn(t, err) == KindOverloaded {
					overloaded.Add(1)
					if waited := time.Since(start); waited != time.Second {
						t.Errorf("waited %v", waited)
					}
				}
			})
		}
		wg.Wait()
		if most.Load() != 2 || overloaded.Load() != 8 {
			t.Errorf("%d at once, %d overloaded", most.Load(), overloaded.Load())
		}
		if _, ok := r.cache.get("a0.example", time.Now()); len(r.cache.entries) != 2 {
			t.Errorf("%d results kept (a0: %v): an overload is nothing to remember", len(r.cache.entries), ok)
		}
	})
}

// TestSilentNamesOfAnotherRepository: a repository whose steps look up names of which no
// server answers, as many as they can, costs another none of its lookups, nor
// what is cached for it. TestSharesAreNeeded takes the shares away.
func TestSilentNamesOfAnotherRepository(t *testing.T) {
	if failed := lookupsBesideSilence(t, DefaultLookups); failed != 0 {
		t.Errorf("%d of 25 lookups failed", failed)
	}
}

func TestSharesAreNeeded(t *testing.T) {
	if failed := lookupsBesideSilence(t, fair.Config{Total: fair.Limit{Slots: 256, Waiting: 4000}, Step: fair.Limit{Waiting: 4000}, Repository: fair.Limit{Waiting: 4000}, Wait: time.Second}); failed == 0 {
		t.Error("no lookup failed without shares")
	}
}

// lookupsBesideSilence returns how many of 25 lookups of one repository fail while
// 50 steps of another look up names of which nothing is heard.
func lookupsBesideSilence(t *testing.T, lookups fair.Config) (failed int) {
	synctest.Test(t, func(t *testing.T) {
		r := scripted(t, Config{Lookups: lookups}, func(ctx context.Context, server netip.AddrPort, q question) (answer, error) {
			if q.name == "shared.example." || q.name[0] == 'v' {
				return just("192.0.2.1", time.Minute)(ctx, server, q)
			}
			<-ctx.Done()
			return answer{}, ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for step := range 50 {
			for i := range 40 {
				all.Go(func() {
					host := fmt.Sprintf("s%d-%d.example", step, i)
					if i == 39 {
						host = "shared.example" // waits behind the others of its step
					}
					_, _ = r.Resolve(ctx, fair.Subject{Repository: "silent", Step: fmt.Sprint(step)}, host)
				})
			}
		}
		synctest.Wait()
		for i := range 25 {
			host := fmt.Sprintf("v%d.example", i)
			if i == 0 {
				host = "shared.example"
			}
			begun := time.Now()
			if _, err := r.Resolve(ctx, fair.Subject{Repository: "victim", Step: "1"}, host); err != nil || time.Since(begun) > 0 {
				failed++
			}
		}
		cancel()
		all.Wait()
		synctest.Wait()
		if len(r.flights) != 0 || len(r.queued) != 0 || r.lookups.Held() != 0 {
			t.Errorf("%d flights, %d queued, %d slots are left", len(r.flights), len(r.queued), r.lookups.Held())
		}
	})
	return failed
}

// TestWaitersJoin: callers that wait for a slot are served by a lookup of their name that
// has begun, of any subject.
func TestWaitersJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		lookups := DefaultLookups
		lookups.Step.Slots, lookups.Wait = 1, time.Hour
		r := scripted(t, Config{Lookups: lookups, Timeout: time.Hour, AttemptTimeout: time.Hour}, counted(&asked, func(ctx context.Context, server netip.AddrPort, q question) (answer, error) {
			if q.name == "silent.example." {
				<-ctx.Done()
				return answer{}, ctx.Err()
			}
			time.Sleep(time.Second)
			return just("192.0.2.1", time.Minute)(ctx, server, q)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		busy := fair.Subject{Repository: "busy", Step: "1"}
		all.Go(func() { _, _ = r.Resolve(ctx, busy, "silent.example") })
		synctest.Wait()
		for range 20 {
			all.Go(func() {
				if got, err := r.Resolve(ctx, busy, "api.example"); err != nil || len(got) != 1 {
					t.Errorf("%v, %v", got, err)
				}
			})
		}
		synctest.Wait()
		if asked.Load() != 1 || r.lookups.Waiting() != 20 {
			t.Errorf("%d questions, %d wait", asked.Load(), r.lookups.Waiting())
		}
		if _, err := r.Resolve(ctx, fair.Subject{Repository: "other"}, "api.example"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if asked.Load() != 2 || r.lookups.Waiting() != 0 {
			t.Errorf("%d questions, %d wait", asked.Load(), r.lookups.Waiting())
		}
		cancel()
		all.Wait()
	})
}

// TestCacheShares: a repository that looks up invented names displaces its own.
func TestCacheShares(t *testing.T) {
	var asked atomic.Int32
	r := scripted(t, Config{CacheSize: 100}, counted(&asked, just("192.0.2.1", time.Hour)))
	resolve := func(repository, host string) {
		if _, err := r.Resolve(t.Context(), fair.Subject{Repository: repository}, host); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		resolve("victim", fmt.Sprintf("v%d.example", i))
	}
	for i := range 1000 {
		resolve("flood", fmt.Sprintf("f%d.example", i))
	}
	before := asked.Load()
	for i := range 20 {
		resolve("victim", fmt.Sprintf("v%d.example", i))
	}
	if again := asked.Load() - before; again != 0 || len(r.cache.entries) != 100 || r.cache.recent.Len() != 100 {
		t.Errorf("%d were looked up again; %d entries", again, len(r.cache.entries))
	}
	for _, e := range r.cache.entries {
		r.cache.remove(e)
	}
	if len(r.cache.owners) != 0 || r.cache.recent.Len() != 0 {
		t.Error("something is left of an empty cache")
	}
}

// TestSlowFamily: addresses do not wait forever for those of the other family.
func TestSlowFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := scripted(t, Config{}, func(ctx context.Context, _ netip.AddrPort, q question) (answer, error) {
			if q.qtype == mdns.TypeA {
				return answer{addrs: addrs("192.0.2.1"), ttl: time.Hour}, nil
			}
			<-ctx.Done()
			return answer{}, ctx.Err()
		})
		start := time.Now()
		got, err := r.Resolve(t.Context(), fair.Subject{}, "api.example")
		if err != nil || !slices.Equal(got, addrs("192.0.2.1")) || time.Since(start) != partialWait {
			t.Errorf("got %v, %v after %v", got, err, time.Since(start))
		}
	})
}

// TestRecoveredServerIsUsedAgain: a server that did not answer is asked last, for a
// while.
func TestRecoveredServerIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		var firstAsked atomic.Int32
		first := netip.MustParseAddrPort("192.0.2.53:53")
		r := scripted(t, Config{Servers: []string{first.String(), "192.0.2.54:53"}}, func(ctx context.Context, server netip.AddrPort, q question) (answer, error) {
			if server == first {
				firstAsked.Add(1)
				if dead.Load() {
					<-ctx.Done()
					return answer{}, ctx.Err()
				}
			}
			return just("192.0.2.1", time.Hour)(ctx, server, q)
		})
		ask := func(host string) (asked int32, took time.Duration) {
			before, start := firstAsked.Load(), time.Now()
			if _, err := r.Resolve(t.Context(), fair.Subject{}, host); err != nil {
				t.Error(err)
			}
			return firstAsked.Load() - before, time.Since(start)
		}
		dead.Store(true)
		if n, took := ask("a.example"); n != 2 || took != DefaultAttemptTimeout {
			t.Errorf("asked %d times, %v", n, took)
		}
		if n, took := ask("b.example"); n != 0 || took != 0 {
			t.Errorf("a dead server cost %d questions, %v", n, took)
		}
		dead.Store(false)
		time.Sleep(penalty)
		if n, _ := ask("c.example"); n != 2 {
			t.Errorf("a server that is back was asked %d times", n)
		}
	})
}
