package auditdb

import (
	"path/filepath"

	"github.com/sallyport/sallyport/internal/config"
)

// EmbeddedDatabase is the name of the database in an embedded PostgreSQL.
const EmbeddedDatabase = "sallyport"

// EmbeddedDirectory returns where the embedded PostgreSQL keeps its data.
func EmbeddedDirectory(cfg *config.Config) string {
	return filepath.Join(cfg.DataDirectory, "postgresql")
}
