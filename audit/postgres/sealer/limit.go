package sealer

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// minBatch is the least that a batch shrinks to.
const minBatch = 100

// batchLimit returns how many leaves the next batch may have. A login that may
// write can make each of its events three megabytes, so that a full batch takes
// longer than a step may: after a timeout the next step seals half as many.
func (s *Sealer) batchLimit() int {
	return max(s.config.Batch>>s.batchHalvings, min(s.config.Batch, minBatch))
}

// adapt changes the limit of a batch after a step that sealed so many events.
func (s *Sealer) adapt(err error, sealed int) {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), ok && pg.Code == "57014": // query_canceled
		s.batchHalvings = min(s.batchHalvings+1, 30)
	case err == nil && sealed > 0 && s.batchHalvings > 0:
		s.batchHalvings--
	}
}
