package webhookcmd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

type testOptions struct{ url, caFile, repository string }

func newTest() *cobra.Command {
	o := testOptions{}
	c := &cobra.Command{
		Use:   "test NAME",
		Short: "Send a signed delivery to a receiver, and report each stage",
		Long: `Send a push that changes no branch to a receiver of the running server, signed as
Bitbucket signs, and report each stage. The delivery is recorded and takes the path of every other:
an endpoint gets it, and policy is not refreshed. A second delivery with a
wrong signature has to be refused.

Name the URL that Bitbucket uses with --url to test name, network and certificate
too. Without it the command connects to the configured listener on this machine, and
does not compare the certificate's name.`,
		Args: oneName,
	}
	f := c.Flags()
	path := cli.AddConfigFlag(c)
	f.StringVar(&o.url, "url", "", "scheme, host and port by which Bitbucket reaches the listener: `URL`")
	f.StringVar(&o.caFile, "ca-file", "", "`FILE` with a certificate authority for --url, beside the system's")
	f.StringVar(&o.repository, "repository", "", "the repository that the delivery names (default: the receiver's first)")
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, r, err := loadReceiver(*path, args[0])
		if err != nil {
			return err
		}
		t, err := o.prepare(cfg, r)
		if err != nil {
			return cli.Invalid(err)
		}
		return t.run(c.Context(), c.OutOrStdout())
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
	checked  bool // the certificate's name is compared
}

func (o *testOptions) prepare(cfg *config.Config, r *config.WebhookReceiver) (*tester, error) {
	t := &tester{receiver: r, base: strings.TrimSuffix(o.url, "/"), checked: o.url != ""}
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
	t.event, t.body, err = testDelivery(r, o.repository)
	return t, err
}

// testDelivery returns a push that changes nothing.
func testDelivery(r *config.WebhookReceiver, repository string) (event string, body []byte, err error) {
	if repository == "" && len(r.Repositories) > 0 {
		repository = r.Repositories[0]
	}
	if repository == "" {
		repository = "sallyport/test"
	}
	id := uuid.NewV4()
	if uuid.IsCanonical(repository) {
		id, repository = repository, "sallyport/test"
	}
	project, slug, ok := strings.Cut(repository, "/")
	if !ok {
		return "", nil, fmt.Errorf("--repository %s is neither WORKSPACE/NAME nor a UUID", printable.Quote(repository))
	}
	var content map[string]any
	if r.Kind == webhook.DataCenter {
		event = "repo:refs_changed"
		content = map[string]any{"eventKey": event, "repository": map[string]any{"slug": slug, "id": 1, "project": map[string]any{"key": project}}, "changes": []any{}}
	} else {
		event = "repo:push"
		content = map[string]any{"repository": map[string]any{"full_name": repository, "uuid": "{" + id + "}"}, "push": map[string]any{"changes": []any{}}}
	}
	if len(r.Events) > 0 && !slices.Contains(r.Events, event) {
		return "", nil, fmt.Errorf("the receiver %s does not accept %s, which the test sends", r.Name, event)
	}
	content["sallyport_test"] = uuid.NewV4() // no two bodies are the same: a repetition is not recorded
	body, err = json.Marshal(content)
	return event, body, err
}

// run prints one line for each stage.
func (t *tester) run(ctx context.Context, out io.Writer) error {
	ok := func(stage, format string, args ...any) {
		fmt.Fprintf(out, "ok      %s: "+format+"\n", append([]any{stage}, args...)...)
	}
	failed := func(stage string, err error) error {
		fmt.Fprintf(out, "FAILED  %s: %v\n", stage, err)
		return cli.FindingError{}
	}
	ok("configuration", "receiver %s, kind %s, at %s", t.receiver.Name, t.receiver.Kind, t.base)
	text, err := t.receiver.Secret.Read()
	if err != nil {
		return failed("secret", err)
	}
	secret, err := webhook.NewSecret(text)
	if err != nil {
		return failed("secret", err)
	}
	ok("secret", "%s", t.receiver.Secret.File())
	status, answer, stage, err := t.send(ctx, secret.Sign(t.body))
	if err != nil {
		return failed(stage, err)
	}
	if u, err := url.Parse(t.base); err == nil && u.Scheme == "https" && t.checked {
		ok("certificate", "valid for %s", u.Hostname())
	}
	if status != http.StatusOK {
		return failed("delivery", fmt.Errorf("status %d %s%s", status, printable.Quote(answer), statusRemedy[status]))
	}
	ok("delivery", "status 200: %s", answer)
	if status, answer, stage, err = t.send(ctx, webhook.Signature{}); err != nil {
		return failed(stage, err)
	}
	if status != http.StatusUnauthorized {
		return failed("wrong signature", fmt.Errorf("status %d %s, and it must be refused with 401: do not use this listener", status, printable.Quote(answer)))
	}
	ok("wrong signature", "refused with status 401")
	return nil
}

var statusRemedy = map[int]string{
	http.StatusNotFound:           ": the running server has no receiver with this path: start it again with this configuration",
	http.StatusUnauthorized:       ": the running server has another secret: it reads another file, or was started with another configuration",
	http.StatusForbidden:          ": this machine is not in the receiver's networks: run the test on one that is",
	http.StatusTooManyRequests:    ": the receiver limits requests of one address: repeat the test in a second",
	http.StatusServiceUnavailable: ": the delivery could not be recorded: see /readyz for the state of the database",
}

// send sends the delivery with a signature. stage is where it failed.
func (t *tester) send(ctx context.Context, signature webhook.Signature) (status int, answer, stage string, err error) {
	stage = "connection"
	trace := &httptrace.ClientTrace{
		TLSHandshakeStart: func() { stage = "certificate" },
		GotConn:           func(httptrace.GotConnInfo) { stage = "delivery" },
	}
	ctx, cancel := context.WithTimeout(httptrace.WithClientTrace(ctx, trace), 10*time.Second) // what Bitbucket waits
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+t.receiver.Path, bytes.NewReader(t.body))
	if err != nil {
		return 0, "", stage, err
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
		return 0, "", stage, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return resp.StatusCode, strings.TrimSpace(string(text)), stage, err
}
