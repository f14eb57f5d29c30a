// Package server runs Sallyport: it starts the components in order, connects them, and
// stops them in reverse order.
package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/identity/bitbucket"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/stepbinaries"
	"github.com/sallyport/sallyport/internal/systemd"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/proxy/dns"
	"github.com/sallyport/sallyport/proxy/frontend"
	"github.com/sallyport/sallyport/proxy/goproxy"
)

// newServer starts all components, but does not accept connections. Checks that need no
// running component come first. If it returns an error, it has stopped every component
// that it started.
func newServer(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *server, err error) {
	s := &server{config: cfg, log: log, metrics: admin.NewMetrics(cli.Version()), began: time.Now()}
	s.admin = admin.NewServer(s.metrics)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.notify, err = systemd.NewNotifier(log); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.DataDirectory, 0o755); err != nil {
		return nil, cli.Invalid(fmt.Errorf("make data_directory: %w: choose one that the server's user (uid %d) can make, or make it and give it to that user", err, os.Geteuid()))
	}
	for _, step := range []func(context.Context) error{
		s.inherit, s.loadPolicy, s.listen, s.listenWebhooks, s.claimAll, s.listenControl, s.openAudit, s.countIdentity, s.openStore, s.startIdentity, s.openReconciliation, s.openApprovals,
		s.openWebhookRefreshes, s.announcePolicy, s.openSelfTest, s.buildGate, s.openDelivery, s.openWebhooks, s.buildControl,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	s.watch()
	return s, nil
}

// openAudit opens the audit log. With audit.embedded it first starts the embedded
// PostgreSQL.
func (s *server) openAudit(ctx context.Context) error {
	c := auditwriter.Config{
		Version: cli.Version(),
		Log:     s.log.With("component", "audit"),
		Journal: filepath.Join(s.config.DataDirectory, "journal"), Acknowledged: filepath.Join(s.config.DataDirectory, "acknowledged"),
		JournalBytes: int64(s.config.Audit.MaxJournalBytes), JournalAge: s.config.Audit.JournalMaxAge,
		Spool:  s.config.Audit.OnOutage == config.OutageSpool,
		Signer: s.signer,
	}
	if s.config.Audit.Embedded {
		var err error
		if s.database, err = startEmbedded(ctx, s.config, s.log); err != nil {
			return err
		}
		s.atClose(func() {
			if err := s.database.Close(); err != nil {
				s.log.Error("embedded PostgreSQL shutdown failed", "error", err)
			}
		})
		c.URL = s.database.URL(auditdb.EmbeddedDatabase, "sallyport_writer")
		s.sealerURL = s.database.URL(auditdb.EmbeddedDatabase, "sallyport_sealer")
	} else {
		var err error
		if c.URL, err = s.config.Audit.Database.Read(); err != nil {
			return cli.Invalid(err)
		}
		s.sealerURL = c.URL
		if sealer := s.config.Audit.Sealer; !sealer.IsZero() {
			if s.sealerURL, err = sealer.Read(); err != nil {
				return cli.Invalid(err)
			}
		}
	}
	s.databaseURL = c.URL
	s.atClose(s.closeSealer)
	var err error
	if s.audit, err = auditwriter.Open(ctx, c); err != nil {
		return err
	}
	s.atClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.audit.Close(ctx); err != nil {
			s.log.Error("close audit log failed", "error", err)
		}
	})
	s.checkLogins(ctx)
	if s.steps, err = auditreader.OpenSteps(ctx, c.URL, proxy.ForcedCauses()); err != nil {
		return err
	}
	s.atClose(s.steps.Close)
	if err := s.openAttester(); err != nil {
		return err
	}
	return s.openSealer()
}

