package webhookserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/secretfile"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/listener"
)

// Outcomes are what a receiver did with verified deliveries.
var Outcomes = []string{"accepted", "denied", "repeated", "unavailable"}

// answered counts a verified delivery.
func (r *receiver) answered(d *webhook.Delivery, decision webhook.Decision, outcome webhook.Outcome, _ int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case outcome == webhook.Repeated:
		r.outcomes["repeated"]++
	case outcome != webhook.Accepted:
		r.outcomes["unavailable"]++
	case decision.Verdict != policy.Allow:
		r.outcomes["denied"]++
	default:
		r.outcomes["accepted"]++
		r.lastAccepted = d.Received
	}
}

// refused counts a request that is not a verified delivery.
func (r *receiver) refused(p webhook.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unverified[p]++
	if p == webhook.SignatureProblem || p == webhook.UnsignedProblem {
		r.lastSecretProblem = time.Now()
	}
}

// Receivers returns the names of the receivers, as configured.
func (g *Gateway) Receivers() []string {
	names := make([]string, len(g.receivers))
	for i, r := range g.receivers {
		names[i] = r.config.Name
	}
	return names
}

func (g *Gateway) receiver(name string) *receiver {
	for _, r := range g.receivers {
		if r.config.Name == name {
			return r
		}
	}
	return nil
}

// Deliveries returns how many verified deliveries of a receiver had an outcome of
// [Outcomes].
func (g *Gateway) Deliveries(receiver, outcome string) uint64 {
	r := g.receiver(receiver)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outcomes[outcome]
}

// Unverified returns how many requests of a receiver had a problem.
func (g *Gateway) Unverified(receiver string, p webhook.Problem) uint64 {
	r := g.receiver(receiver)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unverified[p]
}

// SecretChanged returns when the file of the receiver's secret was last changed.
func (g *Gateway) SecretChanged(receiver string) time.Time {
	return g.receiver(receiver).secret.Modified()
}

// SecretErr returns why the present content of a secret's file is not in force; nil: it is.
func (g *Gateway) SecretErr(receiver string) error {
	r := g.receiver(receiver)
	if err := r.secret.Err(); err != nil || r.previous == nil {
		return err
	}
	return r.previous.Err()
}

// Stats returns the listener's figures.
func (g *Gateway) Stats() listener.Stats { return g.server.Stats() }

// UsesNetworks reports whether a receiver accepts deliveries from Atlassian's networks only.
func (g *Gateway) UsesNetworks() bool { return g.networks != nil }

// NetworksFetched returns when the list of Atlassian's networks was fetched; zero: never.
func (g *Gateway) NetworksFetched() time.Time { return g.networks.State().Fetched }

// NetworksExpired reports whether the receiver refuses everything because the list of
// Atlassian's networks is too old.
func (g *Gateway) NetworksExpired(receiver string) bool { return g.expired(g.receiver(receiver)) }

func (g *Gateway) expired(r *receiver) bool {
	return r.config.NetworksFrom == config.NetworksAtlassian && time.Since(g.networks.State().Fetched) > r.config.NetworksMaxAge
}

// Warning returns what an operator has to repair; nil: nothing.
func (g *Gateway) Warning() error {
	var problems []error
	for _, r := range g.receivers {
		if err := g.SecretErr(r.config.Name); err != nil {
			problems = append(problems, fmt.Errorf("receiver %s uses the last good secret: %w", r.config.Name, err))
		}
		if g.expired(r) {
			err := fmt.Errorf("receiver %s refuses every delivery: the list of Atlassian's networks is older than networks_max_age (%s)", r.config.Name, r.config.NetworksMaxAge)
			if cause := g.networks.State().Err; cause != nil {
				err = fmt.Errorf("%w: %w", err, cause)
			}
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// Detail returns a detail of /readyz.
func (g *Gateway) Detail() any {
	receivers := map[string]any{}
	for _, r := range g.receivers {
		d := map[string]any{"path": r.config.Path, "kind": r.config.Kind.String(), "secret_changed": cli.FormatTimeOrNever(r.secret.Modified()), "previous_secret": r.previous != nil}
		r.mu.Lock()
		d["last_accepted"], d["last_signature_problem"] = cli.FormatTimeOrNever(r.lastAccepted), cli.FormatTimeOrNever(r.lastSecretProblem)
		r.mu.Unlock()
		receivers[r.config.Name] = d
	}
	detail := map[string]any{"receivers": receivers}
	if g.networks != nil {
		st := g.networks.State()
		networks := map[string]any{"networks": st.Networks, "fetched": cli.FormatTimeOrNever(st.Fetched)}
		if st.Err != nil {
			networks["error"] = st.Err.Error()
		}
		detail["atlassian_networks"] = networks
	}
	return detail
}

var _ secretfile.Source = config.Secret{}
