// Package toolconfig configures the build tools of a step to use the forwarder on
// loopback: environment variables, and the files of tools that do not read the
// environment. A changed file is backed up first, and [Journal.Restore] restores it byte
// by byte. Nothing that this package writes contains a credential, because the forwarder
// requires none.
package toolconfig

import (
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/sallyport/sallyport/internal/nearest"
)

// Settings are what the entries of the table read. [NewSettings] fills them in from the
// process.
type Settings struct {
	// Forwarder is the listener for this step's processes. The zero value means that
	// there is none: variables then name a port that is closed.
	Forwarder netip.AddrPort
	// Containers is the listener for containers that this step builds and runs; invalid:
	// none.
	Containers netip.AddrPort
	// NoProxy are further hosts that tools reach without the forwarder.
	NoProxy []string

	// Home is the directory of $HOME, and PasswdHome that of the password file, which
	// Java reads. Both are absolute or empty.
	Home, PasswdHome string
	// Root is the directory that contains etc: "/" outside tests.
	Root string
	// Privileged is true if the process may write the system's configuration.
	Privileged bool
	// Getenv returns a variable of the environment, or "".
	Getenv func(name string) string
}

// NewSettings returns the settings of this process.
func NewSettings(forwarder netip.AddrPort) Settings {
	s := Settings{Forwarder: forwarder, Root: "/", Privileged: os.Geteuid() == 0, Getenv: os.Getenv}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		s.Home = home
	}
	s.PasswdHome = s.Home
	if u, err := user.Current(); err == nil && filepath.IsAbs(u.HomeDir) {
		s.PasswdHome = u.HomeDir
	}
	return s
}

// closedPort is the proxy of a step whose forwarder did not start: the port "discard"
// (RFC 863), which no listener of a build uses. A connection to it is refused at once, so
// no tool connects directly.
var closedPort = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 9)

func (s *Settings) forwarder() netip.AddrPort {
	if s.Forwarder.IsValid() {
		return s.Forwarder
	}
	return closedPort
}

// proxyURL is the forwarder as the value of a variable.
func (s *Settings) proxyURL() string { return "http://" + s.forwarder().String() }

// Variable is one environment variable that a tool reads.
type Variable struct{ Name, Value string }

// File is one file that a tool reads.
type File struct {
	Path string
	// Needs is a directory that must exist, because only an installed tool has it; "":
	// missing directories are created.
	Needs string
	// Mode is the mode of a file that does not exist yet.
	Mode os.FileMode

	format  string // a key of formats
	content string // what the format inserts
}

// Tool is one entry of the table: what one tool needs to use the forwarder.
type Tool struct {
	Name   string // the name for --only and --without
	Sets   string // what is set, for people
	Why    string // why the tool needs it
	Source string // the vendor's page

	variables func(*Settings) []Variable
	files     func(*Settings) []File
}

// Names returns the names of all tools, in the order of the table.
func Names() []string {
	names := make([]string, len(Tools))
	for i, t := range Tools {
		names[i] = t.Name
	}
	return names
}

// Select returns the tools of the table that are in only, or all if only is empty, except
// those in without. A name that is not in the table is an error that suggests the nearest.
func Select(only, without []string) ([]Tool, error) {
	chosen := map[string]bool{}
	for _, list := range []struct {
		flag  string
		names []string
	}{{"--only", only}, {"--without", without}} {
		for _, name := range list.names {
			if err := check(list.flag, name); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range only {
		chosen[name] = true
	}
	excluded := map[string]bool{}
	for _, name := range without {
		if chosen[name] {
			return nil, fmt.Errorf("--only and --without both name %s: remove one of them", name)
		}
		excluded[name] = true
	}
	var tools []Tool
	for _, t := range Tools {
		if (len(only) == 0 || chosen[t.Name]) && !excluded[t.Name] {
			tools = append(tools, t)
		}
	}
	return tools, nil
}

func check(flag, name string) error {
	for _, t := range Tools {
		if t.Name == name {
			return nil
		}
	}
	if near := nearest.Of(name, Names()); near != "" {
		return fmt.Errorf("%s %q: the tool is not known: did you mean %s?", flag, name, near)
	}
	return fmt.Errorf("%s %q: the tool is not known: known are %s", flag, name, strings.Join(Names(), ", "))
}

// Variables returns the variables of the tools, each name once. Tools of the table agree
// about a name that several of them set.
func Variables(tools []Tool, s Settings) []Variable {
	var list []Variable
	seen := map[string]bool{}
	for _, t := range tools {
		if t.variables == nil {
			continue
		}
		for _, v := range t.variables(&s) {
			if !seen[v.Name] {
				seen[v.Name] = true
				list = append(list, v)
			}
		}
	}
	return list
}
