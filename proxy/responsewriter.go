package proxy

import "net/http"

// ResponseWriter is the writer that the frontend gives to a forwarder for the response
// to one absolute-form request. Its Header, Write, WriteHeader, Flush, Refuse, Finish
// and Upgrade are called from one goroutine at a time; Abort may be called from any.
//
// The writer removes the response fields that belong to one hop (RFC 9110 section
// 7.6.1) and chooses the framing: it keeps a Content-Length of its header where that
// can be right. It ignores interim (1xx) statuses.
type ResponseWriter interface {
	http.ResponseWriter
	http.Flusher
	// Refuse answers with a refusal if no head was written yet, and aborts the
	// response otherwise.
	Refuse(*Refusal)
	// Abort closes the connection, so that a truncated response does not look complete.
	Abort()
	// Finish ends the response, so that the client has all of it before the admission
	// is closed.
	Finish()
	// Upgrade answers 101 with the fields of Header; behind holds the bytes that the
	// target has sent after the head of its own 101. If Upgrade returns true, the
	// connection and the admission belong to the writer.
	Upgrade(target Stream, behind []byte) bool
}
