// Package webhookdelivery assembles the sending side of the webhook gateway from the
// configuration: the queue, the dispatcher, the agents' server and their metrics.
package webhookdelivery

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/proxy/dns"
	"github.com/sallyport/sallyport/webhook/agent"
	agentpg "github.com/sallyport/sallyport/webhook/agent/postgres"
	"github.com/sallyport/sallyport/webhook/dispatch"
	"github.com/sallyport/sallyport/webhook/listener"
	webhookpg "github.com/sallyport/sallyport/webhook/postgres"
	"github.com/sallyport/sallyport/webhook/resource"
)

// forgetInterval is the time between two deletions of old bodies, ageInterval that between
// two reads of the queue for metrics.
const (
	forgetInterval = 10 * time.Minute
	ageInterval    = 15 * time.Second
)

// Config is what a [Delivery] is made of.
type Config struct {
	Webhooks  *config.Webhooks
	URL       string             // of the database, as the role sallyport_writer
	Recorder  webhookpg.Recorder // the audit log on that database
	Resolvers []string           // of egress.resolvers
	Own       []netip.AddrPort   // this instance's listeners, which are never dialed
	Metrics   *admin.Metrics
	Log       *slog.Logger
}

// Delivery delivers accepted deliveries: to endpoints that this instance reaches, and to
// agents, which fetch theirs. It is safe for concurrent use.
type Delivery struct {
	config      Config
	queue       *webhookpg.Queue
	dispatcher  *dispatch.Dispatcher
	agents      *agent.Server        // nil: no endpoint is for agents
	credentials *agentpg.Credentials // nil with agents
	senders     []*dispatch.Sender
	targets     []*resource.Kubernetes
	names       []string // of all endpoints and resources, as configured
	ages        atomic.Pointer[map[string]webhookpg.Age]
}

// Open opens the queue, and creates the dispatcher and the agents' server, which do nothing
// before [Delivery.Run]. Endpoints and the targets of steps have separate resolvers: neither
// delays the other. The caller must call [Delivery.Close].
func Open(ctx context.Context, c Config) (_ *Delivery, err error) {
	d := &Delivery{config: c}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.queue, err = webhookpg.Open(ctx, webhookpg.Config{URL: c.URL, Recorder: c.Recorder, Log: c.Log}); err != nil {
		return nil, err
	}
	resolver, err := dns.New(dns.Config{Servers: c.Resolvers, Logger: c.Log})
	if err != nil {
		return nil, err
	}
	direct, agents, err := d.endpoints(resolver)
	if err != nil {
		return nil, err
	}
	resources, err := d.resources(resolver, direct)
	if err != nil {
		return nil, err
	}
	observer := observer{c.Metrics.NewDispatchMetrics(d.names, dispatch.Outcomes())}
	if d.dispatcher, err = dispatch.New(dispatch.Config{Store: d.queue, Endpoints: append(direct, resources...), Observer: observer, Log: c.Log}); err != nil {
		return nil, err
	}
	if len(agents) > 0 {
		if d.credentials, err = agentpg.Open(ctx, c.URL); err != nil {
			return nil, err
		}
		d.agents, err = agent.NewServer(agent.ServerConfig{Store: d.queue, Credentials: d.credentials, Endpoints: agents, ConnectionClosed: listener.ConnectionClosed, Verified: listener.Verified, Observer: observer, Log: c.Log})
		if err != nil {
			return nil, err
		}
	}
	d.registerMetrics()
	return d, nil
}

// endpoints returns the endpoints that this instance sends to, and those of agents.
func (d *Delivery) endpoints(resolver *dns.Resolver) (direct []dispatch.Endpoint, agents []agent.Endpoint, err error) {
	for _, e := range d.config.Webhooks.Endpoints {
		d.names = append(d.names, e.Name)
		signer, err := newSigner(e)
		if err != nil {
			return nil, nil, err
		}
		if e.Agent {
			agents = append(agents, agent.Endpoint{Name: e.Name, RetryFor: e.RetryFor, Signer: signer})
			continue
		}
		sender, err := newSender(e, signer, resolver, d.config.Own)
		if err != nil {
			return nil, nil, err
		}
		d.senders = append(d.senders, sender)
		direct = append(direct, dispatch.Endpoint{Name: e.Name, RetryFor: e.RetryFor, Send: sender.Send})
	}
	return direct, agents, nil
}

