package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/identity/bitbucket"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/proxy/dns"
)

// checkTimeout bounds one check of `config check`.
const checkTimeout = 20 * time.Second

// checkReport prints one line for each check.
type checkReport struct {
	out          io.Writer
	made, failed int
	wrong        bool // a failure is the configuration's
}

// add prints what a check found: nil is in order.
func (r *checkReport) add(name, detail string, err error) {
	r.made++
	if err != nil {
		r.failed++
		if _, ok := errors.AsType[cli.InvalidError](err); ok {
			r.wrong = true
		}
		fmt.Fprintf(r.out, "FAILED %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "\n  "))
		return
	}
	fmt.Fprintf(r.out, "ok     %s: %s\n", name, detail)
}

func (r *checkReport) warn(name, text string) { fmt.Fprintf(r.out, "warning %s: %s\n", name, text) }

// checkPolicy loads the policy and runs its tests, as a start does. A repository of
// Git is fetched into a temporary folder.
func checkPolicy(ctx context.Context, r *checkReport, cfg *config.Config) {
	own := *cfg
	if own.Policy.Git != nil {
		folder, err := os.MkdirTemp("", "sallyport-check-")
		if err != nil {
			r.add("policy", "", err)
			return
		}
		defer os.RemoveAll(folder)
		own.DataDirectory = folder
	}
	own.Policy.Candidate = nil
	p, err := newPolicyHolder(&own, slog.New(slog.DiscardHandler))
	if err == nil {
		err = p.begin(ctx)
	}
	if err != nil {
		r.add("policy", "", err)
		return
	}
	set := p.engine.Current()
	if p.fromDisk {
		r.warn("policy", fmt.Sprintf("the last good revision would decide: %v", p.failure))
	}
	for _, w := range set.Warnings() {
		r.warn("policy", w.Error())
	}
	r.add("policy", fmt.Sprintf("%s loads: revision %s, %d repositories, and its tests pass", p.source, set.Revision().Digest, len(set.Repositories())), nil)
}

// checkOnline connects to everything that the configuration names.
func checkOnline(ctx context.Context, r *checkReport, cfg *config.Config) {
	if cfg.Audit.Embedded {
		r.warn("database", "it is embedded, and starts with serve: not checked")
	} else {
		checkDatabase(ctx, r, "database", cfg.Audit.Database, database.Writer)
		if !cfg.Audit.Sealer.IsZero() {
			checkDatabase(ctx, r, "sealer's database", cfg.Audit.Sealer, database.Sealer)
		}
	}
	checkIdentity(ctx, r, cfg)
	checkNetwork(ctx, r, cfg)
}

// checkDatabase checks one login.
func checkDatabase(ctx context.Context, r *checkReport, name string, secret config.Secret, role string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	text, err := secret.Read()
	if err != nil {
		r.add(name, "", err)
		return
	}
	login, err := database.CheckLogin(ctx, text, role)
	if err != nil {
		r.add(name, "", err)
		return
	}
	for _, warning := range login.Warnings {
		r.warn(name, warning)
	}
	r.add(name, login.Detail, nil)
}

// checkIdentity asks the issuers for their keys and the APIs for their workspaces.
func checkIdentity(ctx context.Context, r *checkReport, cfg *config.Config) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	for _, w := range cfg.Identity.Bitbucket {
		one := *cfg
		one.Identity.Bitbucket = []config.Bitbucket{w}
		c := components.Identity(&one)
		c.StateDirectory, c.AdmittedMaxAge = "", 0
		a, err := bitbucket.New(c, bitbucket.Deps{})
		if err != nil {
			r.add("workspace "+w.Workspace, "", err)
			continue
		}
		err = a.Check(ctx)
		if err == nil {
			err = a.CheckAPI(ctx)
		}
		a.Close()
		st := a.Status()[0]
		if len(st.Skipped) > 0 {
			r.warn("workspace "+w.Workspace, "keys that cannot be used: "+strings.Join(st.Skipped, "; "))
		}
		detail := fmt.Sprintf("%d keys of %s", st.Keys, st.Issuer)
		if w.API != nil {
			detail += "; the access token reads the workspace, whose UUID is right"
		}
		r.add("workspace "+w.Workspace, detail, err)
	}
}

// checkNetwork looks the issuers' hosts up as targets are, and connects to the
// proxies of egress.upstream_proxies.
func checkNetwork(ctx context.Context, r *checkReport, cfg *config.Config) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	resolver, err := dns.New(dns.Config{Servers: components.AddressTexts(cfg.Egress.Resolvers)})
	if err != nil {
		r.add("resolver", "", err)
		return
	}
	for _, w := range cfg.Identity.Bitbucket {
		u, err := url.Parse(w.Issuer)
		if err != nil || net.ParseIP(u.Hostname()) != nil {
			continue
		}
		addresses, err := resolver.Resolve(ctx, fair.Subject{}, u.Hostname())
		if err != nil {
			err = fmt.Errorf("%w: correct egress.resolvers or /etc/resolv.conf, and see that this machine may send DNS queries", err)
		}
		r.add("resolver", fmt.Sprintf("%s has %d addresses", u.Hostname(), len(addresses)), err)
		break // one name shows it
	}
	for _, v := range cfg.Egress.UpstreamProxies {
		r.add("upstream proxy "+v.Proxy.Host, "it accepts connections", checkUpstream(ctx, v))
	}
}

func checkUpstream(ctx context.Context, v config.UpstreamProxy) error {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", v.Proxy.Host)
	if err != nil {
		return fmt.Errorf("%w: does it run, and is egress.upstream_proxies right?", err)
	}
	defer conn.Close()
	if v.Proxy.Scheme != "https" {
		return nil
	}
	all, err := components.UpstreamProxies([]config.UpstreamProxy{v})
	if err != nil {
		return err
	}
	if err := tls.Client(conn, all[0].TLS).HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w: name the authority's file in egress.upstream_proxies[].ca_file, and the host as its certificate does", err)
	}
	return nil
}
