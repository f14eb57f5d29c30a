package pgtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
)

// prepared are the clusters that StartFrom copies, by key.
var prepared struct {
	mu       sync.Mutex
	clusters map[string]*cluster
}

// cluster is a server that was shut down, with one database that was filled.
type cluster struct {
	server *Server
	name   string
	err    error
}

// StartFrom is [Start] with a database that is a copy of one that prepare has filled: the
// whole cluster is copied, with the roles. prepare runs once in a process for each key; it
// gets the superuser's URL of an empty database, and must leave no connection open.
func StartFrom(t testing.TB, options Options, key string, prepare func(ctx context.Context, url string) error) (*Server, *DB) {
	t.Helper()
	c := preparedCluster(key, prepare)
	if c.err != nil {
		t.Fatalf("pgtest: preparing %q: %v", key, c.err)
	}
	s, err := launch(options, filepath.Join(c.server.Directory, "data"))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	s.endWith(t)
	return s, &DB{Name: c.name, Server: s}
}

// preparedCluster returns the cluster of a key, which is made once.
func preparedCluster(key string, prepare func(ctx context.Context, url string) error) *cluster {
	prepared.mu.Lock()
	defer prepared.mu.Unlock()
	if c := prepared.clusters[key]; c != nil {
		return c
	}
	c := &cluster{name: fmt.Sprintf("t%d", databases.Add(1))}
	c.server, c.err = launch(Options{NoSync: true}, "")
	if c.err == nil {
		c.err = errors.Join(c.fill(prepare), c.server.current().Close())
	}
	if prepared.clusters == nil {
		prepared.clusters = make(map[string]*cluster)
	}
	prepared.clusters[key] = c
	return c
}

func (c *cluster) fill(prepare func(ctx context.Context, url string) error) error {
	if err := c.server.execute("CREATE DATABASE " + quote(c.name) + " TEMPLATE template0"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return prepare(ctx, c.server.URL(c.name, ""))
}

// removePrepared removes the clusters' files.
func removePrepared() (err error) {
	prepared.mu.Lock()
	defer prepared.mu.Unlock()
	for _, c := range prepared.clusters {
		if c.server != nil {
			err = errors.Join(err, c.server.remove())
		}
	}
	prepared.clusters = nil
	return err
}
