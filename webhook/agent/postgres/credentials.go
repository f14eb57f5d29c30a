// Package postgres stores the credentials of agents for all instances, as digests.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/webhook/agent"
)

// schemaNeeded is the migration that creates webhook.agent_credentials.
const schemaNeeded = 12

const poolSize = 4

// Credentials is the store of credentials. It is safe for concurrent use.
type Credentials struct {
	pool  *pgxpool.Pool
	known known
}

var _ agent.Credentials = (*Credentials)(nil)

// Open connects to the database, as the role sallyport_writer or a member of it, and checks
// the version of its schema. The caller must call [Credentials.Close].
func Open(ctx context.Context, url string) (*Credentials, error) {
	pool, err := database.NewPool(ctx, url, "sallyport webhook agents", poolSize)
	if err != nil {
		return nil, fmt.Errorf("agent credentials: %w", err)
	}
	if err := checkSchema(ctx, pool); err != nil {
		pool.Close()
		return nil, fmt.Errorf("agent credentials: %w", err)
	}
	return &Credentials{pool: pool, known: known{pool: pool}}, nil
}

func checkSchema(ctx context.Context, db database.Querier) error {
	if err := database.CheckVersion(ctx, db); err != nil {
		return err
	}
	version, err := database.Version(ctx, db)
	if err == nil && version < schemaNeeded {
		err = fmt.Errorf("the database's schema is version %d, and agents need %d; run `sallyport migrate`", version, schemaNeeded)
	}
	return err
}

// Close closes the connections.
func (c *Credentials) Close() { c.pool.Close() }

// Find implements [agent.Credentials]. The row is read for each call, so that a revocation
// applies at once; unknown ids together cost one query a second.
func (c *Credentials) Find(ctx context.Context, id string) (agent.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := c.known.check(ctx, id); err != nil {
		return agent.Credential{}, err
	}
	found := agent.Credential{ID: id}
	var digest, key []byte
	err := c.pool.QueryRow(ctx, `SELECT endpoint, digest, lease_key FROM webhook.agent_credentials WHERE id = $1 AND revoked_at IS NULL`, id).
		Scan(&found.Endpoint, &digest, &key)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		c.known.forget(id)
		return agent.Credential{}, fmt.Errorf("agent credential %s: %w", id, agent.ErrCredential)
	case err != nil:
		return agent.Credential{}, fmt.Errorf("agent credential %s: %w", id, err)
	case copy(found.Digest[:], digest) != 32 || copy(found.LeaseKey[:], key) != 32:
		return agent.Credential{}, fmt.Errorf("agent credential %s: its digest or key does not have 32 bytes", id)
	}
	return found, nil
}

// Used implements [agent.Credentials]. Each instance stores the time at most once a minute;
// an error is ignored, because the time is for the list only.
func (c *Credentials) Used(ctx context.Context, id string) {
	if !c.known.isDue(id) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, _ = c.pool.Exec(ctx, `UPDATE webhook.agent_credentials SET last_used_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL`, id)
}

// Add stores a credential. by names the operator who created it.
func (c *Credentials) Add(ctx context.Context, added agent.Credential, description, by string) error {
	_, err := c.pool.Exec(ctx, `INSERT INTO webhook.agent_credentials (id, endpoint, description, digest, lease_key, created_by) VALUES ($1, $2, $3, $4, $5, $6)`,
		added.ID, added.Endpoint, description, added.Digest[:], added.LeaseKey[:], by)
	if err != nil {
		return fmt.Errorf("store agent credential: %w", err)
	}
	return nil
}

// List returns all credentials, the oldest first.
func (c *Credentials) List(ctx context.Context) ([]agent.StoredCredential, error) {
	rows, err := c.pool.Query(ctx, `SELECT id, endpoint, description, created_by, created_at, last_used_at, revoked_at,
		coalesce(revoked_by, ''), coalesce(revoked_reason, '') FROM webhook.agent_credentials ORDER BY created_at, id LIMIT 10000`)
	if err != nil {
		return nil, fmt.Errorf("list agent credentials: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l agent.StoredCredential, err error) {
		var used, revoked *time.Time
		err = row.Scan(&l.ID, &l.Endpoint, &l.Description, &l.CreatedBy, &l.CreatedAt, &used, &revoked, &l.RevokedBy, &l.RevokedReason)
		if used != nil {
			l.LastUsedAt = *used
		}
		if revoked != nil {
			l.RevokedAt = *revoked
		}
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("list agent credentials: %w", err)
	}
	return list, nil
}

// Revoke revokes a credential, and reports whether it was valid before. Requests with it are
// refused from the next one on, in every instance.
func (c *Credentials) Revoke(ctx context.Context, id, by, reason string) (revoked bool, err error) {
	tag, err := c.pool.Exec(ctx, `UPDATE webhook.agent_credentials SET revoked_at = clock_timestamp(), revoked_by = $2, revoked_reason = $3 WHERE id = $1 AND revoked_at IS NULL`, id, by, reason)
	if err != nil {
		return false, fmt.Errorf("revoke agent credential %s: %w", id, err)
	}
	return tag.RowsAffected() == 1, nil
}

// Oldest returns when the oldest valid credential was created; zero: there is none.
func (c *Credentials) Oldest(ctx context.Context) (time.Time, error) {
	var at *time.Time
	if err := c.pool.QueryRow(ctx, `SELECT min(created_at) FROM webhook.agent_credentials WHERE revoked_at IS NULL`).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("age of agent credentials: %w", err)
	}
	if at == nil {
		return time.Time{}, nil
	}
	return *at, nil
}
