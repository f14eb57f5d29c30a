package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/step/portforward"
	"github.com/sallyport/sallyport/step/query"
)

// defaultTokenVariable is where Bitbucket Pipelines puts the token of a step with oidc.
const defaultTokenVariable = "BITBUCKET_STEP_OIDC_TOKEN"

// options are what the forwarder is given. start passes them to serve through a pipe.
type options struct {
	Proxies   []string
	CAFile    string
	Plaintext bool

	TokenVariable string
	TokenFile     string
	TokenCommand  string

	AllowUIDs      []uint
	Listen         string
	Docker         string // the address for containers, or dockerAuto; "": none
	DockerNetworks []string
	Forwards       []string
	Lifetime       time.Duration
	LogFile        string
	NoCheck        bool
}

// dockerAuto is --listen-docker without an address.
const dockerAuto = "auto"

// addUpstream adds the flags about the proxy and the token.
func (o *options) addUpstream(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&o.Proxies, "proxy", nil, "`URL` of Sallyport, https://HOST:PORT; repeat it for further instances, which are used when the first is unavailable")
	f.StringVar(&o.CAFile, "ca-file", "", "`FILE` with the certificate authority of the proxy, in PEM (default: the system's authorities)")
	f.BoolVar(&o.Plaintext, "plaintext", false, "permit http:// URLs of proxies: every reader of the network can then read the token")
	f.StringVar(&o.TokenVariable, "token-env", defaultTokenVariable, "environment variable `NAME` that has the token")
	f.StringVar(&o.TokenFile, "token-file", "", "`FILE` with the token, read again when it changes")
	f.StringVar(&o.TokenCommand, "token-command", "", "shell `COMMAND` that prints a token, run again before the token expires")
	c.MarkFlagsMutuallyExclusive("token-env", "token-file", "token-command")
}

// addForwarder adds the flags about the forwarder in the step.
func (o *options) addForwarder(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "`ADDRESS` of the forwarder, on loopback; port 0: any free port")
	f.Var(&uids{&o.AllowUIDs}, "allow-uid", "further user `ID` that may use the forwarder, besides the own user, root, and _apt if started by root")
	f.StringVar(&o.Docker, "listen-docker", "", "listen for containers too, at this `ADDRESS` (default: BITBUCKET_DOCKER_HOST_INTERNAL, else the address of docker0)")
	f.Lookup("listen-docker").NoOptDefVal = dockerAuto
	f.StringSliceVar(&o.DockerNetworks, "docker-network", nil, "network of containers that may use the forwarder, as `CIDR` (default: those of Docker's bridges)")
	f.BoolVar(&o.NoCheck, "no-check", false, "do not connect to the proxy at the start")
}

// complete checks the options, and makes paths absolute: the forwarder may run elsewhere.
func (o *options) complete() error {
	if len(o.Proxies) == 0 {
		return invalid(errors.New("--proxy is missing: write --proxy https://HOST:PORT"))
	}
	for _, proxy := range o.Proxies {
		if _, err := query.ParseProxy(proxy, o.Plaintext); err != nil {
			return invalid(fmt.Errorf("--proxy: %w", err))
		}
	}
	for _, path := range []*string{&o.CAFile, &o.TokenFile, &o.LogFile} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	return o.checkForwarder()
}

// checkForwarder checks the options about the forwarder in the step.
func (o *options) checkForwarder() error {
	if at, err := netip.ParseAddrPort(o.Listen); o.Listen != "" && (err != nil || !at.Addr().IsLoopback() || !at.Addr().Is4()) {
		return invalid(fmt.Errorf("--listen %q is not an IPv4 address of loopback with a port: write 127.0.0.1:3128", o.Listen))
	}
	for _, network := range o.DockerNetworks {
		if _, err := netip.ParsePrefix(network); err != nil {
			return invalid(fmt.Errorf("--docker-network %q is not a network: write 172.17.0.0/16", network))
		}
	}
	if o.Docker == "" && len(o.DockerNetworks) > 0 {
		return invalid(errors.New("--docker-network has no effect without --listen-docker: add it"))
	}
	for _, forward := range o.Forwards {
		if _, err := portforward.ParseSpec(forward); err != nil {
			return invalid(err)
		}
	}
	return nil
}

// tokenSource describes where the token comes from, without the token.
func (o *options) tokenSource() string {
	switch {
	case o.TokenFile != "":
		return "file " + o.TokenFile
	case o.TokenCommand != "":
		return "command"
	default:
		return "environment variable " + o.TokenVariable
	}
}

// fromEnvironment reports whether the token is a value of the environment.
func (o *options) fromEnvironment() bool { return o.TokenFile == "" && o.TokenCommand == "" }

// digest identifies the options, those about tools, and the token of the environment: a
// second start with the same digest keeps the forwarder and the files.
func (o *options) digest(tools toolFlags) (string, error) {
	text, err := json.Marshal([]any{o, tools.only, tools.without, tools.noProxy})
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	sum.Write(text)
	if o.fromEnvironment() {
		sum.Write([]byte(os.Getenv(o.TokenVariable)))
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// shownProxies are the proxies without what a URL could contain besides scheme and host.
func (o *options) shownProxies() []string {
	var shown []string
	for _, proxy := range o.Proxies {
		if u, err := url.Parse(proxy); err == nil && u.Host != "" {
			shown = append(shown, u.Scheme+"://"+u.Host)
		}
	}
	return shown
}

// splitNames reads a list of names that are separated by commas.
func splitNames(lists []string) []string {
	var names []string
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}
