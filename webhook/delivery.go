package webhook

import (
	"net/http"
	"net/netip"
	"time"
)

// Delivery is one verified request. It is read-only once it was handed to a [Queue].
type Delivery struct {
	Receiver  string // the configured name
	Listener  string // the configured address of the listener
	Event     *Event
	Body      []byte   // as received: the signature is over these bytes
	Digest    [32]byte // SHA-256 of Body
	Signature Signature
	Header    http.Header // header fields that may be forwarded: never a credential
	Client    netip.Addr
	Received  time.Time

	// These are not signed: a client that holds a captured body can choose them.
	RequestID string // canonical UUID, or empty
	HookUUID  string // canonical UUID, or empty; Cloud only
	Attempt   int    // from 1; 0 where none is given
}
