package totals

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSources(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		begin := time.Now()
		s := NewSources(SourcesConfig{Record: r.record})
		add := func(receiver, client, reason string, n int) {
			for range n {
				s.Add(receiver, netip.MustParseAddr(client), reason)
			}
		}
		go s.Run(t.Context())
		add("policy", "192.0.2.1", "webhook_ping", 2)
		add("policy", "192.0.2.200", "webhook_signature_invalid", 3) // the same /24
		add("policy", "::ffff:192.0.2.5", "webhook_signature_invalid", 1)
		add("builds", "2001:db8::1", "webhook_method", 1)
		time.Sleep(SourcesInterval)
		synctest.Wait()
		time.Sleep(10 * SourcesInterval) // without a request there is no event
		synctest.Wait()
		r.failed = errors.New("unavailable")
		add("policy", "192.0.2.1", "webhook_ping", 1)
		time.Sleep(SourcesInterval)
		synctest.Wait()
		r.failed = nil
		add("policy", "192.0.2.1", "webhook_ping", 1)
		s.Flush(t.Context())
		s.Flush(t.Context())
		want := []string{
			"total=7 webhook_method=1 webhook_ping=2 webhook_signature_invalid=4 builds from 2001:db8::/48=webhook_method=1 policy from 192.0.2.0/24=webhook_ping=2 webhook_signature_invalid=4",
			"total=2 webhook_ping=2 policy from 192.0.2.0/24=webhook_ping=2",
		}
		if got := r.texts(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("recorded\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if from := r.events[0].Attributes[0].Value; from != begin.UTC().Format(time.RFC3339Nano) {
			t.Errorf("the first event begins %s", from)
		}
		if len(s.counts) > 0 {
			t.Errorf("counts remain: %v", s.counts)
		}
	})
}

// TestSourcesUnderAFlood: a flood from many addresses adds one event in each interval, of
// bounded size, counts every request, and names the sources with the most requests. The
// memory is bounded, and released with the event.
func TestSourcesUnderAFlood(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	s := NewSources(SourcesConfig{Record: r.record})
	const addresses = 100_000
	for n := range addresses {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0x0a000000+uint32(n)<<8)
		s.Add("policy", netip.AddrFrom4(b), "webhook_signature_invalid")
	}
	for range 5000 {
		s.Add("policy", netip.MustParseAddr("10.0.7.1"), "webhook_signature_invalid")
	}
	s.Add("builds", netip.Addr{}, "webhook_method")
	if len(s.counts) > maxSources+2 {
		t.Errorf("%d sources are counted apart", len(s.counts))
	}
	s.Flush(t.Context())
	if len(r.events) != 1 || len(s.counts) != 0 {
		t.Fatalf("%d events, %d sources remain", len(r.events), len(s.counts))
	}
	e, size, found, policy := r.events[0], 0, false, 0
	for _, a := range e.Attributes {
		size += len(a.Name) + len(a.Value)
		if strings.HasPrefix(a.Name, "policy from ") {
			n, _ := strconv.Atoi(strings.TrimPrefix(a.Value, "webhook_signature_invalid="))
			policy += n
		}
		switch a.Name {
		case "total":
			if a.Value != "105001" {
				t.Errorf("total %s", a.Value)
			}
		case "policy from 10.0.7.0/24":
			found = a.Value == "webhook_signature_invalid=5001"
		}
	}
	if !found || policy != addresses+5000 || len(e.Attributes) > maxListed+8 || size > 4096 {
		t.Errorf("%d attributes of %d bytes, with %d requests; the largest source is listed: %v", len(e.Attributes), size, policy, found)
	}
}
