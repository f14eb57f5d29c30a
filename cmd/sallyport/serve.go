package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/config"
)

func newServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy until SIGTERM or SIGINT: then nothing new is admitted, open
tunnels may go on for shutdown.drain_timeout, and every end is recorded.
SIGHUP loads the policy again.`,
		Args: noArguments,
	}
	path := addConfigFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, name, err := loadConfig(*path)
		if err != nil {
			return err
		}
		log := newLogger(cfg.Log, c.ErrOrStderr())
		for _, w := range cfg.Warnings() {
			log.Warn("configuration", "remark", w.String())
		}
		log.Info("starting", "version", programVersion(), "configuration", name, "pid", os.Getpid())
		return serve(c.Context(), cfg, log)
	}
	return c
}

// serve runs a server until ctx ends or something that it cannot do without does.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	s, err := newServer(ctx, cfg, log)
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	return s.run(ctx, reload)
}

func newLogger(c config.Log, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == config.FormatText {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
