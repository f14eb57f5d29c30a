package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/pause"
)

// unconfirmedSQL lists the other instances that have not begun to read since a
// time. Only logins that may record are instances.
const unconfirmedSQL = `
	SELECT 'instance ' || instance || ' of the login ' || min(usename) || coalesce(' at ' || min(host(client_addr)), '') || ', session ' || min(pid)
	FROM (SELECT usename, client_addr, pid, split_part(application_name, ' ', 3) AS instance,
	             CASE WHEN starts_with(application_name, $1) AND split_part(application_name, ' ', 4) ~ '^[0-9]{1,18}$'
	                  THEN split_part(application_name, ' ', 4)::bigint ELSE 0 END AS read
	      FROM pg_stat_activity
	      WHERE datname = current_database() AND (starts_with(application_name, $1) OR starts_with(application_name, $4))
	        AND pg_has_role(usesysid, 'sallyport_writer', 'MEMBER')) s
	WHERE instance <> $2
	GROUP BY instance HAVING max(read) < $3
	ORDER BY 1`

// awaitOthers returns nil once every other connected instance has read what is
// committed now.
func (s *Store) awaitOthers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.confirmTimeout)
	defer cancel()
	var committed int64
	var waiting []string
	for {
		err := s.retry(ctx, func() error {
			if committed == 0 {
				if err := s.pool.QueryRow(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).Scan(&committed); err != nil {
					return err
				}
			}
			rows, err := s.pool.Query(ctx, unconfirmedSQL, readerName, s.instance, committed, poolName)
			if err != nil {
				return err
			}
			list, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err == nil {
				waiting = list
			}
			return err
		})
		if err == nil && len(waiting) == 0 {
			return nil
		}
		if !pause.For(ctx, confirmPoll) {
			if len(waiting) == 0 {
				waiting = []string{fmt.Sprintf("those of the database, which does not list them: %v", s.explain("confirm", err))}
			}
			return &identity.UnconfirmedError{Instances: slices.Clip(waiting), Waited: s.confirmTimeout}
		}
	}
}
