package rego

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/internal/worker"
)

// fileLimit bounds the reading and the formatting of one file.
const fileLimit = 10 * time.Second

// Format returns a Rego file in OPA's format, which [Check] requires. path is for the
// error, of type [Errors], if the file does not parse or ends the worker process. OPA
// v1.21 loses some comments, such as the last one in a set, and moves brackets behind
// others: such a file is not formatted, and the error is of type [Errors] too.
func Format(ctx context.Context, path string, content []byte) (formatted []byte, err error) {
	return sendFile(ctx, requestFormat, path, content)
}

// ReadDocument reads a document in YAML or JSON like the files below data/, in a worker
// process, and returns it as JSON. The error is of type [Errors], with the path, where the
// document is at fault.
func ReadDocument(ctx context.Context, path string, content []byte) ([]byte, error) {
	return sendFile(ctx, requestDocument, path, content)
}

// sendFile sends one file to a worker and returns the result.
func sendFile(ctx context.Context, kind byte, path string, content []byte) ([]byte, error) {
	request, err := json.Marshal(wireFile{path, content})
	if err != nil {
		return nil, err
	}
	reply, err := defaultWorkers().Do(ctx, &worker.Call{
		Share: path, Class: worker.Background, Limit: fileLimit, MaxReply: maxReply, Request: append([]byte{kind}, request...),
	})
	if d, ok := errors.AsType[*worker.Death](err); ok {
		return nil, Errors{{File: path, Line: 1, Column: 1, Message: "reading the file " + d.Error(), Retry: d.Retryable()}}
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case len(reply) == 0:
		return nil, errWire
	case reply[0] == replyError:
		return nil, fmt.Errorf("%s: %w", path, readError(reply[1:]))
	case reply[0] != replyOK:
		return nil, errWire
	}
	var answer fileReply
	if err := readStrictly(reply[1:], &answer); err != nil {
		return nil, err
	}
	if len(answer.Errors) > 0 {
		return nil, answer.Errors
	}
	return bytes.Clone(answer.Content), nil
}
