package webhookcmd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

type testOptions struct {
	url, caFile, repository, branch string
	wait                            time.Duration
	noFollow                        bool
}

func newTest() *cobra.Command {
	o := testOptions{}
	c := &cobra.Command{
		Use:   "test NAME",
		Short: "Send a signed delivery to a receiver, and report each stage until its endpoints have it",
		Long: `Send a push that changes no branch to a receiver of the running server, signed as
Bitbucket signs, and report each stage: name, TLS, response, signature, decision, event in
the audit log, and each route. The delivery is recorded and takes the path of every other: an
endpoint gets it. With --branch the push names a branch, whose commit stays the same: rules
that need a branch then match, and refresh_policy is requested if it is the policy's branch.
A second delivery with a wrong signature has to be refused.

Name the URL that Bitbucket uses with --url to test name, network and certificate
too. Without it the command connects to the configured listener on this machine, and
does not compare the certificate's name.

The command reads decision, event and routes from the instance that runs on this machine with
the configuration's data_directory, as root or as the instance's user. A stage that fails
is printed with its remedy, and the status is then 1.`,
		Args: oneArgument("the name of a receiver"),
	}
	f := c.Flags()
	path, asJSON := cli.AddConfigFlag(c), cli.AddFormatFlag(c)
	f.StringVar(&o.url, "url", "", "scheme, host and port by which Bitbucket reaches the listener: `URL`")
	f.StringVar(&o.caFile, "ca-file", "", "`FILE` with a certificate authority for --url, beside the system's")
	f.StringVar(&o.repository, "repository", "", "the repository that the delivery names (default: the receiver's first)")
	f.StringVar(&o.branch, "branch", "", "the `BRANCH` that the push names (default: none)")
	f.DurationVar(&o.wait, "wait", 30*time.Second, "how long to wait for the endpoints, as a `DURATION`")
	f.BoolVar(&o.noFollow, "no-follow", false, "end after the response: no instance runs on this machine")
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, r, err := loadReceiver(*path, args[0], "")
		if err != nil {
			return err
		}
		if o.wait < 0 || o.wait > time.Hour {
			return cli.Invalid(fmt.Errorf("--wait %s is not from 0s to 1h", o.wait))
		}
		t, err := o.prepare(cfg, r)
		if err != nil {
			return cli.Invalid(err)
		}
		t.report = &testReport{Receiver: r.Name, URL: t.base, out: c.OutOrStdout(), asJSON: asJSON()}
		answer, ok := t.run(c.Context())
		switch {
		case ok && !o.noFollow:
			t.follow(c.Context(), admin.NewControlClient(cfg.DataDirectory), o.wait)
		case ok && answer != "accepted":
			t.report.failed("decision", "run the test without --no-follow, which names the reason", "%s", answer)
		}
		return t.report.end()
	}
	return c
}

// tester sends the deliveries of one test.
type tester struct {
	receiver *config.WebhookReceiver
	base     string
	event    string
	body     []byte
	client   *http.Client
	checked  bool     // the certificate's name is compared
	agents   []string // endpoints for agents
	report   *testReport
}