func (s *server) buildGate(context.Context) error {
	resolver, err := dns.New(dns.Config{Servers: components.AddressTexts(s.config.Egress.Resolvers), Lookups: lookups(s.config.Limits), Logger: s.log.With("component", "dns")})
	if err != nil {
		return err
	}
	guard := &proxy.Guard{
		AllowNetworks: s.config.Egress.AllowNetworks,
		DenyNetworks:  s.config.Egress.DenyNetworks,
		Own:           s.own(),
	}
	upstreams, err := components.UpstreamProxies(s.config.Egress.UpstreamProxies)
	if err != nil {
		return err
	}
	if upstreams, err = s.withEcho(upstreams); err != nil {
		return err
	}
	observer := s.openTotals()
	s.gate, err = proxy.NewGate(proxy.Config{
		Authenticator:   s.interceptor,
		Decider:         s.interceptor,
		Recorder:        s.audit,
		Resolver:        resolver,
		Guard:           guard,
		Dialer:          proxy.Dialer{Timeout: s.config.Egress.ConnectTimeout},
		UpstreamProxies: upstreams,
		Log:             s.log,
		Observer:        observer,
		Limits:          gateLimits(s.config.Limits),

		RefusedPerSecond: s.config.Limits.RecordedRefusalsPerSecond,
		RepeatInterval:   s.config.Limits.RepeatsInterval,
	})
	if err != nil {
		return err
	}
	s.atClose(s.gate.Wait) // before the log is closed
	tunnel := s.config.Egress.Tunnel
	s.tracker = proxy.NewTracker(proxy.TunnelConfig{
		IdleTimeout: tunnel.IdleTimeout, MaxLifetime: tunnel.MaxLifetime, HelloTimeout: tunnel.HelloTimeout,
		EndWithCredential: s.config.Identity.OnExpiry == config.ExpiryClose, CredentialGrace: s.config.Identity.ExpiryGrace,
		Barred: s.barred,
	})
	s.reevaluator = proxy.NewReevaluator(proxy.ReevaluatorConfig{
		Tracker: s.tracker, Decider: s.interceptor, Organization: s.interceptor, Recorder: s.audit, Completed: s.metrics.Reevaluated, Log: s.log.With("component", "policy"),
	})
	s.policy.OnActivation(s.reevaluator.Changed)
	s.forwarder = goproxy.New(goproxy.Config{Log: s.log.With("component", "forward"), Tracker: s.tracker, MaxLifetime: tunnel.MaxLifetime})
	s.atClose(s.forwarder.Close)
	s.front, err = frontend.New(frontend.Config{
		Gate: s.gate, Tracker: s.tracker, Forwarder: s.forwarder, Steps: s.steps, Authenticator: s.authenticator, Binaries: s.stepBinaries(),
		Log: s.log.With("component", "frontend"), Observer: observer,
		MaxHeadBytes: s.config.Limits.MaxHeaderBytes, HeadTimeout: s.config.Limits.ReadHeaderTimeout,
		MaxConnections: s.config.Limits.MaxConnections, MaxIdlePerClient: s.config.Limits.MaxIdlePerClient,
		HeadBytes: int64(s.config.Limits.Total.PendingHeaderBytes), HeadBytesPerClient: int64(s.config.Limits.Repository.PendingHeaderBytes),
	})
	return err
}

// stepBinaries returns the builds of sallyport-step that steps may download; nil: none.
func (s *server) stepBinaries() *stepbinaries.Directory {
	if s.config.StepBinaries == "" {
		return nil
	}
	return stepbinaries.New(s.config.StepBinaries)
}

