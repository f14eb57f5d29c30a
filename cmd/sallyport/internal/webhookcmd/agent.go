package webhookcmd

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/webhook/agent"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// agentFlags are the flags of the agent.
type agentFlags struct {
	server, credentialFile, to, caFile, toCAFile string
	timeout                                      time.Duration
}

func newAgent() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use:   "agent --server URL --credential-file FILE --to URL",
		Short: "Fetch deliveries for an endpoint that the gateway cannot reach",
		Long: `Run beside an endpoint that the gateway cannot reach, such as a Jenkins behind NAT. The
agent connects to the gateway's webhook listener over TLS, fetches the deliveries of its
endpoint, and posts each to the local URL of --to. It acknowledges a delivery after a 2xx
response, and otherwise repeats it until the endpoint's retry_for ends.

No port is opened. Only --to chooses where deliveries are sent. Several agents may share
an endpoint: deliveries of a repository stay in order. The environment variables
HTTPS_PROXY and NO_PROXY apply to the connection to the gateway, not to --to.`,
		Args: cli.NoArguments,
	}
	c.Flags().StringVar(&f.server, "server", "", "the gateway's webhook listener, as `URL` such as https://hooks.example:8443")
	c.Flags().StringVar(&f.credentialFile, "credential-file", "", "`FILE` with the output of `sallyport webhook agent-credential create`; read again for each request")
	c.Flags().StringVar(&f.to, "to", "", "the local `URL` that deliveries are posted to")
	c.Flags().StringVar(&f.caFile, "ca-file", "", "`FILE` with the certificate authorities of --server in PEM; default: those of the system")
	c.Flags().StringVar(&f.toCAFile, "to-ca-file", "", "`FILE` with the certificate authorities of --to in PEM; default: those of the system")
	c.Flags().DurationVar(&f.timeout, "timeout", 10*time.Second, "the maximum time of one attempt, as `DURATION`")
	c.RunE = func(c *cobra.Command, _ []string) error { return f.run(c) }
	return c
}

func (f *agentFlags) run(c *cobra.Command) error {
	if f.server == "" || f.credentialFile == "" || f.to == "" {
		return cli.Invalid(fmt.Errorf("--server, --credential-file and --to are needed\nsee: %s --help", c.CommandPath()))
	}
	if f.timeout < time.Second || f.timeout > 5*time.Minute {
		return cli.Invalid(errors.New("--timeout: it is not from 1s to 5m"))
	}
	if _, err := dispatch.ParseURL(f.to); err != nil {
		return cli.Invalid(fmt.Errorf("--to: %w", err))
	}
	credential, err := f.credential()
	if err != nil {
		return cli.Invalid(fmt.Errorf("--credential-file: %w", err))
	}
	if err := agent.CheckCredential(credential); err != nil {
		return cli.Invalid(fmt.Errorf("--credential-file %s: %w", f.credentialFile, err))
	}
	roots, err := readRoots(f.caFile)
	if err != nil {
		return cli.Invalid(fmt.Errorf("--ca-file: %w", err))
	}
	toRoots, err := readRoots(f.toCAFile)
	if err != nil {
		return cli.Invalid(fmt.Errorf("--to-ca-file: %w", err))
	}
	client, err := agent.NewClient(agent.ClientConfig{Server: f.server, Credential: f.credential, RootCAs: roots})
	if err != nil {
		return cli.Invalid(err)
	}
	defer client.Close()
	log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
	log.Info("webhook agent started", "server", f.server)
	if err := agent.Run(c.Context(), agent.Config{Client: client, To: f.to, RootCAs: toRoots, Timeout: f.timeout, Log: log}); err != nil {
		return err
	}
	log.Info("webhook agent stopped")
	return nil
}

// credential reads the credential's file.
func (f *agentFlags) credential() (string, error) {
	text, err := config.ReadRegular(f.credentialFile, 4096)
	if err != nil {
		return "", fmt.Errorf("read the credential in %s: %w", f.credentialFile, err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// readRoots reads certificates; nil: the file is not given.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", path)
	}
	return roots, nil
}
