package webhookdelivery

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/proxy/dns"
	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
	"github.com/sallyport/sallyport/webhook/resource"
)

// maxAuthorities bounds a file of certificate authorities in bytes.
const maxAuthorities = 1 << 20

// resources returns the endpoints of the dispatcher that refresh resources. They need the
// endpoints that deliveries are sent to.
func (d *Delivery) resources(resolver *dns.Resolver, direct []dispatch.Endpoint) ([]dispatch.Endpoint, error) {
	var list []dispatch.Endpoint
	for i := range d.config.Webhooks.Resources {
		r := &d.config.Webhooks.Resources[i]
		refresh, err := d.refresh(r, resolver, direct)
		if err != nil {
			return nil, cli.Invalid(fmt.Errorf("webhooks.resources %s: %w", r.Name, err))
		}
		refresher, err := resource.New(resource.Config{
			Match: r.Match.Compile(), Refresh: refresh,
			Latest: func(ctx context.Context) (int64, error) { return d.queue.Latest(ctx, r.Name) },
		})
		if err != nil {
			return nil, cli.Invalid(fmt.Errorf("webhooks.resources %s: %w", r.Name, err))
		}
		d.names = append(d.names, r.Name)
		list = append(list, dispatch.Endpoint{Name: r.Name, Action: webhook.RefreshResource, RetryFor: r.RetryFor, Send: refresher.Send})
	}
	return list, nil
}

// refresh returns what makes one attempt.
func (d *Delivery) refresh(r *config.WebhookResource, resolver *dns.Resolver, direct []dispatch.Endpoint) (func(context.Context, webhook.Task) dispatch.Attempt, error) {
	if r.Kubernetes != nil {
		k, err := newKubernetes(r.Name, r.Kubernetes, r.Kubernetes.Token.Read, r.Timeout, resolver, d.config.Own)
		if err != nil {
			return nil, err
		}
		d.targets = append(d.targets, k)
		return k.Refresh, nil
	}
	for _, e := range direct {
		if e.Name == r.Endpoint {
			return e.Send, nil
		}
	}
	return nil, fmt.Errorf("there is no endpoint %q with a url", r.Endpoint)
}

// newKubernetes returns a target whose connections the guard of the resource permits.
func newKubernetes(name string, k *config.WebhookKubernetes, token func() (string, error), timeout time.Duration, resolver *dns.Resolver, own []netip.AddrPort) (*resource.Kubernetes, error) {
	var roots *x509.CertPool
	if k.CAFile != "" {
		text, err := config.ReadRegular(k.CAFile, maxAuthorities)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(text) {
			return nil, errors.New("ca_file: the file has no certificate: write the certificates in PEM")
		}
	}
	dialer := &proxy.GuardedDialer{
		Guard:   &proxy.Guard{AllowNetworks: k.AllowNetworks, Own: own},
		Resolve: lookups(resolver, name),
		Timeout: timeout,
	}
	return resource.NewKubernetes(resource.KubernetesConfig{
		Server: k.Server, Dial: dialer.DialContext, RootCAs: roots, Token: token, Timeout: timeout, Object: k.Target(),
	})
}