// watch registers the checks, details, warnings and metrics of this instance with the
// admin server.
func (s *server) watch() {
	s.admin.AddCheck("audit", s.audit.Available)
	s.admin.AddCheck("identity", s.authenticator.Ready)
	s.admin.AddCheck("policy", s.policy.Ready)
	if s.database != nil {
		s.admin.AddCheck("embedded_postgresql", s.database.Err)
	}
	s.admin.AddDetail("audit", s.auditDetail)
	s.admin.AddDetail("policy", s.policy.Detail)
	s.admin.AddDetail("policy_workers", s.workersDetail)
	s.admin.AddDetail("identity", func() any { return identityDetail(s.authenticator.Status()) })
	s.admin.AddDetail("identity_store", s.storeDetail)
	s.admin.AddCheck("emergency_stop", s.stop.Check)
	s.admin.AddDetail("emergency_stop", func() any { return s.stop.Current() })
	s.admin.AddDetail("seal", s.sealDetail)
	s.gauges()
	s.sealMetrics()
	s.admin.AddWarning("seal", s.sealWarning)
	s.admin.AddWarning("identity_store", s.storeWarning)
	s.admin.AddWarning("identity", s.authenticator.Warning)
	s.admin.AddWarning("repository_policies", s.policy.Rejections().Warning)
	s.admin.AddWarning("database_login", func() error { return s.logins })
	s.lockGauges()
	s.admin.AddDetail("schema", s.schemaDetail)
	s.schemaGauges()
	if s.reconciler != nil {
		s.admin.AddDetail("reconciliation", s.reconciliationDetail)
		s.reconciliationGauges()
	}
	if s.approvals != nil {
		s.admin.AddDetail("approvals", s.approvalsDetail)
		s.approvalGauges()
	}
	if s.selfTest != nil {
		s.admin.AddDetail("self_test", s.selfTestDetail)
		s.selfTestGauges()
	}
	s.watchWebhooks()
	s.metrics.Gauge("sallyport_emergency_stop", "1 while an emergency stop is on.", func() float64 {
		if s.gate.Stopped() {
			return 1
		}
		return 0
	})
	s.metrics.Gauge("sallyport_revocations", "Revocations in force.", func() float64 { return float64(s.store.Status().Revocations) })
	s.metrics.Gauge("sallyport_tunnels", "Open tunnels.", func() float64 { return float64(s.tracker.Len()) })
	s.metrics.Counter("sallyport_step_reads_total", "Requests in which a step read its own requests, or had targets evaluated.", func() float64 { return float64(s.front.StepReads()) })
	s.metrics.Counter("sallyport_step_binaries_sent_total", "Builds of sallyport-step, and digests of them, that were sent.", func() float64 { return float64(s.front.BinariesSent()) })
	s.metrics.Counter("sallyport_network_checks_total", "Results of network checks that steps posted and the audit log recorded.", func() float64 { return float64(s.front.NetworkChecks()) })
	s.metrics.Gauge("sallyport_idle_connections", "Client connections whose next request has not arrived.", func() float64 { return float64(s.front.Idle()) })
	s.metrics.Gauge("sallyport_connections", "Open client connections, tunnels included.", func() float64 { return float64(s.front.Connections()) })
}

func identityDetail(all []bitbucket.Status) any {
	detail := make(map[string]map[string]string, len(all))
	for _, st := range all {
		d := map[string]string{"keys": strconv.Itoa(st.Keys), "keys_usable": strconv.FormatBool(st.KeysUsable), "keys_fetched": cli.FormatTimeOrNever(st.Fetched)}
		if st.FromDisk {
			d["keys_from"] = "stored keys from data_directory; no response from the issuer yet"
		}
		if len(st.Skipped) > 0 {
			d["keys_skipped"] = strings.Join(st.Skipped, "; ")
		}
		if st.KeysError != nil {
			d["keys_error"] = st.KeysError.Error()
		}
		if st.Names {
			d["names"], d["names_answered"] = strconv.Itoa(st.KnownNames), cli.FormatTimeOrNever(st.NamesSucceeded)
		}
		if len(st.MissingRepositories) > 0 {
			d["missing_repositories"] = strings.Join(st.MissingRepositories, "; ")
		}
		if st.NamesError != nil {
			d["names_error"] = st.NamesError.Error()
		}
		detail[st.Workspace] = d
	}
	return detail
}
