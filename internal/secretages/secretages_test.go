package secretages

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// listOf reads the ages of an event.
func listOf(e *audit.Event) []audit.SecretAge {
	m := map[string]string{}
	for _, a := range e.Attributes {
		m[a.Name] = a.Value
	}
	return audit.SecretAges(m)
}

// fakeLog has the ages to record, and the events.
type fakeLog struct {
	mu               sync.Mutex
	ages             []audit.SecretAge
	events           []*audit.Event
	fail, incomplete error
}

func (l *fakeLog) set(change func(*fakeLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// recorded returns the ages of each event.
func (l *fakeLog) recorded() (all [][]audit.SecretAge) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		all = append(all, listOf(e))
	}
	return all
}

func (l *fakeLog) Ages(context.Context) ([]audit.SecretAge, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ages, l.incomplete
}

func (l *fakeLog) Record(_ context.Context, e *audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail == nil {
		l.events = append(l.events, e)
	}
	return l.fail
}

// TestRecorder: ages are recorded at the start, after a change and once a day, and a failure
// of the log is repeated.
func TestRecorder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l := &fakeLog{ages: []audit.SecretAge{{Name: "b", Kind: "api_token", Since: began.Add(-100*24*time.Hour + time.Millisecond)}, {Name: "a", Kind: "signing_key"}}}
		r := New(Config{Ages: l.Ages, Record: l.Record})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		after := func(d time.Duration, want int, what string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := len(l.recorded()); got != want {
				t.Errorf("%s: %d events", what, got)
			}
		}
		after(0, 1, "at the start")
		if first := l.recorded()[0]; len(first) != 2 || first[0].Name != "a" || first[1].Since != began.Add(-100*24*time.Hour).UTC().Truncate(time.Second) {
			t.Errorf("at the start: %v", first)
		}
		after(23*time.Hour, 1, "without a change")
		after(2*time.Hour, 2, "after a day")
		l.set(func(l *fakeLog) {
			l.fail, l.ages = errors.New("the log is unavailable"), []audit.SecretAge{{Name: "b", Kind: "api_token", Since: time.Now()}}
		})
		after(time.Hour, 2, "while the log is unavailable")
		l.set(func(l *fakeLog) { l.fail, l.incomplete = nil, errors.New("the database is unavailable") })
		after(CheckInterval, 2, "with an incomplete list")
		l.set(func(l *fakeLog) { l.incomplete = nil })
		after(CheckInterval, 3, "after a change")
		if last := l.recorded(); len(last[len(last)-1]) != 1 {
			t.Errorf("after a change: %v", last)
		}
		cancel()
		<-done
	})
}

// TestCertificate: the validity is that of the first certificate of a file.
func TestCertificate(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: from.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "certificate.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, c := range map[string]struct {
		content []byte
		want    time.Time
	}{
		"a key before it":     {slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "PARAMETERS", Bytes: []byte{1}}), certificate), from},
		"no certificate":      {[]byte("text"), time.Time{}},
		"not the DER of one":  {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1, 2}}), time.Time{}},
		"larger than is read": {slices.Concat(make([]byte, maxCertificate), certificate), time.Time{}},
	} {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		if since, until := Certificate(path); !since.Equal(c.want) || !c.want.IsZero() && !until.Equal(from.AddDate(1, 0, 0)) {
			t.Errorf("%s: %s to %s", name, since, until)
		}
	}
	if since, _ := Certificate(t.TempDir()); !since.IsZero() {
		t.Error("a folder is a certificate")
	}
	if !File(filepath.Join(path, "none")).IsZero() || File(path).IsZero() {
		t.Error("the time of a file is not that of its change")
	}
}
