package rego

import (
	"context"
	"sync"

	"github.com/sallyport/sallyport/internal/worker"
)

// Workers execute the files of repositories in other processes: a [*worker.Pool].
type Workers interface {
	Do(ctx context.Context, call *worker.Call) (reply []byte, err error)
}

// defaultWorkers is the pool of sets that are loaded without one.
var defaultWorkers = sync.OnceValue(func() Workers { return worker.New(worker.Config{}) })
