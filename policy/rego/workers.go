package rego

import (
	"context"
	"sync"

	"github.com/sallyport/sallyport/internal/worker"
)

// Workers execute what a repository wrote apart from this process: a
// [*worker.Pool].
type Workers interface {
	Do(ctx context.Context, call *worker.Call) (reply []byte, err error)
}

// defaultWorkers are those of sets that are loaded without any.
var defaultWorkers = sync.OnceValue(func() Workers { return worker.New(worker.Config{}) })