func (o *testOptions) prepare(cfg *config.Config, r *config.WebhookReceiver) (*tester, error) {
	t := &tester{receiver: r, base: strings.TrimSuffix(o.url, "/"), checked: o.url != ""}
	for _, e := range cfg.Webhooks.Endpoints {
		if e.Agent {
			t.agents = append(t.agents, e.Name)
		}
	}
	transport := bitbucketapi.NewTransport()
	if t.base == "" {
		l := cfg.Webhooks.Listener
		host, port, err := net.SplitHostPort(l.Address)
		if err != nil {
			return nil, err
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		scheme := "http"
		if l.TLS != nil {
			scheme = "https"
			transport.TLSClientConfig.InsecureSkipVerify = true // the listener of this machine, by its address; --url verifies
		}
		t.base = scheme + "://" + net.JoinHostPort(host, port)
	} else if _, err := bitbucketapi.ParseURL(t.base); err != nil {
		return nil, fmt.Errorf("--url: %w", err)
	}
	if o.caFile != "" {
		pem, err := os.ReadFile(o.caFile)
		if err != nil {
			return nil, err
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca-file: %s has no certificate", o.caFile)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	t.client = &http.Client{Transport: transport, Timeout: apiTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var err error
	t.event, t.body, err = testDelivery(r, o.repository, o.branch)
	return t, err
}

// run reports the stages up to the response. ok is false where one has failed. answer is the
// text of the response.
func (t *tester) run(ctx context.Context) (answer string, ok bool) {
	t.report.ok("configuration", "receiver %s, kind %s, at %s", t.receiver.Name, t.receiver.Kind, t.base)
	text, err := t.receiver.Secret.Read()
	if err != nil {
		t.report.failed("secret", "", "%v", err)
		return "", false
	}
	secret, err := webhook.NewSecret(text)
	if err != nil {
		t.report.failed("secret", "write a secret into the file, as `sallyport webhook rotate` does", "%v", err)
		return "", false
	}
	t.report.ok("secret", "%s", t.receiver.Secret.File())
	if !t.resolve(ctx) {
		return "", false
	}
	a, stage, err := t.send(ctx, secret.Sign(t.body))
	if err != nil {
		remedy := stageRemedy[stage]
		if stage == "certificate" && !t.checked {
			remedy = "another program may have the port: compare webhooks.listener with the log of the instance"
		}
		t.report.failed(stage, remedy, "%v", err)
		return "", false
	}
	t.reportTLS(a.tls)
	if a.status == http.StatusBadRequest && strings.HasPrefix(t.base, "http:") && t.checked {
		t.report.failed("delivery", "the listener may have TLS: write https:// in --url", "status %d %s", a.status, printable.Quote(a.text))
		return "", false
	}
	if a.status != http.StatusOK {
		t.report.failed("delivery", statusRemedy[a.status], "status %d %s", a.status, printable.Quote(a.text))
		return "", false
	}
	t.report.ok("delivery", "status 200: %s", a.text)
	return a.text, t.refusesWrongSignature(ctx)
}

// resolve reports the addresses of the listener's name.
func (t *tester) resolve(ctx context.Context) bool {
	u, err := url.Parse(t.base)
	if err != nil {
		t.report.failed("name", "correct --url", "%v", err)
		return false
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		t.report.ok("name", "%s is an address", u.Hostname())
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
	if err != nil {
		t.report.failed("name", "add the name to the DNS zone, or correct --url", "%v", err)
		return false
	}
	t.report.ok("name", "%s has the addresses %s", u.Hostname(), strings.Join(addresses, ", "))
	return true
}

func (t *tester) reportTLS(state *tls.ConnectionState) {
	switch u, err := url.Parse(t.base); {
	case err != nil:
	case state == nil:
		t.report.ok("TLS", "none: the listener is plain, and the proxy in front of it has the certificate")
	case !t.checked:
		t.report.ok("TLS", "%s; the certificate's name is compared with --url only", tls.VersionName(state.Version))
	default:
		t.report.ok("TLS", "%s, the certificate is valid for %s until %s", tls.VersionName(state.Version), u.Hostname(), state.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly))
	}
}

// refusesWrongSignature sends the delivery with a wrong signature.
func (t *tester) refusesWrongSignature(ctx context.Context) bool {
	a, stage, err := t.send(ctx, webhook.Signature{})
	if err != nil {
		t.report.failed(stage, stageRemedy[stage], "%v", err)
		return false
	}
	if a.status != http.StatusUnauthorized {
		t.report.failed("wrong signature", "", "status %d %s, and it must be refused with 401: do not use this listener", a.status, printable.Quote(a.text))
		return false
	}
	t.report.ok("signature", "verified; a wrong one is refused with status 401")
	return true
}

var stageRemedy = map[string]string{
	"connection":  "start the server, and open the port in the firewall",
	"certificate": "correct the certificate of webhooks.listener.tls; name a private authority with --ca-file",
	"delivery":    "the listener closed the connection: see the log of the instance",
}

var statusRemedy = map[int]string{
	http.StatusNotFound:           "the running server has no receiver with this path: start it again with this configuration",
	http.StatusUnauthorized:       "the running server has another secret: it reads another file, or was started with another configuration",
	http.StatusForbidden:          "this machine is not in the receiver's networks: run the test on one that is; with networks_from, test the receiver before you add the key",
	http.StatusTooManyRequests:    "the receiver limits requests of one address: repeat the test in a second",
	http.StatusServiceUnavailable: "the delivery could not be recorded: see /readyz for the state of the database",
}

// testAnswer is the response to a delivery.
type testAnswer struct {
	status int
	text   string
	tls    *tls.ConnectionState // nil: plain HTTP
}

// send sends the delivery with a signature. stage is where it failed.
func (t *tester) send(ctx context.Context, signature webhook.Signature) (a testAnswer, stage string, err error) {
	stage = "connection"
	trace := &httptrace.ClientTrace{
		TLSHandshakeStart: func() { stage = "certificate" },
		GotConn:           func(httptrace.GotConnInfo) { stage = "delivery" },
	}
	ctx, cancel := context.WithTimeout(httptrace.WithClientTrace(ctx, trace), 10*time.Second) // what Bitbucket waits
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+t.receiver.Path, bytes.NewReader(t.body))
	if err != nil {
		return a, stage, err
	}
	id := uuid.NewV4()
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "sallyport-webhook-test")
	h.Set("X-Event-Key", t.event)
	h.Set(webhook.SignatureHeader, signature.String())
	if t.receiver.Kind == webhook.DataCenter {
		h.Set("X-Request-Id", id)
	} else {
		h.Set("X-Request-UUID", id)
		h.Set("X-Attempt-Number", "1")
	}
	resp, err := t.client.Do(req)
	if err != nil {
		if _, isTLS := errors.AsType[*tls.CertificateVerificationError](err); isTLS {
			stage = "certificate"
		}
		return a, stage, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return testAnswer{resp.StatusCode, strings.TrimSpace(string(text)), resp.TLS}, stage, err
}
