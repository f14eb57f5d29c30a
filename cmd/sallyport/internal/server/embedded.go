package server

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgembed"
)

// startEmbedded runs a PostgreSQL of our own and brings its schema up.
func startEmbedded(ctx context.Context, cfg *config.Config, log *slog.Logger) (*pgembed.Server, error) {
	server, err := pgembed.Start(ctx, pgembed.Config{Directory: auditdb.EmbeddedDirectory(cfg), Logger: log.With("component", "postgresql")})
	if err != nil {
		return nil, fmt.Errorf("start the embedded PostgreSQL: %w", err)
	}
	log.Info("embedded PostgreSQL is running", "directory", auditdb.EmbeddedDirectory(cfg),
		"postgresql", server.Binaries().Version, "user", server.User(), "pid", server.PID())
	if err := database.CreateDatabase(ctx, server.URL("postgres", pgembed.Superuser), auditdb.EmbeddedDatabase); err != nil {
		_ = server.Close()
		return nil, fmt.Errorf("make the embedded database: %w", err)
	}
	from, to, err := database.Migrate(ctx, server.URL(auditdb.EmbeddedDatabase, pgembed.Superuser), log)
	if err != nil {
		_ = server.Close()
		return nil, err
	}
	if from != to {
		log.Info("audit schema brought up", "from", from, "to", to)
	}
	return server, nil
}
