package configcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/identity/bitbucket"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/pgembed"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/manager"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/proxy/dns"
)

// checkTimeout bounds one check of `config check`.
const checkTimeout = 20 * time.Second

// checkReport prints one line for each check, or keeps the results for JSON.
type checkReport struct {
	out          io.Writer // nil: nothing is printed
	made, failed int
	wrong        bool // a failure is the configuration's
	results      []checkResult
}

// checkResult is one check, or a warning about something.
type checkResult struct {
	Result string `json:"result"` // ok, warning or failed
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

func (r *checkReport) print(result, name, detail string) {
	r.results = append(r.results, checkResult{result, name, detail})
	if r.out == nil {
		return
	}
	label := map[string]string{"ok": "ok    ", "failed": "FAILED", "warning": "warning"}[result]
	fmt.Fprintf(r.out, "%s %s: %s\n", label, name, strings.ReplaceAll(detail, "\n", "\n  "))
}

// add prints what a check found: nil is in order.
func (r *checkReport) add(name, detail string, err error) {
	r.made++
	if err != nil {
		r.failed++
		if _, ok := errors.AsType[cli.InvalidError](err); ok {
			r.wrong = true
		}
		r.print("failed", name, err.Error())
		return
	}
	r.print("ok", name, detail)
}

func (r *checkReport) warn(name, text string) { r.print("warning", name, text) }

// checkPolicy loads the policy and runs its tests, as a start does. A repository of
// Git is fetched into a temporary folder. Online, the repositories that the policy
// names are looked up.
//
// The snapshot is nil if the policy does not load.
func checkPolicy(ctx context.Context, r *checkReport, cfg *config.Config, online bool) *policy.Snapshot {
	own := *cfg
	if own.Policy.Git != nil {
		folder, err := os.MkdirTemp("", "sallyport-check-")
		if err != nil {
			r.add("policy", "", err)
			return nil
		}
		defer os.RemoveAll(folder)
		own.DataDirectory = folder
	}
	own.Policy.Candidate = nil
	p, err := manager.New(manager.Config{Config: &own, Log: slog.New(slog.DiscardHandler), Git: components.GitConfig})
	if err == nil {
		err = p.Begin(ctx)
		if _, missing := errors.AsType[manager.NoPolicyError](err); missing {
			err = cli.Invalid(err)
		}
	}
	if err != nil {
		r.add("policy", "", err)
		return nil
	}
	set := p.Engine().Current()
	if p.FromDisk() {
		r.warn("policy", fmt.Sprintf("the last good revision would decide: %v", p.Failure()))
	}
	for _, w := range set.Warnings() {
		if rego.NamesUnknownWebhook(w) { // a delivery that takes this route is denied
			r.add("policy", "", cli.Invalid(w))
			continue
		}
		r.warn("policy", w.Error())
	}
	if online && p.UsesNames() {
		unknown, err := components.UnknownRepositories(ctx, cfg, set)
		if err != nil {
			r.warn("policy", err.Error())
		}
		for _, w := range unknown {
			r.warn("policy", w.Error())
		}
	}
	r.add("policy", fmt.Sprintf("%s loads: revision %s, %s, and its tests pass", p.Source(), set.Revision().Digest, printable.Count(len(set.Repositories()), "repository")), nil)
	return set.Snapshot()
}

// checkOnline connects to everything that the configuration names.
func checkOnline(ctx context.Context, r *checkReport, cfg *config.Config) {
	if cfg.Audit.Embedded {
		checkEmbedded(ctx, r, cfg)
	} else {
		checkDatabase(ctx, r, "database", cfg.Audit.Database.Read, database.Writer)
		if !cfg.Audit.Sealer.IsZero() {
			checkDatabase(ctx, r, "sealer's database", cfg.Audit.Sealer.Read, database.Sealer)
		}
	}
	checkIdentity(ctx, r, cfg)
	checkNetwork(ctx, r, cfg)
}

// checkEmbedded checks the database of our own: as a login of it where it runs, and
// otherwise what serve needs to start it.
func checkEmbedded(ctx context.Context, r *checkReport, cfg *config.Config) {
	directory := auditdb.EmbeddedDirectory(cfg)
	endpoint, err := pgembed.Locate(directory)
	if err == nil {
		checkDatabase(ctx, r, "database", func() (string, error) { return endpoint.URL(auditdb.EmbeddedDatabase, database.Writer), nil }, database.Writer)
		return
	}
	if !errors.Is(err, pgembed.ErrNotRunning) {
		r.add("database", "", err)
		return
	}
	found, err := pgembed.Check(ctx, directory)
	r.add("database", fmt.Sprintf("embedded in %s, not running; serve starts PostgreSQL %s of %s", directory, found.Version, found.Directory), err)
}

// issuerTarget is the host and port of the first issuer, which a configuration that
// works can reach.
func issuerTarget(cfg *config.Config) string {
	u, err := url.Parse(cfg.Identity.Bitbucket[0].Issuer)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// checkDatabase checks one login.
func checkDatabase(ctx context.Context, r *checkReport, name string, url func() (string, error), role string) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	text, err := url()
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
		responses := &responseLog{RoundTripper: bitbucketapi.NewTransport()}
		a, err := bitbucket.New(c, bitbucket.Deps{Transport: responses})
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
		clock, warning := responses.clock(cfg.Identity.Leeway)
		if warning != "" {
			r.warn("workspace "+w.Workspace, warning)
		}
		detail := fmt.Sprintf("%s of %s; %s", printable.Count(st.Keys, "key"), st.Issuer, clock)
		if w.API != nil && err == nil {
			scopes, warnings := responses.checkScopes(neededScopes(cfg, w.Workspace))
			detail += "; the access token reads the workspace, whose UUID is right; " + scopes
			for _, warning := range warnings {
				r.warn("workspace "+w.Workspace, warning)
			}
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
		r.add("resolver", fmt.Sprintf("%s has %s", u.Hostname(), printable.Count(len(addresses), "address")), err)
		break // one name shows it
	}
	for _, v := range cfg.Egress.UpstreamProxies {
		detail, err := checkUpstream(ctx, v, issuerTarget(cfg))
		r.add("upstream proxy "+v.Proxy.Host, detail, err)
	}
}
