package server

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/webhookdelivery"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/webhookserver"
	"github.com/sallyport/sallyport/identity/bitbucket"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/approval"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/emergencystop"
	"github.com/sallyport/sallyport/internal/pgembed"
	"github.com/sallyport/sallyport/internal/reassignment"
	"github.com/sallyport/sallyport/internal/selftest"
	"github.com/sallyport/sallyport/internal/systemd"
	"github.com/sallyport/sallyport/internal/totals"
	"github.com/sallyport/sallyport/policy/manager"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/proxy/frontend"
	"github.com/sallyport/sallyport/proxy/goproxy"
	"github.com/sallyport/sallyport/reconcile"
	"github.com/sallyport/sallyport/webhook"
)

// server is one running instance, wired together. What is nil was not started.
type server struct {
	config *config.Config
	log    *slog.Logger

	database      *pgembed.Server
	audit         *auditwriter.Log
	sealer        *auditsealer.Sealer
	sealing       bool // the sealer runs
	steps         *auditreader.Steps
	databaseURL   string // the writer's
	sealerURL     string // the sealer's
	logins        error  // what the logins may do and should not; nil: nothing
	store         *identitypg.Store
	authenticator *bitbucket.Authenticator
	policy        *manager.Manager
	gate          *proxy.Gate
	tracker       *proxy.Tracker
	reevaluator   *proxy.Reevaluator
	attester      *auditsealer.Attester
	reconciler    *reconcile.Reconciler // nil: deployments are not compared with the log
	approvals     *approval.Watcher     // nil: approvals are not read
	interceptor   *selftest.ProbeInterceptor
	echo          *selftest.Echo // nil: no self-test is made
	selfTest      *selftest.Test // nil: no self-test is made
	forwarder     *goproxy.Forwarder
	totals        *totals.Totals
	front         *frontend.Server
	webhooks      *webhookserver.Gateway    // nil: no deliveries are received
	webhookQueue  webhook.Queue             // nil: the same
	delivery      *webhookdelivery.Delivery // nil: the same
	metrics       *admin.Metrics
	refreshes     *webhookRefreshes
	reassignments *reassignment.Recorder

	identityMetrics *admin.IdentityMetrics
	admin           *admin.Server
	control         *admin.Control
	stop            *emergencystop.Switch

	listeners   []listening
	adminAt     net.Listener
	webhooksAt  net.Listener
	webhooksTLS *tls.Config // nil: plain
	controlAt   net.Listener
	inherited   systemd.Sockets // of the listeners, and that of admin
	notify      *systemd.Notifier
	began       time.Time
	closers     []func() // in the order of starting
}

// listening is a bound listener. served is closed when nothing more is accepted from it.
type listening struct {
	net.Listener
	config frontend.ListenerConfig
	served chan struct{}
}

// close ends what was started, in the opposite order.
func (s *server) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

func (s *server) atClose(f func()) { s.closers = append(s.closers, f) }
