package bitbuckettest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// call is one request, understood.
type call struct {
	endpoint Endpoint
	handle   func(*Server, *call) answer
	args     []string // the path's variable parts, decoded
	path     string   // encoded
	query    url.Values
	header   string // Authorization
	method   string
	body     []byte // of a request that may change something

	onWorkspace bool // of Hooks: those of a workspace

	caller *accessToken
}

// answer is a status and a body that becomes JSON, or is raw already.
type answer struct {
	status int
	header http.Header
	body   any // nil: none; []byte: as it is
}

func (a answer) encode() []byte {
	switch body := a.body.(type) {
	case nil:
		return nil
	case []byte:
		return body
	default:
		return mustJSON(body)
	}
}

// failure is an error in Bitbucket's form.
func failure(status int, format string, args ...any) answer {
	return answer{status: status, body: map[string]any{
		"type": "error", "error": map[string]any{"message": fmt.Sprintf(format, args...)},
	}}
}

// page is an error of what stands in front of the API, which speaks HTML.
func page(status int) answer {
	text := fmt.Sprintf("<html><head><title>%d %s</title></head></html>\n", status, http.StatusText(status))
	return answer{status: status, header: http.Header{"Content-Type": {"text/html"}}, body: []byte(text)}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("bitbuckettest: encode as JSON: %v", err))
	}
	return b
}
