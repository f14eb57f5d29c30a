package ipranges

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// document is a list with items of the documented form.
func document(items ...string) string {
	return `{"creationDate":"2026-11-01T00:00:00","syncToken":1,"items":[` + strings.Join(items, ",") + `]}`
}

func item(cidr, product, direction string) string {
	return fmt.Sprintf(`{"network":"x","mask_len":24,"mask":"y","cidr":%q,"product":[%s],"direction":[%s],"region":["global"],"perimeter":"commercial"}`, cidr, product, direction)
}

var sound = document(
	item("192.0.2.0/24", `"jira","bitbucket"`, `"ingress","egress"`),
	item("2001:db8::/48", `"bitbucket"`, `"egress"`),
	item("2001:db8::/48", `"Bitbucket"`, `"Egress"`),
	item("198.51.100.0/24", `"bitbucket"`, `"ingress"`),
	item("203.0.113.0/24", `"jira"`, `"egress"`),
	item("not a network", `"jira"`, `"egress"`),
)

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := Parse([]byte(sound))
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/48")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("read as %v: %v", got, err)
	}
}

func TestListsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":            "",
		"a page":             "<html></html>",
		"a list":             "[]",
		"no items":           `{"items":[]}`,
		"other items":        document(item("192.0.2.0/24", `"jira"`, `"egress"`)),
		"a text as items":    `{"items":"x"}`,
		"a malformed one":    document(item("192.0.2.0/24", `"bitbucket"`, `"egress"`), item("192.0.2.0", `"bitbucket"`, `"egress"`)),
		"bits behind":        document(item("192.0.2.1/24", `"bitbucket"`, `"egress"`)),
		"everything":         document(item("0.0.0.0/0", `"bitbucket"`, `"egress"`)),
		"half of everything": document(item("128.0.0.0/1", `"bitbucket"`, `"egress"`)),
		"everything, IPv6":   document(item("::/0", `"bitbucket"`, `"egress"`)),
		"a mapped one":       document(item("::ffff:192.0.2.0/120", `"bitbucket"`, `"egress"`)),
		"cut off":            sound[:len(sound)-1],
	} {
		if got, err := Parse([]byte(text)); err == nil || len(got) > 0 {
			t.Errorf("%s: read as %v", name, got)
		}
	}
}

// FuzzParse: what is accepted is at least one network, none of which is wide.
func FuzzParse(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte(document(item("0.0.0.0/0", `"bitbucket"`, `"egress"`))))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Parse(text)
		if (len(got) == 0) == (err == nil) {
			t.Fatalf("%v and %v", got, err)
		}
		for _, n := range got {
			if !n.IsValid() || n != n.Masked() || n.Bits() < 8 || n.Contains(netip.MustParseAddr("127.0.0.1")) && n.Contains(netip.MustParseAddr("10.0.0.1")) {
				t.Errorf("accepted %s", n)
			}
		}
	})
}

// source is what is fetched.
type source struct {
	mu      sync.Mutex
	text    string
	err     error
	fetches int
}

// become changes what is fetched, and returns how often it was fetched before.
func (s *source) become(text string, err error) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text, s.err = text, err
	return s.fetches
}

func (s *source) fetch(context.Context, string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches++
	return []byte(s.text), s.err
}

var inside = netip.MustParseAddr("192.0.2.9")

// TestAge: a list that is too old contains no address, and an error keeps the last list.
func TestAge(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	s := &source{text: sound}
	l := Open(Config{Fetch: s.fetch, Now: func() time.Time { return now }})
	if l.Contains(inside, time.Hour) {
		t.Error("a list that was never fetched contains an address")
	}
	if err := l.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !l.Contains(inside, time.Hour) || !l.Contains(netip.MustParseAddr("::ffff:192.0.2.9"), time.Hour) || l.Contains(netip.MustParseAddr("198.51.100.1"), time.Hour) || l.Contains(netip.Addr{}, time.Hour) {
		t.Error("the list does not contain exactly its networks")
	}
	for _, bad := range []*source{{err: errors.New("unavailable")}, {text: "<html>"}, {text: document(item("0.0.0.0/0", `"bitbucket"`, `"egress"`))}} {
		l.config.Fetch = bad.fetch
		if err := l.Refresh(t.Context()); err == nil || l.State().Err == nil {
			t.Errorf("%q is accepted", bad.text)
		}
		if !l.Contains(inside, time.Hour) || l.State().Networks != 2 {
			t.Error("the last list is not kept")
		}
	}
	now = now.Add(time.Hour)
	if !l.Contains(inside, time.Hour) {
		t.Error("a list of its maximum age is not used")
	}
	now = now.Add(time.Second)
	if l.Contains(inside, time.Hour) {
		t.Error("a list that is too old is used")
	}
	if !l.Contains(inside, 2*time.Hour) {
		t.Error("another receiver's maximum age does not count")
	}
	now = now.AddDate(0, 0, -1) // the clock is set back
	if l.Contains(inside, 2*time.Hour) {
		t.Error("a list from the future is used")
	}
}

// TestAgeIsNeeded: without the maximum age, a list of any age would be used.
func TestAgeIsNeeded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	s := &source{text: sound}
	l := Open(Config{Fetch: s.fetch, Now: func() time.Time { return now }})
	_ = l.Refresh(t.Context())
	now = now.AddDate(10, 0, 0)
	if !l.Contains(inside, 1<<62) {
		t.Error("the control does not decide")
	}
}

// TestStored: the last list survives a restart, with its age.
func TestStored(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "networks.json")
	now := time.Now()
	clock := func() time.Time { return now }
	s := &source{text: sound}
	if err := Open(Config{Fetch: s.fetch, File: file, Now: clock}).Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	l := Open(Config{File: file, Now: clock})
	if !l.Contains(inside, 61*time.Minute) || l.Contains(inside, 59*time.Minute) {
		t.Errorf("the stored list is read as %+v", l.State())
	}
	for name, damage := range map[string]func() error{
		"from the future": func() error { return os.Chtimes(file, now, now.Add(time.Hour)) },
		"damaged":         func() error { return os.WriteFile(file, []byte("<html>"), 0o600) },
		"too large":       func() error { return os.WriteFile(file, []byte(sound+strings.Repeat(" ", maxStored)), 0o600) },
		"missing":         func() error { return os.Remove(file) },
		"a directory":     func() error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
	} {
		_ = os.RemoveAll(file)
		if err := os.WriteFile(file, []byte(sound), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if l := Open(Config{File: file, Now: clock}); l.Contains(inside, 1<<62) {
			t.Errorf("%s: the list is used", name)
		}
	}
}

// TestRun: the list is fetched every hour, and sooner after an error.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{err: errors.New("unavailable")}
		l := Open(Config{Fetch: s.fetch})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { l.Run(ctx); close(done) }()
		time.Sleep(8 * time.Minute) // after 0, 1, 3 and 7 minutes
		synctest.Wait()
		if n := s.become(sound, nil); n != 4 {
			t.Errorf("%d fetches in 8 minutes of errors, want 4", n)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := s.become(sound, nil); n < 27 || n > 29 || !l.Contains(inside, time.Hour+time.Minute) {
			t.Errorf("%d fetches, %+v", n, l.State())
		}
		cancel()
		<-done
	})
}
