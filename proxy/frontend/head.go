package frontend

// head is a parsed request head, which has only one meaning. Its slices point into the
// buffer that it was read from.
type head struct {
	method []byte
	target []byte // as sent; any byte but controls and space
	minor  int    // HTTP/1.minor: 0 or 1
	fields []field

	host        int    // how many Host fields
	hostProblem string // what is wrong with the value; "": nothing
	credential  []byte
	has         struct{ credential, doubled, length, coding, expect bool }
	length      int64 // of the body, where it is not chunked
	chunked     bool
	close       bool // the client will not send another request
	keep        bool // Connection: keep-alive
	upgrade     bool // Connection: upgrade
}

type field struct{ name, value []byte }

// maxFields bounds the number of header fields.
const maxFields = 200

func (h *head) reset() {
	fields := h.fields[:0]
	*h = head{fields: fields}
}
