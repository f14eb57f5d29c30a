package reader

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
)

// Found is all that the log holds of one decision.
type Found struct {
	// Records are those of its events, the decision first and then what closed it:
	// the bytes that were hashed, which are JSON. There are none of an unknown id.
	Records [][]byte
	// BuildNumber and Creator are the pipeline's, as far as they have become known.
	BuildNumber int64
	Creator     string
}

// Find looks a decision up by its id, which has to be a UUID, in the database with
// this connection string. What waits in a server's journal is not found.
func Find(ctx context.Context, databaseURL, id string) (Found, error) {
	pool, err := database.NewPool(ctx, databaseURL, "sallyport audit show", 1)
	if err != nil {
		return Found{}, fmt.Errorf("look a decision up: %w", err)
	}
	defer pool.Close()
	explain := func(err error) error {
		return database.Explain("look a decision up", &pool.Config().ConnConfig.Config, err)
	}
	rows, err := pool.Query(ctx, `SELECT audit.record(e) FROM audit.events e WHERE decision_id = $1::text::uuid
		ORDER BY kind <> 'decision', time, writer, writer_sequence LIMIT 100`, id)
	if err != nil {
		return Found{}, explain(err)
	}
	var found Found
	if found.Records, err = pgx.CollectRows(rows, pgx.RowTo[[]byte]); err != nil {
		return Found{}, explain(err)
	}
	if len(found.Records) == 0 {
		return found, nil
	}
	err = pool.QueryRow(ctx, `SELECT coalesce(max(build_number), 0), coalesce(max(creator), '')
		FROM audit.all_decisions WHERE decision_id = $1::text::uuid`, id).Scan(&found.BuildNumber, &found.Creator)
	if err != nil {
		return Found{}, explain(err)
	}
	return found, nil
}
