package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/logging"
	"github.com/sallyport/sallyport/internal/config"
)

func newServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy until SIGTERM or SIGINT: then nothing new is admitted, open
tunnels may stay open for shutdown.drain_timeout, and every end is recorded.
SIGHUP loads the policy again.`,
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
		return serve(c.Context(), cfg, log, lines)
	}
	return c
}

// gcPercent trades memory for time: the live heap is small beside what a request
// allocates, so that collecting a quarter as often costs some tens of megabytes
// and saves a good part of the CPU.
const gcPercent = 400

// serve runs a server until ctx ends or something that it cannot do without does.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, lines *logging.Buffer) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	s, err := newServer(ctx, cfg, log)
	if err != nil {
		return err
	}
	s.metrics.Counter("sallyport_log_lines_dropped_total", "Log lines that standard error did not take in time.", func() float64 { return float64(lines.Dropped()) })
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	return s.run(ctx, reload)
}
