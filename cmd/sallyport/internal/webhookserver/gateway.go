// Package webhookserver assembles the receiving side of the webhook gateway from the
// configuration: secrets, networks, limits, receivers and counts.
package webhookserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/ipranges"
	"github.com/sallyport/sallyport/internal/secretfile"
	"github.com/sallyport/sallyport/internal/totals"
	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/agent"
	"github.com/sallyport/sallyport/webhook/listener"
)

// AgentPrefix is where the agents' protocol is served.
const AgentPrefix = agent.Prefix

// Config is what a [Gateway] is made of.
type Config struct {
	Webhooks *config.Webhooks
	TLS      *tls.Config // nil: a plain listener
	// Policy decides, unless it returns [webhook.ErrNoRules]: then the configuration does.
	Policy webhook.Decider
	// AffectsPolicy reports whether an event may have changed the policy's branch or tag;
	// nil: every push.
	AffectsPolicy func(*webhook.Event) bool
	Queue         webhook.Queue
	// Record makes an event durable, as the audit log does.
	Record func(context.Context, *audit.Event) error
	// FetchNetworks returns the document at an address.
	FetchNetworks func(ctx context.Context, url string) ([]byte, error)
	NetworksFile  string       // where the last list of networks is kept
	Agents        http.Handler // below [AgentPrefix]; nil: none
	Panicked      func(any)    // nil: not called
	Log           *slog.Logger
}

// Gateway receives the deliveries of all configured receivers. It is safe for concurrent
// use.
type Gateway struct {
	server    *listener.Server
	sources   *totals.Sources
	networks  *ipranges.List // nil: no receiver needs it
	receivers []*receiver
	config    Config
}

// receiver is one receiver with its counts.
type receiver struct {
	config            config.WebhookReceiver
	secret            *secretfile.Secret[webhook.Secret]
	previous          *secretfile.Secret[webhook.Secret] // nil: none
	mu                sync.Mutex
	outcomes          map[string]uint64
	unverified        map[webhook.Problem]uint64
	lastAccepted      time.Time
	lastSecretProblem time.Time
}

// New returns a gateway that serves nothing yet. It reads the secrets: one that cannot be
// used is an error.
func New(c Config) (*Gateway, error) {
	g := &Gateway{config: c, sources: totals.NewSources(totals.SourcesConfig{Record: c.Record, Log: c.Log})}
	if slices.ContainsFunc(c.Webhooks.Receivers, func(r config.WebhookReceiver) bool { return r.NetworksFrom == config.NetworksAtlassian }) {
		g.networks = ipranges.Open(ipranges.Config{Fetch: c.FetchNetworks, File: c.NetworksFile, Log: c.Log})
	}
	handlers := map[string]http.Handler{}
	listenerConfig := listener.Config{
		Handlers: handlers, TLS: c.TLS, ProxyProtocolFrom: c.Webhooks.Listener.ProxyProtocolFrom,
		MaxConnections: c.Webhooks.Listener.MaxConnections, MaxPerClient: c.Webhooks.Listener.MaxPerClient,
		Panicked: c.Panicked, Log: c.Log,
	}
	if c.Agents != nil {
		listenerConfig.Prefixes = map[string]http.Handler{AgentPrefix: c.Agents}
	}
	g.server = listener.New(listenerConfig)
	decider := newDecider(c)
	for _, rc := range c.Webhooks.Receivers {
		r, handler, err := g.newReceiver(rc, decider)
		if err != nil {
			return nil, fmt.Errorf("webhooks.receivers %s: %w", rc.Name, err)
		}
		g.receivers = append(g.receivers, r)
		handlers[rc.Path] = handler
	}
	return g, nil
}

func (g *Gateway) newReceiver(rc config.WebhookReceiver, decider webhook.Decider) (*receiver, *webhook.Receiver, error) {
	r := &receiver{config: rc, outcomes: map[string]uint64{}, unverified: map[webhook.Problem]uint64{}}
	var err error
	if r.secret, err = secretfile.Open(rc.Secret, webhook.NewSecret, g.config.Log); err != nil {
		return nil, nil, err
	}
	if !rc.Previous.IsZero() {
		if r.previous, err = secretfile.Open(rc.Previous, webhook.NewPreviousSecret, g.config.Log); err != nil {
			return nil, nil, err
		}
	}
	handler, err := webhook.NewReceiver(webhook.Config{
		Name: rc.Name, Listener: g.config.Webhooks.Listener.Address, Kind: rc.Kind, Secrets: r.secrets,
		Repositories: rc.Repositories, Events: rc.Events, MaxBody: int64(rc.MaxBodyBytes),
		AcceptsFrom: g.acceptsFrom(rc),
		Allow:       listener.NewRates(rc.RequestsPerSecond, nil).Allow,
		Reserve:     g.server.Reserve,
		Verified:    listener.Verified,
		Refused: func(client netip.Addr, p webhook.Problem) {
			r.refused(p)
			g.sources.Add(rc.Name, client, string(p))
		},
		Answered: r.answered,
		Panicked: g.config.Panicked,
		Decider:  decider, Queue: g.config.Queue,
	})
	return r, handler, err
}

// secrets returns the valid secrets, the current one first.
func (r *receiver) secrets() []webhook.Secret {
	secrets := []webhook.Secret{r.secret.Get()}
	if r.previous != nil {
		if previous := r.previous.Get(); previous != (webhook.Secret{}) {
			secrets = append(secrets, previous)
		}
	}
	return secrets
}

// acceptsFrom returns the check of a receiver's source networks; nil: any is accepted.
func (g *Gateway) acceptsFrom(rc config.WebhookReceiver) func(netip.Addr) bool {
	switch {
	case rc.NetworksFrom == config.NetworksAtlassian:
		return func(a netip.Addr) bool { return g.networks.Contains(a, rc.NetworksMaxAge) }
	case len(rc.Networks) > 0:
		return func(a netip.Addr) bool {
			return slices.ContainsFunc(rc.Networks, func(n netip.Prefix) bool { return n.Contains(a) })
		}
	}
	return nil
}

// Serve accepts deliveries until [Gateway.Shutdown], and then returns nil.
func (g *Gateway) Serve(l net.Listener) error { return g.server.Serve(l) }

// Run fetches the list of networks and records counts until ctx ends.
func (g *Gateway) Run(ctx context.Context) {
	var both sync.WaitGroup
	if g.networks != nil {
		both.Go(func() { g.networks.Run(ctx) })
	}
	both.Go(func() { g.sources.Run(ctx) })
	both.Wait()
}

// Shutdown accepts no further connection, and returns when the requests in progress are
// answered, or when ctx is done.
func (g *Gateway) Shutdown(ctx context.Context) error { return g.server.Shutdown(ctx) }

// Flush records the counts since the latest event, at the end of a process.
func (g *Gateway) Flush(ctx context.Context) { g.sources.Flush(ctx) }
