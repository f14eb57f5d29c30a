package dns

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/sallyport/sallyport/internal/destination"
)

const (
	// systemCheck is how often the system's files are checked.
	systemCheck = 5 * time.Second
	// systemFileMax is how much of each is read.
	systemFileMax = 4 << 20
	// systemServersMax is resolv.conf(5)'s MAXNS.
	systemServersMax = 3
)

// settings are where to look. They do not change once made.
type settings struct {
	servers []netip.AddrPort
	hosts   map[string][]netip.Addr // canonical names; nil with configured servers
}

// system follows the files of the machine.
type system struct {
	logger *slog.Logger
	now    func() time.Time

	mu            sync.Mutex
	resolv, hosts file
	last          *settings
	checked       time.Time
	failed        bool // the last reading
}

// newSystem reads both files. A machine without /etc/hosts is valid; one without
// /etc/resolv.conf is an error, because otherwise the reason why nothing resolves would
// be hard to find.
func newSystem(resolv, hosts string, logger *slog.Logger) (*system, error) {
	s := &system{logger: logger, now: time.Now, resolv: file{path: resolv}, hosts: file{path: hosts}}
	s.resolv.changed()
	s.hosts.changed()
	read, err := s.read()
	if err != nil {
		return nil, fmt.Errorf("dns: the system's resolvers: %w: configure resolvers instead", err)
	}
	s.last, s.checked = read, s.now()
	return s, nil
}

// current returns the settings, read again if a file changed. While they cannot
// be read the last ones serve.
func (s *system) current() *settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.checked) < systemCheck {
		return s.last
	}
	s.checked = now
	resolv, hosts := s.resolv.changed(), s.hosts.changed()
	if !resolv && !hosts && !s.failed {
		return s.last
	}
	read, err := s.read()
	if s.failed = err != nil; s.failed {
		s.logger.Warn("the system's resolver files cannot be read; the last ones serve", "error", err)
		return s.last
	}
	s.last = read
	return s.last
}

// read reads both files.
func (s *system) read() (*settings, error) {
	servers, err := readResolvConf(s.resolv.path)
	if err != nil {
		return nil, err
	}
	hosts, err := readHosts(s.hosts.path)
	if err != nil {
		return nil, err
	}
	return &settings{servers: servers, hosts: hosts}, nil
}

// file is a path and what was last seen there.
type file struct {
	path string
	info fs.FileInfo // nil: was not there
}

// changed looks again.
func (f *file) changed() bool {
	before := f.info
	f.info, _ = os.Stat(f.path)
	if before == nil || f.info == nil {
		return before != f.info
	}
	return !os.SameFile(before, f.info) || !before.ModTime().Equal(f.info.ModTime()) || before.Size() != f.info.Size()
}

// readResolvConf returns the name servers of a resolv.conf(5). All else in it is
// for names that are not absolute, or is ours to configure.
func readResolvConf(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	conf, err := mdns.ClientConfigFromReader(io.LimitReader(f, systemFileMax))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var servers []netip.AddrPort
	for _, s := range conf.Servers {
		server, err := parseServer(net.JoinHostPort(s, "53"))
		if err == nil && len(servers) < systemServersMax {
			servers = append(servers, server)
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("%s names no server that can be asked", path)
	}
	return servers, nil
}

// readHosts returns the names of a hosts(5). Lines and names that are not what
// they should be are passed over, as everybody does.
func readHosts(path string) (map[string][]netip.Addr, error) {
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseHosts(string(data)), nil
}

// parseHosts reads the text of a hosts file.
func parseHosts(text string) map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || addr.Zone() != "" {
			continue
		}
		addr = addr.Unmap()
		for _, field := range fields[1:] {
			name, literal, err := destination.ParseHost(field)
			if err == nil && !literal.IsValid() {
				hosts[name] = insert(hosts[name], addr)
			}
		}
	}
	return hosts
}

// insert adds an address to what [Resolver.Resolve] promises: each once, IPv4
// first, so many of each family.
func insert(addrs []netip.Addr, addr netip.Addr) []netip.Addr {
	four := slices.IndexFunc(addrs, netip.Addr.Is6)
	if four < 0 {
		four = len(addrs)
	}
	of, at := four, four
	if addr.Is6() {
		of, at = len(addrs)-four, len(addrs)
	}
	if of >= addressMax || slices.Contains(addrs, addr) {
		return addrs
	}
	return slices.Insert(addrs, at, addr)
}

// readBounded reads a file that should be small.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, systemFileMax))
}
