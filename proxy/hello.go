package proxy

import "errors"

// A tunnel contains TLS whose server name is the target. The ClientHello is the only
// message that has the server name in cleartext, so Sallyport reads it, checks it and
// then forwards it unchanged (RFC 8446 section 4.1.2, RFC 6066 section 3).

// maxHello bounds a ClientHello with its record headers, however they come.
const maxHello = 16 << 10

var (
	errHelloMore     = errors.New("the ClientHello is not complete")
	errHelloInvalid  = errors.New("the first bytes are not a TLS ClientHello")
	errHelloTooLarge = errors.New("the ClientHello is too large")
)

// hello is what a ClientHello shows.
type hello struct {
	name      string // the server name as sent, not canonical; "": none
	encrypted bool   // it has the extension encrypted_client_hello
}

// parseHello reads the first bytes of a TLS connection. It returns errHelloMore as long as
// those could still become a valid ClientHello. A handshake message may be cut into any
// number of records (RFC 8446 section 5.1).
func parseHello(b []byte) (hello, error) {
	message, complete, err := helloMessage(b)
	if err != nil {
		return hello{}, err
	}
	if !complete {
		if len(b) >= maxHello {
			return hello{}, errHelloTooLarge
		}
		return hello{}, errHelloMore
	}
	return readExtensions(message)
}

// The parts of TLS records and handshake messages (RFC 8446 sections 4 and 5.1).
const (
	recordHeader    = 5
	typeHandshake   = 22
	maxRecord       = 1 << 14
	messageHeader   = 4
	typeClientHello = 1
)

// helloMessage returns the body of the ClientHello without its records. The result
// does not depend on how the bytes were divided on their way.
func helloMessage(b []byte) (body []byte, complete bool, err error) {
	var message []byte
	for read := 0; read < len(b); {
		size, content, err := handshakeRecord(b[read:])
		if err != nil || size == 0 {
			return nil, false, err
		}
		before := len(message)
		if message == nil {
			message = content[:len(content):len(content)]
		} else {
			message = append(message, content...)
		}
		read += recordHeader + len(content)
		length, err := helloLength(message, before+size)
		switch {
		case err != nil:
			return nil, false, err
		case length > 0 && read+length-len(message) > maxHello:
			return nil, false, errHelloTooLarge
		case length > 0 && len(message) == length:
			return message[messageHeader:], true, nil
		case len(content) < size:
			return nil, false, nil
		}
	}
	return nil, false, nil
}

// handshakeRecord reads the header of a handshake record. It returns the size of the
// record's content and as much of the content as has arrived. A size of 0 means that
// the header is not complete.
func handshakeRecord(b []byte) (size int, content []byte, err error) {
	if b[0] != typeHandshake || len(b) > 1 && b[1] != 3 || len(b) > 2 && b[2] > 4 {
		return 0, nil, errHelloInvalid
	}
	if len(b) < recordHeader {
		return 0, nil, nil
	}
	size = int(b[3])<<8 | int(b[4])
	// An empty handshake record is forbidden, and one over the limit is an error
	// (RFC 8446 section 5.1).
	if size == 0 || size > maxRecord {
		return 0, nil, errHelloInvalid
	}
	return size, b[recordHeader:min(len(b), recordHeader+size)], nil
}

// helloLength returns the length of a ClientHello with its header, from its first
// bytes; 0 means that the header is not complete. inRecords is how many bytes the
// records up to here contain, arrived or not.
func helloLength(message []byte, inRecords int) (int, error) {
	if len(message) > 0 && message[0] != typeClientHello {
		return 0, errHelloInvalid
	}
	if len(message) < messageHeader {
		return 0, nil
	}
	length := messageHeader + (int(message[1])<<16 | int(message[2])<<8 | int(message[3]))
	// Nothing may follow the ClientHello in its record: the client has to wait for the
	// server (early data is in records of another type).
	if inRecords > length {
		return 0, errHelloInvalid
	}
	return length, nil
}

// bytesReader takes fields off the front of a message; once one is missing,
// everything after it is too.
type bytesReader struct {
	b   []byte
	bad bool
}

func (r *bytesReader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

func (r *bytesReader) number(size int) int {
	n := 0
	for _, c := range r.take(size) {
		n = n<<8 | int(c)
	}
	return n
}

// vector takes a field that has its length in front, in size bytes.
func (r *bytesReader) vector(size int) bytesReader {
	inner := r.take(r.number(size))
	return bytesReader{b: inner, bad: r.bad}
}

// readExtensions finds the one host_name of the server_name extension, and whether the
// ClientHello has the extension encrypted_client_hello.
func readExtensions(message []byte) (hello, error) {
	const (
		extensionServerName = 0
		// RFC 9849: the server may serve another name, which only it can read.
		extensionEncryptedHello = 0xfe0d
	)
	r := bytesReader{b: message}
	r.take(2)   // legacy_version
	r.take(32)  // random
	r.vector(1) // legacy_session_id
	r.vector(2) // cipher_suites
	r.vector(1) // legacy_compression_methods
	if r.bad {
		return hello{}, errHelloInvalid
	}
	if len(r.b) == 0 {
		return hello{}, nil
	}
	extensions := r.vector(2)
	if r.bad || len(r.b) != 0 {
		return hello{}, errHelloInvalid
	}
	var seen [1 << 16 / 64]uint64 // one bit for each kind
	var h hello
	for len(extensions.b) > 0 {
		kind := extensions.number(2)
		data := extensions.vector(2)
		// A doubled extension is forbidden (RFC 8446 section 4.2), and would let
		// two readers see two names.
		if extensions.bad || seen[kind/64]&(1<<(kind%64)) != 0 {
			return hello{}, errHelloInvalid
		}
		seen[kind/64] |= 1 << (kind % 64)
		switch kind {
		case extensionEncryptedHello:
			h.encrypted = true
		case extensionServerName:
			var err error
			if h.name, err = hostName(data); err != nil {
				return hello{}, err
			}
		}
	}
	return h, nil
}

// hostName reads a server_name extension: a list that may hold one host_name
// and, as nothing else was ever defined, holds nothing else (RFC 6066 section 3).
func hostName(data bytesReader) (string, error) {
	list := data.vector(2)
	if data.bad || len(data.b) != 0 || len(list.b) == 0 {
		return "", errHelloInvalid
	}
	kind := list.number(1)
	name := list.vector(2)
	if list.bad || len(list.b) != 0 || kind != 0 || len(name.b) == 0 {
		return "", errHelloInvalid
	}
	return string(name.b), nil
}
