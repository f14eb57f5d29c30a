package server

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/logging"
	"github.com/sallyport/sallyport/internal/config"
)

// gcPercent trades memory for time: the live heap is small beside what a request
// allocates, so that collecting a quarter as often costs some tens of megabytes
// and saves a good part of the CPU.
const gcPercent = 400

// Serve runs a server until ctx ends or something that it cannot do without does.
func Serve(ctx context.Context, cfg *config.Config, log *slog.Logger, lines *logging.Buffer) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// A SIGHUP during the start loads the policy again afterwards. Its default action
	// would end the process without a message.
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	s, err := newServer(ctx, cfg, log)
	if err != nil {
		return err
	}
	s.metrics.Counter("sallyport_log_lines_dropped_total", "Log lines that standard error did not take in time.", func() float64 { return float64(lines.Dropped()) })
	return s.run(ctx, reload)
}
