package testenv

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// ServerOptions configure the server under test.
type ServerOptions struct {
	Listen          string // 127.0.0.1:port of the plain listener
	Admin           string // 127.0.0.1:port
	PolicyDirectory string
	// PolicyGit is the value of policy.git; with it, PolicyDirectory is not used.
	PolicyGit string
	// DatabaseURLFile names a database; empty means an embedded one.
	DatabaseURLFile  string
	MigrationURLFile string
	SealerURLFile    string // empty: the server seals with the login that records
	// Directory is where the configuration goes; empty: that of the environment.
	Directory      string
	DataDirectory  string // empty: data, beside the configuration
	Extra          string // more YAML, top level
	ExtraListeners string // more elements of listeners
	ExtraEgress    string // more keys of egress
	ExtraIdentity  string // more keys of identity
	ExtraAudit     string // more keys of audit
}

// WriteConfig writes a configuration for a server in this environment and
// returns its path.
func (s *Env) WriteConfig(o ServerOptions) (string, error) {
	directory := o.Directory
	if directory == "" {
		directory = s.Directory
	}
	tokenFile := filepath.Join(directory, "bitbucket-token")
	if err := os.WriteFile(tokenFile, []byte(AccessToken+"\n"), 0o600); err != nil {
		return "", err
	}
	data := o.DataDirectory
	if data == "" {
		data = filepath.Join(directory, "data")
	}
	audit := "  embedded: true\n"
	if o.DatabaseURLFile != "" {
		audit = fmt.Sprintf("  database_url_file: %q\n  migration_url_file: %q\n", o.DatabaseURLFile, o.MigrationURLFile)
	}
	if o.SealerURLFile != "" {
		audit += fmt.Sprintf("  sealer_database_url_file: %q\n", o.SealerURLFile)
	}
	audit += o.ExtraAudit
	policy := fmt.Sprintf("directory: %q", o.PolicyDirectory)
	if o.PolicyGit != "" {
		policy = "git: " + o.PolicyGit
	}
	var b strings.Builder
	fmt.Fprintf(&b, `listeners:
  - address: %q
%sadmin:
  address: %q
identity:
  bitbucket:
    - workspace: %s
      workspace_uuid: %q
      issuer: %s
      audiences: [%q]
      api: {url: %s, token_file: %q}
%spolicy:
  %s
audit:
%segress:
  resolvers: [%q]
  # The upstream is on this machine: without this exception it could not be reached.
  allow_networks: ["127.0.0.1/32"]
%sdata_directory: %q
%s`, o.Listen, o.ExtraListeners, o.Admin, s.Workspace.Slug(), s.Workspace.UUID, s.Workspace.Issuer(), Audience,
		s.Bitbucket.APIURL(), tokenFile, o.ExtraIdentity, policy, audit, s.DNS, o.ExtraEgress, data, o.Extra)
	path := filepath.Join(directory, "sallyport.yaml")
	return path, os.WriteFile(path, []byte(b.String()), 0o644)
}

// FreeAddress returns a loopback address with a port that nothing listens on at
// the moment.
func FreeAddress() (string, error) {
	l, err := listenLoopback(0)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// PreferAddress is the loopback address with this port if it is free, and one
// with another port if not.
func PreferAddress(port int) (string, error) {
	if l, err := listenLoopback(port); err == nil {
		defer l.Close()
		return l.Addr().String(), nil
	}
	return FreeAddress()
}

func listenLoopback(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}
