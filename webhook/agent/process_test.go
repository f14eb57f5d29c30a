package agent_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/agent"
	agentpg "github.com/sallyport/sallyport/webhook/agent/postgres"
	"github.com/sallyport/sallyport/webhook/dispatch"
	webhookpg "github.com/sallyport/sallyport/webhook/postgres"
)

// role makes the test binary a process of its own, which a test can kill.
const role = "SALLYPORT_TEST_WEBHOOK_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		pgtest.Main(m)
		return
	case "gateway":
		fail(runGateway())
	case "agent":
		fail(runAgent())
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// settings configure a process, which reads them from its standard input. The end of the input ends it.
type settings struct {
	Database, Listen, Direct, Private, Credential string
	Early                                         bool // deliveries are acknowledged before they are committed
}

func readSettings() (c settings, err error) {
	if err := json.NewDecoder(os.Stdin).Decode(&c); err != nil {
		return c, err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return c, nil
}

// timing shortens every pause: an hour is some seconds.
var timing = dispatch.Timing{
	BackoffBase: 10 * time.Millisecond, BackoffMax: 300 * time.Millisecond, OpenBase: 20 * time.Millisecond, OpenMax: 200 * time.Millisecond,
	Poll: 200 * time.Millisecond, StoreMax: 300 * time.Millisecond,
}

const lease = 2 * time.Second

// push is what the sender of a test posts.
type push struct {
	Repository string `json:"repository"`
	Number     int    `json:"number"`
}

// runGateway accepts deliveries, sends them to an endpoint, and serves agents of another.
func runGateway() error {
	c, err := readSettings()
	if err != nil {
		return err
	}
	ctx, log := context.Background(), slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	audit, err := auditwriter.Open(ctx, auditwriter.Config{URL: c.Database, Version: "test", Log: log})
	if err != nil {
		return err
	}
	queue, err := webhookpg.Open(ctx, webhookpg.Config{URL: c.Database, Recorder: audit, Log: log})
	if err != nil {
		return err
	}
	dialer := &proxy.GuardedDialer{Guard: &proxy.Guard{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	sender, err := dispatch.NewSender(dispatch.SenderConfig{URL: c.Direct, Dial: dialer.DialContext})
	if err != nil {
		return err
	}
	dispatcher, err := dispatch.New(dispatch.Config{Store: queue, Lease: lease, Timing: timing, Log: log, Endpoints: []dispatch.Endpoint{{Name: "direct", Send: sender.Send}}})
	if err != nil {
		return err
	}
	credentials, err := agentpg.Open(ctx, c.Database)
	if err != nil {
		return err
	}
	server, err := agent.NewServer(agent.ServerConfig{Store: queue, Credentials: credentials, Lease: lease, Log: log, Endpoints: []agent.Endpoint{{Name: "private"}}})
	if err != nil {
		return err
	}
	go dispatcher.Run(ctx)
	go server.Run(ctx)
	mux := http.NewServeMux()
	mux.Handle(agent.Prefix, server)
	mux.HandleFunc("POST /accept", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if c.Early {
			go func() {
				time.Sleep(20 * time.Millisecond)
				_ = acceptPush(context.Background(), queue, body)
			}()
			return
		}
		if err := acceptPush(r.Context(), queue, body); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	return http.Serve(l, mux)
}

func acceptPush(ctx context.Context, queue webhook.Queue, body []byte) error {
	var p push
	if err := json.Unmarshal(body, &p); err != nil {
		return err
	}
	d := &webhook.Delivery{
		Receiver: "cloud", Body: body, Digest: sha256.Sum256(body), Received: time.Now(), RequestID: uuid.NewV4(), Client: netip.MustParseAddr("127.0.0.1"),
		Event:  &webhook.Event{Kind: webhook.Cloud, Key: "repo:push", Repository: &webhook.Repository{FullName: p.Repository}},
		Header: http.Header{"Content-Type": {"application/json"}, "X-Event-Key": {"repo:push"}},
	}
	outcome, err := queue.Accept(ctx, d, webhook.Decision{Verdict: policy.Allow, Mode: policy.Enforce, Reason: webhook.Configured, Routes: []webhook.Route{
		{Action: webhook.Forward, Endpoint: "direct"}, {Action: webhook.Forward, Endpoint: "private"},
	}})
	if err == nil && outcome != webhook.Accepted {
		err = fmt.Errorf("outcome %d", outcome)
	}
	return err
}

func runAgent() error {
	c, err := readSettings()
	if err != nil {
		return err
	}
	client, err := agent.NewClient(agent.ClientConfig{Server: "http://" + c.Listen, Credential: func() (string, error) { return c.Credential, nil }, Wait: time.Second})
	if err != nil {
		return err
	}
	return agent.Run(context.Background(), agent.Config{Client: client, To: c.Private, Lease: lease, Timing: timing})
}
