package database

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Keywords of libpq that pgx does not know, and would send to the server as
// settings, which then refuses the connection.
//
// PostgreSQL documentation, "Parameter Key Words" of libpq.
var (
	// ignored change nothing that Sallyport relies on: it has its own deadlines,
	// name, encoding and order of servers.
	ignored = []string{"client_encoding", "fallback_application_name", "gssdelegation", "gsslib", "keepalives", "keepalives_count",
		"keepalives_idle", "keepalives_interval", "load_balance_hosts", "sslcompression", "tcp_user_timeout"}
	// unsupported would be controls that are off although they are written.
	unsupported = map[string]string{
		"oauth_client_id": "", "oauth_client_secret": "", "oauth_issuer": "", "oauth_scope": "",
		"replication": "a replication connection records nothing", "requirepeer": "use sslmode=verify-full, or a socket in a directory that only the server may write to",
		"scram_client_key": "use a password", "scram_server_key": "use a password",
		"sslcrl": "revocation lists are not read", "sslcrldir": "revocation lists are not read", "sslkeylogfile": "keys are not logged",
	}
)

// settingName is how the server names its settings.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*$`)

// translate applies the keywords of a database URL that pgx leaves to the server.
// Afterwards RuntimeParams has settings of the server alone. Errors quote names,
// and no value: a password may stand where it does not belong.
func translate(config *pgconn.Config) error {
	params := config.RuntimeParams
	for _, name := range ignored {
		delete(params, name)
	}
	if mode := params["gssencmode"]; mode == "require" {
		return errors.New("the database URL has gssencmode=require, which is not supported: use sslmode=verify-full")
	}
	delete(params, "gssencmode")
	for name := range maps.Keys(params) {
		if strings.HasPrefix(name, "pool_") {
			delete(params, name) // pgx's own, of pools: ours have their sizes
		}
	}
	if err := tlsVersions(config); err != nil {
		return err
	}
	if err := addresses(config); err != nil {
		return err
	}
	if err := options(params); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if hint, known := unsupported[name]; known {
			if hint != "" {
				hint = ": " + hint
			}
			return fmt.Errorf("the database URL has %s, which is not supported: remove it%s", name, hint)
		}
		if !settingName.MatchString(name) {
			return errURL
		}
	}
	return nil
}

// tlsVersions applies ssl_min_protocol_version and ssl_max_protocol_version.
func tlsVersions(config *pgconn.Config) error {
	versions := map[string]uint16{"": 0, "TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}
	for name, set := range map[string]func(*tls.Config, uint16){
		"ssl_min_protocol_version": func(c *tls.Config, v uint16) { c.MinVersion = v },
		"ssl_max_protocol_version": func(c *tls.Config, v uint16) { c.MaxVersion = v },
	} {
		text, there := config.RuntimeParams[name]
		if !there {
			continue
		}
		version, known := versions[text]
		if !known {
			return fmt.Errorf("the database URL has a %s that is not known: want TLSv1.2 or TLSv1.3", name)
		}
		delete(config.RuntimeParams, name)
		if config.TLSConfig != nil {
			set(config.TLSConfig, version)
		}
		for _, f := range config.Fallbacks {
			if f.TLSConfig != nil {
				set(f.TLSConfig, version)
			}
		}
	}
	return nil
}

// addresses applies hostaddr: the host's name is for certificates, and is not
// looked up.
func addresses(config *pgconn.Config) error {
	text, there := config.RuntimeParams["hostaddr"]
	if !there {
		return nil
	}
	delete(config.RuntimeParams, "hostaddr")
	hosts := Hosts(config)
	list := strings.Split(text, ",")
	if len(list) != len(hosts) || slices.ContainsFunc(hosts, func(h string) bool { return strings.HasPrefix(h, "/") }) {
		return errors.New("the database URL has hostaddr, which needs as many entries as host has: write the address in host, or one name in host for each")
	}
	byName := make(map[string]string, len(hosts))
	for i, host := range hosts {
		byName[host] = list[i]
	}
	lookup := config.LookupFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if address := byName[host]; address != "" {
			return []string{address}, nil
		}
		return lookup(ctx, host)
	}
	return nil
}

// Hosts lists the servers that a configuration names, in their order.
func Hosts(config *pgconn.Config) []string {
	hosts := []string{config.Host}
	port := config.Port
	for _, f := range config.Fallbacks { // one for each server and TLS mode
		if hosts[len(hosts)-1] != f.Host || port != f.Port {
			hosts, port = append(hosts, f.Host), f.Port
		}
	}
	return hosts
}

// options takes the settings out of options, which poolers refuse: -c name=value,
// -cname=value and --name=value.
func options(params map[string]string) error {
	text, there := params["options"]
	if !there {
		return nil
	}
	delete(params, "options")
	words := optionWords(text)
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "-c" && i+1 < len(words):
			i++
			word = words[i]
		case strings.HasPrefix(word, "-c"):
			word = word[len("-c"):]
		case strings.HasPrefix(word, "--"):
			word = word[len("--"):]
		default:
			word = ""
		}
		name, value, found := strings.Cut(word, "=")
		name = strings.ReplaceAll(name, "-", "_")
		if !found || !settingName.MatchString(name) {
			return errors.New("the database URL has options that are not understood: want -c name=value, or name=value as a keyword of its own")
		}
		params[name] = value
	}
	return nil
}

// optionWords splits at spaces; a backslash takes the next character as it is
// (PostgreSQL documentation, "options" of libpq).
func optionWords(text string) []string {
	var words []string
	var word strings.Builder
	inside := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			word.WriteByte(text[i])
			inside = true
		case c == ' ' || c == '\t' || c == '\n':
			if inside {
				words = append(words, word.String())
				word.Reset()
				inside = false
			}
		default:
			word.WriteByte(c)
			inside = true
		}
	}
	if inside {
		words = append(words, word.String())
	}
	return words
}
