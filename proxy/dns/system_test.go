package dns

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/internal/fair"
)

// write puts a file in place, in one step.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		resolv, hosts := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts")
		write(t, resolv, "search corp.example\noptions ndots:5\nnameserver 192.0.2.53\n")
		write(t, hosts, "127.0.0.1 localhost\n")
		s, err := newSystem(resolv, hosts, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		var config Config
		if err := config.setDefaults(); err != nil {
			t.Fatal(err)
		}
		r := newResolver(config, s.current)
		var asked atomic.Value
		asked.Store(netip.AddrPort{})
		r.exchange = func(ctx context.Context, server netip.AddrPort, q question) (answer, error) {
			asked.Store(server)
			return just("192.0.2.1", time.Hour)(ctx, server, q)
		}
		expect := func(host, addr, server string) {
			t.Helper()
			asked.Store(netip.AddrPort{})
			got, err := r.Resolve(t.Context(), fair.Subject{}, host)
			if err != nil || !slices.Equal(got, addrs(addr)) {
				t.Errorf("%s: got %v, %v; want %s", host, got, err, addr)
			}
			want := netip.AddrPort{}
			if server != "" {
				want = netip.MustParseAddrPort(server)
			}
			if asked.Load() != want {
				t.Errorf("%s: asked %v, want %v", host, asked.Load(), want)
			}
		}
		expect("localhost", "127.0.0.1", "")
		expect("api.example", "192.0.2.1", "192.0.2.53:53")
		expect("api.example", "192.0.2.1", "") // kept

		write(t, resolv, "nameserver 192.0.2.54\n")
		write(t, hosts, "127.0.0.1 localhost\n192.0.2.7 api.example\n")
		expect("api.example", "192.0.2.1", "") // not checked yet
		time.Sleep(systemCheck)
		expect("api.example", "192.0.2.7", "")
		expect("other.example", "192.0.2.1", "192.0.2.54:53")

		// Broken files change nothing, and better ones are seen.
		write(t, resolv, "# nothing\n")
		write(t, hosts, "")
		time.Sleep(systemCheck)
		expect("api.example", "192.0.2.7", "")
		write(t, resolv, "nameserver 192.0.2.55\n")
		if err := os.Remove(hosts); err != nil {
			t.Fatal(err)
		}
		time.Sleep(systemCheck)
		expect("api.example", "192.0.2.1", "192.0.2.55:53")
		expect("other.example", "192.0.2.1", "192.0.2.55:53") // nothing old is kept
	})
}

func TestSystemWithoutServers(t *testing.T) {
	dir := t.TempDir()
	if _, err := newSystem(filepath.Join(dir, "none"), filepath.Join(dir, "none"), nil); err == nil {
		t.Error("no resolv.conf is accepted")
	}
	empty := filepath.Join(dir, "resolv.conf")
	write(t, empty, "nameserver nonsense\n")
	if _, err := newSystem(empty, filepath.Join(dir, "none"), nil); err == nil {
		t.Error("a resolv.conf without servers is accepted")
	}
}

func TestReadResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, path, "nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%lo\nnameserver 192.0.2.4\n")
	got, err := readResolvConf(path)
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[2001:db8::1]:53"), netip.MustParseAddrPort("[fe80::1%lo]:53")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestParseHosts(t *testing.T) {
	got := parseHosts("::1 localhost\n127.0.0.1\tLocalHost localhost. # comment other\n" +
		"192.0.2.1 127.0.0.1 bad..name db\nfe80::1%lo zoned\nnonsense x\n# 192.0.2.2 no\n192.0.2.3\n::ffff:192.0.2.9 mapped\n192.0.2.1 last")
	want := map[string][]netip.Addr{
		"localhost": addrs("127.0.0.1", "::1"),
		"db":        addrs("192.0.2.1"),
		"mapped":    addrs("192.0.2.9"),
		"last":      addrs("192.0.2.1"),
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for name, list := range want {
		if !slices.Equal(got[name], list) {
			t.Errorf("%s: got %v, want %v", name, got[name], list)
		}
	}
}
