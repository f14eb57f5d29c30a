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

// TestRecorder: ages are recorded at the start, after a change and once a day, and a failure
// of the log is repeated.
func TestRecorder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ages := []audit.SecretAge{{Name: "b", Kind: "api_token", Since: began.Add(-100*24*time.Hour + time.Millisecond)}, {Name: "a", Kind: "signing_key"}}
		var events []*audit.Event
		var fail, incomplete error
		r := New(Config{
			Ages: func(context.Context) ([]audit.SecretAge, error) { return ages, incomplete },
			Record: func(_ context.Context, e *audit.Event) error {
				if fail == nil {
					events = append(events, e)
				}
				return fail
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		synctest.Wait()
		if len(events) != 1 || listOf(events[0])[0].Name != "a" || listOf(events[0])[1].Since != began.Add(-100*24*time.Hour).UTC().Truncate(time.Second) {
			t.Fatalf("at the start: %v", events)
		}
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if len(events) != 1 {
			t.Errorf("%d events without a change", len(events))
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(events) != 2 {
			t.Errorf("%d events after a day", len(events))
		}
		fail = errors.New("the log is unavailable")
		ages = []audit.SecretAge{{Name: "b", Kind: "api_token", Since: time.Now()}}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(events) != 2 {
			t.Errorf("%d events", len(events))
		}
		fail, incomplete = nil, errors.New("the database is unavailable")
		time.Sleep(CheckInterval)
		synctest.Wait()
		if len(events) != 2 {
			t.Errorf("an incomplete list is recorded")
		}
		incomplete = nil
		time.Sleep(CheckInterval)
		synctest.Wait()
		if len(events) != 3 || len(listOf(events[2])) != 1 {
			t.Errorf("after a change: %d events", len(events))
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
