package servecmd

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/logging"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/server"
	"github.com/sallyport/sallyport/internal/config"
)

// NewServe returns the command `sallyport serve`.
func NewServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy until SIGTERM or SIGINT. It then admits no new requests, open
tunnels continue for shutdown.drain_timeout, and the end of each is recorded.
SIGHUP reloads the policy.`,
		Args: cli.NoArguments,
	}
	path := cli.AddConfigFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, name, err := cli.LoadConfigWith(*path, config.Load)
		if err != nil {
			return err
		}
		if err := components.Validate(cfg); err != nil {
			return err
		}
		defer cli.SurviveBrokenPipes()()
		log, lines := logging.NewServer(cfg.Log, c.ErrOrStderr())
		defer lines.Flush()
		for _, w := range cfg.Warnings() {
			log.Warn("configuration warning", "warning", w.String())
		}
		log.Info("starting", "version", cli.Version(), "configuration", name, "pid", os.Getpid())
		return server.Serve(c.Context(), cfg, log, lines)
	}
	return c
}
