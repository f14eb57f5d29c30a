package rego

import (
	"errors"

	"github.com/sallyport/sallyport/policy/rego/document"
)

// file processes a request about one file.
func (h *host) file(kind byte, request []byte) []byte {
	var f wireFile
	if err := readStrictly(request, &f); err != nil {
		return failure(err)
	}
	h.work += measureEvery / 4
	var a fileReply
	var err error
	if kind == requestFormat {
		a.Content, err = formatFile(f.Path, f.Content)
	} else {
		a.Content, err = document.JSON(f.Content)
	}
	if fault, ok := errors.AsType[*document.Error](err); ok {
		err = Errors{documentError(f.Path, fault)}
	}
	if errs, ok := errors.AsType[Errors](err); ok {
		a, err = fileReply{Errors: errs}, nil
	}
	if err != nil {
		return failure(err)
	}
	return okReply(&a)
}
