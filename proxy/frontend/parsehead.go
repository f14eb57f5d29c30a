package frontend

import (
	"bytes"
	"slices"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// parse reads a head that ends with its empty line (RFC 9112 sections 3 and 5).
func (h *head) parse(raw []byte) *proxy.Refusal {
	h.reset()
	h.minor = 1 // for the answer, until the version is known
	line, rest, refusal := cutLine(raw)
	if refusal != nil {
		return refusal
	}
	if refusal := h.parseRequestLine(line); refusal != nil {
		return refusal
	}
	for {
		line, rest, refusal = cutLine(rest)
		if refusal != nil {
			return refusal
		}
		if len(line) == 0 {
			break
		}
		if len(h.fields) == maxFields {
			return proxy.NewRefusal(policy.HeadTooLarge, "the request has too many header fields")
		}
		if refusal := h.parseField(line); refusal != nil {
			return refusal
		}
	}
	if len(rest) != 0 {
		return malformed("something follows the end of the head")
	}
	return h.checkFraming()
}

// cutLine cuts off a line that ends with CRLF. A line feed or carriage return by itself
// ends a line for some programs and not for others (RFC 9112 section 2.2).
func cutLine(b []byte) (line, rest []byte, refusal *proxy.Refusal) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, nil, malformed("the head is not complete")
	}
	if i == 0 || b[i-1] != '\r' {
		return nil, nil, malformed("a line ends with a bare line feed: lines end with CR LF")
	}
	line, rest = b[:i-1], b[i+1:]
	if bytes.IndexByte(line, '\r') >= 0 {
		return nil, nil, malformed("a line holds a bare carriage return")
	}
	return line, rest, nil
}

// parseRequestLine reads method SP request-target SP HTTP-version, with exactly
// these two spaces (RFC 9112 section 3).
func (h *head) parseRequestLine(line []byte) *proxy.Refusal {
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return malformed("the request line is not a method, a target and a version with one space between them")
	}
	method, rest := line[:i], line[i+1:]
	i = bytes.IndexByte(rest, ' ')
	if i < 0 {
		return malformed("the request line has no HTTP version: write HTTP/1.1 behind the target")
	}
	target, version := rest[:i], rest[i+1:]
	switch {
	case !isToken(method):
		return malformed("the method is not a token")
	case len(method) > 64:
		return malformed("the method is longer than 64 bytes")
	case len(target) == 0:
		return malformed("the request target is empty, or there are two spaces in front of it")
	}
	for _, c := range target {
		if c < 0x20 || c == 0x7f {
			return malformed("the request target holds a control byte")
		}
	}
	switch string(version) {
	case "HTTP/1.1":
		h.minor = 1
	case "HTTP/1.0":
		h.minor = 0
	default:
		if bytes.IndexByte(version, ' ') >= 0 {
			return malformed("the request line has more than two spaces")
		}
		return malformed("the HTTP version is neither HTTP/1.1 nor HTTP/1.0")
	}
	h.method, h.target = method, target
	return nil
}

// parseField reads field-name ":" OWS field-value OWS (RFC 9112 section 5).
func (h *head) parseField(line []byte) *proxy.Refusal {
	if line[0] == ' ' || line[0] == '\t' {
		return h.folded()
	}
	i := bytes.IndexByte(line, ':')
	if i < 0 {
		return malformed("a header line has no colon")
	}
	name, value := line[:i], trimOWS(line[i+1:])
	switch {
	case i == 0:
		return malformed("a header field has no name")
	case name[i-1] == ' ' || name[i-1] == '\t':
		return malformed("there is white space between a field's name and its colon")
	case !isToken(name):
		return malformed("a header field's name is not a token")
	}
	for _, c := range value {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return malformed("a header field's value holds a control byte")
		}
	}
	h.fields = append(h.fields, field{name, value})
	return h.understand(name, value)
}

// folded refuses obs-fold (RFC 9112 section 5.2). A folded credential has two readings,
// and has a reason of its own.
func (h *head) folded() *proxy.Refusal {
	if len(h.fields) == 0 {
		return malformed("the first header line begins with white space")
	}
	if is(h.fields[len(h.fields)-1].name, "proxy-authorization") {
		return proxy.NewRefusal(policy.CredentialAmbiguous, "Proxy-Authorization is folded over two lines")
	}
	return malformed("a header line begins with white space: folded fields are not accepted")
}

// understand keeps the fields that this proxy acts on. A field that changes where a
// message ends or to whom it belongs may occur once.
func (h *head) understand(name, value []byte) *proxy.Refusal {
	switch len(name) {
	case len("host"):
		if is(name, "host") {
			return h.noteHost(value)
		}
	case len("expect"):
		if is(name, "expect") {
			return h.parseExpect(value)
		}
	case len("connection"):
		if is(name, "connection") {
			return h.parseConnection(value)
		}
	case len("content-length"):
		if is(name, "content-length") {
			return h.parseLength(value)
		}
	case len("transfer-encoding"):
		if is(name, "transfer-encoding") {
			return h.parseCoding(value)
		}
	case len("proxy-authorization"):
		if is(name, "proxy-authorization") {
			h.noteCredential(value)
		}
	}
	return nil
}

// parseExpect reads an Expect: 100-continue, once (RFC 9110 section 10.1.1).
func (h *head) parseExpect(value []byte) *proxy.Refusal {
	if h.has.expect || !is(value, "100-continue") {
		return malformed("Expect is something other than one 100-continue")
	}
	h.has.expect = true
	return nil
}

// noteCredential keeps the credential. The gate refuses two fields, once the whole head
// has passed the other checks, because the gate throttles and records that refusal.
func (h *head) noteCredential(value []byte) {
	h.has.doubled = h.has.doubled || h.has.credential
	h.has.credential, h.credential = true, value
}

// readCredential reads the one Proxy-Authorization field.
func (h *head) readCredential() (identity.Credential, error) {
	switch {
	case !h.has.credential && h.hasAuthorization():
		return identity.Credential{}, &identity.Error{Problem: identity.CredentialMissing,
			Detail: "no Proxy-Authorization was sent; Authorization is for the target and not for this proxy"}
	case !h.has.credential:
		return identity.Credential{}, nil // the gate refuses a missing credential
	case h.has.doubled:
		return identity.Credential{}, &identity.Error{Problem: identity.CredentialAmbiguous, Detail: "there are two Proxy-Authorization fields"}
	}
	return identity.ParseCredential(string(h.credential))
}

// hasAuthorization reports whether there is a field with a credential for the target.
func (h *head) hasAuthorization() bool {
	return slices.ContainsFunc(h.fields, func(f field) bool { return is(f.name, "authorization") })
}