// lookups returns the lookups of one endpoint or resource, which have a share of their own: an
// endpoint whose names are not answered delays no other.
func lookups(resolver *dns.Resolver, name string) func(context.Context, string) ([]netip.Addr, error) {
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		return resolver.Resolve(ctx, fair.Subject{Repository: name}, host)
	}
}

// newSender returns the sender of an endpoint.
func newSender(e config.WebhookEndpoint, signer *dispatch.Signer, resolver *dns.Resolver, own []netip.AddrPort) (*dispatch.Sender, error) {
	dialer := &proxy.GuardedDialer{
		Guard:   &proxy.Guard{AllowNetworks: e.AllowNetworks, Own: own},
		Resolve: lookups(resolver, e.Name),
		Timeout: e.Timeout,
	}
	sender, err := dispatch.NewSender(dispatch.SenderConfig{URL: e.URL.String(), Dial: dialer.DialContext, Timeout: e.Timeout, Signer: signer})
	if err != nil {
		return nil, cli.Invalid(fmt.Errorf("webhooks.endpoints %s: %w", e.Name, err))
	}
	return sender, nil
}

// newSigner returns the signer of an endpoint; nil: it has no secret of its own.
func newSigner(e config.WebhookEndpoint) (*dispatch.Signer, error) {
	if e.Sign == nil {
		return nil, nil
	}
	var previous func() (string, error)
	if !e.Sign.Previous.IsZero() {
		previous = e.Sign.Previous.Read
	}
	signer, err := dispatch.NewSigner(dispatch.Form(e.Sign.Form), e.Sign.Secret.Read, previous)
	if err != nil {
		return nil, cli.Invalid(fmt.Errorf("webhooks.endpoints %s: %w", e.Name, err))
	}
	return signer, nil
}

// Queue returns the queue that deliveries are accepted into.
func (d *Delivery) Queue() *webhookpg.Queue { return d.queue }

// Agents returns the handler of the agents' protocol; nil: no endpoint is for agents.
func (d *Delivery) Agents() http.Handler {
	if d == nil || d.agents == nil {
		return nil
	}
	return d.agents
}

// Run delivers until ctx ends or [Delivery.Shutdown] is called, and deletes old bodies until
// ctx ends.
func (d *Delivery) Run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { d.dispatcher.Run(ctx) })
	if d.agents != nil {
		all.Go(func() { d.agents.Run(ctx) })
	}
	all.Go(func() { d.readAges(ctx) })
	all.Go(func() { d.forget(ctx) })
	all.Wait()
}

// forget deletes old bodies, at once and then at an interval, until ctx ends.
func (d *Delivery) forget(ctx context.Context) {
	for more := true; more; more = pause.For(ctx, forgetInterval) {
		if _, err := d.queue.Forget(ctx, d.config.Webhooks.BodyMaxAge); err != nil && ctx.Err() == nil {
			d.config.Log.Warn("old webhook bodies not deleted", "error", err)
		}
	}
}

// Shutdown gives out no further task, and returns when the attempts in progress have ended, or
// are aborted because ctx is done. It ends the agents' long polls, which would delay the
// shutdown of the listener. It must not be called without [Delivery.Run].
func (d *Delivery) Shutdown(ctx context.Context) {
	if d.agents != nil {
		d.agents.Stop()
	}
	d.dispatcher.Shutdown(ctx)
}

// Close ends the connections. Nothing may run any longer.
func (d *Delivery) Close() {
	for _, s := range d.senders {
		s.Close()
	}
	for _, k := range d.targets {
		k.Close()
	}
	if d.credentials != nil {
		d.credentials.Close()
	}
	if d.queue != nil {
		d.queue.Close()
	}
}

// Credentials returns the store of the agents' credentials; nil: no endpoint is for agents.
func (d *Delivery) Credentials() *agentpg.Credentials { return d.credentials }

// Endpoints returns the names of all endpoints, as configured.
func (d *Delivery) Endpoints() []string { return d.names }

// AgentEndpoints returns the names of the endpoints with agent: true.
func (d *Delivery) AgentEndpoints() (names []string) {
	for _, e := range d.config.Webhooks.Endpoints {
		if e.Agent {
			names = append(names, e.Name)
		}
	}
	return names
}
