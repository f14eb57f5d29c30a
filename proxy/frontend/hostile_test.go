package frontend

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// hostile is bytes that must be refused, and the section that requires it.
type hostile struct {
	section string // of RFC 9112, unless another document is named
	raw     string
	status  string
	reason  policy.Reason
	detail  string // a part of what the client reads
}

const bad = policy.RequestInvalid

// heads are whole request heads. {A} stands for a good credential line, {H} for a
// Host line.
var heads = []hostile{
	{"2.2", "GET http://up.test/ HTTP/1.1\n{H}{A}\r\n", "400", bad, "bare line feed"},
	{"2.2", "GET http://up.test/ HTTP/1.1\r\nHost: x\n{A}\r\n", "400", bad, "bare line feed"},
	{"2.2", "GET http://up.test/ HTTP/1.1\r\n{H}{A}\n", "400", bad, "bare line feed"},
	{"2.2", "GET http://up.test/ HTTP/1.1\n\n", "400", bad, "bare line feed"},
	{"2.2", "\nGET http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "bare line feed"},
	{"2.2", "\r\n\r\nGET http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "empty lines in front"},
	{"2.2", "GET http://up.test/ HTTP/1.1\r\n{H}X: a\rb\r\n{A}\r\n", "400", bad, "bare carriage return"},
	{"2.2", "GET http://up.test/ HTTP/1.1\r\r\n{H}{A}\r\n", "400", bad, "bare carriage return"},
	{"2.2", "GET http://up.test/\r HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "bare carriage return"},
	{"2.2", "GET http://up.test/ HTTP/1.1\r\n{H}{A}\r\r\n\r\n", "400", bad, "bare carriage return"},
	{"2.2", "GET http://up.test/ HTTP/1.1\r\n {H}{A}\r\n", "400", bad, "begins with white space"},
	{"2.2", "GET http://up.test/ HTTP/1.1\r\n\tX: y\r\n{H}{A}\r\n", "400", bad, "begins with white space"},
	{"2.3", "GET http://up.test/ HTTP/1.2\r\n{H}{A}\r\n", "400", bad, "HTTP version"},
	{"2.3", "GET http://up.test/ HTTP/2.0\r\n{H}{A}\r\n", "400", bad, "HTTP version"},
	{"2.3", "GET http://up.test/ HTTP/0.9\r\n{H}{A}\r\n", "400", bad, "HTTP version"},
	{"2.3", "GET http://up.test/ http/1.1\r\n{H}{A}\r\n", "400", bad, "HTTP version"},
	{"2.3", "GET http://up.test/ HTTP/1.10\r\n{H}{A}\r\n", "400", bad, "HTTP version"},
	{"2.3", "GET http://up.test/ HTTP/01.1\r\n{H}{A}\r\n", "400", bad, "HTTP version"},
	{"2.3", "GET http://up.test/ HTTP/1.1;x\r\n{H}{A}\r\n", "400", bad, "HTTP version"},
	{"2.3", "GET http://up.test/ HTTPS/1.1\r\n{H}{A}\r\n", "400", bad, "HTTP version"},
	{"2.3", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", bad, "HTTP version"},
	{"3", "GET http://up.test/\r\n{H}{A}\r\n", "400", bad, "no HTTP version"},
	{"3", "GET\r\n{H}{A}\r\n", "400", bad, "request line"},
	{"3", "GET  http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "target is empty"},
	{"3", "GET http://up.test/  HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "two spaces"},
	{"3", "GET http://up.test/ HTTP/1.1 \r\n{H}{A}\r\n", "400", bad, "two spaces"},
	{"3", "GET http://up.test/ x HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "two spaces"},
	{"3", " GET http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "does not begin with a method"},
	{"3", "GET\thttp://up.test/\tHTTP/1.1\r\n{H}{A}\r\n", "400", bad, "request line"},
	{"3", "GET http://up.test/\x0bHTTP/1.1\r\n{H}{A}\r\n", "400", bad, "no HTTP version"},
	{"3", "GET\x0chttp://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "no HTTP version"},
	{"3.1", "G@T http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "not a token"},
	{"3.1", "G\x00T http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "not a token"},
	{"3.1", "G\xc3\x89T http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "not a token"},
	{"3.1", "GET: http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "not a token"},
	{"3.1", strings.Repeat("M", 65) + " http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "longer than 64"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\n{A}\r\n", "400", bad, "no Host"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\n{H}{H}{A}\r\n", "400", bad, "two Host"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\n{H}hOST: other\r\n{A}\r\n", "400", bad, "two Host"},
	{"3.2", "GET http://up.test/\x00 HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "control byte"},
	{"3.2", "GET http://up.test/\x7f HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "control byte"},
	{"3.2", "GET http://up.test/\t HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "control byte"},
	{"3.2.1", "GET / HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "this is a proxy"},
	{"3.2.1", "GET //up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "this is a proxy"},
	{"3.2.2", "GET up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", policy.TargetInvalid, "not an absolute URL"},
	{"3.2.2", "GET https://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", policy.TargetInvalid, "CONNECT"},
	{"3.2.2", "GET ftp://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", policy.TargetInvalid, "scheme"},
	{"3.2.2", "GET http:///etc HTTP/1.1\r\n{H}{A}\r\n", "400", policy.TargetInvalid, "no host"},
	{"3.2.2", "GET http://up.test:080/ HTTP/1.1\r\n{H}{A}\r\n", "400", policy.TargetInvalid, "leading zero"},
	{"3.2.2", "GET http://up.test/../x HTTP/1.1\r\n{H}{A}\r\n", "400", policy.TargetInvalid, "segments"},
	{"3.2.2", "GET http://up.test/#f HTTP/1.1\r\n{H}{A}\r\n", "400", policy.TargetInvalid, "fragment"},
	{"3.2.2", "GET http://b\xc3\xbccher.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", policy.TargetInvalid, "xn--"},
	{"RFC 3986 3.2.1", "GET http://a:b@up.test/ HTTP/1.1\r\n{H}{A}\r\n", "400", policy.TargetInvalid, "user information"},
	{"3.2.3", "CONNECT up.test HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, "no port"},
	{"3.2.3", "CONNECT :443 HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, ""},
	{"3.2.3", "CONNECT / HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, ""},
	{"3.2.3", "CONNECT http://up.test:443 HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, "URL"},
	{"3.2.3", "CONNECT up.test:443/x HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, ""},
	{"3.2.3", "CONNECT u@up.test:443 HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, "user information"},
	{"3.2.3", "CONNECT up.test:0 HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, "port"},
	{"3.2.3", "CONNECT up.test:65536 HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, "port"},
	{"3.2.3", "CONNECT up.test:http HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, "port"},
	{"3.2.3", "CONNECT 0x7f.1:443 HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, ""},
	{"3.2.3", "CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, ""},
	{"3.2.3", "CONNECT [fe80::1%25lo]:443 HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, ""},
	{"3.2.3", "CONNECT up.test%00:443 HTTP/1.1\r\n{A}\r\n", "400", policy.TargetInvalid, ""},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\nHost: up.test/x\r\n{A}\r\n", "400", bad, "Host field is not"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\nHost: http://up.test\r\n{A}\r\n", "400", bad, "port is not a number"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\nHost: user@up.test\r\n{A}\r\n", "400", bad, "Host field is not"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\nHost: up.test, other.test:80\r\n{A}\r\n", "400", bad, "Host field is not"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\nHost: up test\r\n{A}\r\n", "400", bad, "Host field is not"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\nHost: up.test:80x\r\n{A}\r\n", "400", bad, "port is not a number"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\nHost: a:b:80\r\n{A}\r\n", "400", bad, "Host field is not"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\nHost: [::1\r\n{A}\r\n", "400", bad, "Host field is not"},
	{"3.2", "GET http://up.test/ HTTP/1.1\r\nHost: caf\xc3\xa9.test\r\n{A}\r\n", "400", bad, "Host field is not"},
	{"3.2", "GET http://up.test/ HTTP/1.0\r\nHost: <script>\r\n{A}\r\n", "400", bad, "Host field is not"},
	{"3.2", "CONNECT up.test:443 HTTP/1.1\r\nHost: up.test:443/\r\n{A}\r\n", "400", bad, "port is not a number"},
	{"RFC 9110 15.5.15", "GET http://up.test/" + strings.Repeat("p", 8000) + " HTTP/1.1\r\n{H}{A}\r\n", "414", policy.TargetInvalid, "more than 8000 bytes"},
	{"3.2.4", "OPTIONS * HTTP/1.1\r\n{H}{A}\r\n", "400", bad, "one server"},
	{"5", "GET http://up.test/ HTTP/1.1\r\n{H}NoColon\r\n{A}\r\n", "400", bad, "no colon"},
	{"5", "GET http://up.test/ HTTP/1.1\r\n{H}: empty\r\n{A}\r\n", "400", bad, "no name"},
	{"5.1", "GET http://up.test/ HTTP/1.1\r\n{H}X : y\r\n{A}\r\n", "400", bad, "white space between"},
	{"5.1", "GET http://up.test/ HTTP/1.1\r\n{H}X\t: y\r\n{A}\r\n", "400", bad, "white space between"},
	{"5.1", "POST http://up.test/ HTTP/1.1\r\n{H}Transfer-Encoding : chunked\r\n{A}\r\n", "400", bad, "white space between"},
	{"5.1", "POST http://up.test/ HTTP/1.1\r\n{H}Content-Length\t: 5\r\n{A}\r\n", "400", bad, "white space between"},
	{"RFC 9110 5.1", "GET http://up.test/ HTTP/1.1\r\n{H}X Y: z\r\n{A}\r\n", "400", bad, "not a token"},
	{"RFC 9110 5.1", "GET http://up.test/ HTTP/1.1\r\n{H}X\x00: z\r\n{A}\r\n", "400", bad, "not a token"},
	{"RFC 9110 5.1", "GET http://up.test/ HTTP/1.1\r\n{H}X\xe9: z\r\n{A}\r\n", "400", bad, "not a token"},
	{"RFC 9110 5.1", "GET http://up.test/ HTTP/1.1\r\n{H}(X): z\r\n{A}\r\n", "400", bad, "not a token"},
	{"RFC 9110 5.1", "GET http://up.test/ HTTP/1.1\r\n{H}\"X\": z\r\n{A}\r\n", "400", bad, "not a token"},
	{"RFC 9110 5.5", "GET http://up.test/ HTTP/1.1\r\n{H}X: a\x00b\r\n{A}\r\n", "400", bad, "control byte"},
	{"RFC 9110 5.5", "GET http://up.test/ HTTP/1.1\r\n{H}X: a\x0bb\r\n{A}\r\n", "400", bad, "control byte"},
	{"RFC 9110 5.5", "GET http://up.test/ HTTP/1.1\r\n{H}X: a\x1bb\r\n{A}\r\n", "400", bad, "control byte"},
	{"RFC 9110 5.5", "GET http://up.test/ HTTP/1.1\r\n{H}X: a\x7fb\r\n{A}\r\n", "400", bad, "control byte"},
	{"5.2", "GET http://up.test/ HTTP/1.1\r\n{H}X: a\r\n b\r\n{A}\r\n", "400", bad, "folded"},
	{"5.2", "GET http://up.test/ HTTP/1.1\r\n{H}X: a\r\n\tb\r\n{A}\r\n", "400", bad, "folded"},
	{"5.2", "GET http://up.test/ HTTP/1.1\r\n{H}X: a\r\n \r\n{A}\r\n", "400", bad, "folded"},
	{"5.2", "POST http://up.test/ HTTP/1.1\r\n{H}Transfer-Encoding:\r\n chunked\r\n{A}\r\n", "400", bad, "other than chunked"},
	{"5.2", "GET http://up.test/ HTTP/1.1\r\n{H}Proxy-Authorization: Basic\r\n c3RlcDpnb29k\r\n\r\n", "400", policy.CredentialAmbiguous, "folded"},
	{"RFC 9110 11.7.2", "GET http://up.test/ HTTP/1.1\r\n{H}{A}{A}\r\n", "400", policy.CredentialAmbiguous, "two"},
	{"RFC 9110 11.7.2", "CONNECT up.test:1 HTTP/1.1\r\n{A}X: y\r\nproxy-authorization: Bearer other\r\n\r\n", "400", policy.CredentialAmbiguous, "two"},
	{"RFC 9110 11.7.2", "CONNECT up.test:1 HTTP/1.1\r\nProxy-Authorization: Bearer other\r\n{A}{A}\r\n", "400", policy.CredentialAmbiguous, "two"},
	{"RFC 9110 11.7.2", "CONNECT up.test:1 HTTP/1.1\r\nProxy-Authorization: Bearer good, Bearer other\r\n\r\n", "400", policy.CredentialAmbiguous, "list"},
	{"RFC 9110 11.7.2", "CONNECT up.test:1 HTTP/1.1\r\nProxy-Authorization: Digest good\r\n\r\n", "407", policy.CredentialMalformed, "neither"},
	{"RFC 7617 2", "CONNECT up.test:1 HTTP/1.1\r\nProxy-Authorization: Basic c3RlcA==\r\n\r\n", "407", policy.CredentialMalformed, "no password"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400", bad, "both"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", bad, "both"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", bad, "both"},
	{"6.1", "POST http://up.test/ HTTP/1.0\r\n{H}{A}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", bad, "HTTP/1.0"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "400", bad, "two Transfer-Encoding"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: gzip, chunked\r\n\r\n", "400", bad, "other than chunked"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: chunked, chunked\r\n\r\n", "400", bad, "other than chunked"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: chunked, identity\r\n\r\n", "400", bad, "other than chunked"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: identity\r\n\r\n", "400", bad, "other than chunked"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding:\r\n\r\n", "400", bad, "other than chunked"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: xchunked\r\n\r\n", "400", bad, "other than chunked"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: \"chunked\"\r\n\r\n", "400", bad, "other than chunked"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: chunked;q=1\r\n\r\n", "400", bad, "other than chunked"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: \x0bchunked\r\n\r\n", "400", bad, "control byte"},
	{"6.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}X: y\nTransfer-Encoding: chunked\r\n\r\n", "400", bad, "bare line feed"},
	{"6.3", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", "400", bad, "two Content-Length"},
	{"6.3", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", "400", bad, "two Content-Length"},
	{"6.3", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 5, 5\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.3", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 5,6\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: +5\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: -5\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 0x5\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 05\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 5 5\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 5e0\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 1_0\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length:\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 9223372036854775808\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"6.2", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 18446744073709551621\r\n\r\nabcde", "400", bad, "plain decimal"},
	{"RFC 9110 9.3.6", "CONNECT up.test:1 HTTP/1.1\r\n{A}Content-Length: 5\r\n\r\nabcde", "400", bad, "CONNECT has a body"},
	{"RFC 9110 9.3.6", "CONNECT up.test:1 HTTP/1.1\r\n{A}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", bad, "CONNECT has a body"},
	{"RFC 9110 9.3.6", "CONNECT up.test:1 HTTP/1.1\r\n{A}Expect: 100-continue\r\n\r\n", "400", bad, "Expect"},
	{"RFC 9110 9.3.8", "TRACE http://up.test/ HTTP/1.1\r\n{H}{A}\r\n", "501", bad, "TRACE"},
	{"RFC 9110 10.1.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Expect: 200-ok\r\nContent-Length: 1\r\n\r\na", "400", bad, "100-continue"},
	{"RFC 9110 7.6.1", "GET http://up.test/ HTTP/1.1\r\n{H}{A}Connection: a b\r\n\r\n", "400", bad, "not a token"},
	{"RFC 9110 7.6.2", "OPTIONS http://up.test/ HTTP/1.1\r\n{H}{A}Max-Forwards: 0\r\n\r\n", "501", bad, "Max-Forwards"},
	{"RFC 9110 7.6.2", "OPTIONS http://up.test/ HTTP/1.1\r\n{H}{A}Max-Forwards: x\r\n\r\n", "400", bad, "Max-Forwards"},
	{"RFC 9110 7.6.3", "GET http://up.test/ HTTP/1.1\r\n{H}{A}Via: 1.0 other, 1.1 SALLYPORT-test (x)\r\n\r\n", "508", bad, "before"},
	{"RFC 6455 4.1", "GET http://up.test/ HTTP/1.1\r\n{H}{A}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "400", bad, "Sec-WebSocket-Key"},
	{"RFC 6455 4.1", "GET http://up.test/ HTTP/1.1\r\n{H}{A}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: c2hvcnQ=\r\n\r\n", "400", bad, "Sec-WebSocket-Key"},
	{"RFC 9110 7.6.1", "GET http://up.test/ HTTP/1.1\r\n{H}{A}Connection: Upgrade, Sec-WebSocket-Key\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "400", bad, "Sec-WebSocket-Key"},
	{"RFC 9110 7.8", "GET http://up.test/ HTTP/1.1\r\n{H}{A}Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "400", bad, "two Upgrade"},
	{"RFC 6455 4.1", "GET http://up.test/ HTTP/1.0\r\n{A}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "400", bad, "HTTP/1.1 GET"},
	{"RFC 6455 4.1", "POST http://up.test/ HTTP/1.1\r\n{H}{A}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", "400", bad, "HTTP/1.1 GET"},
	{"RFC 6455 4.1", "GET http://up.test/ HTTP/1.1\r\n{H}{A}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 1\r\n\r\na", "400", bad, "has a body"},
	{"RFC 6585 5", "GET http://up.test/ HTTP/1.1\r\n{H}{A}X: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", "431", policy.HeadTooLarge, "32768"},
	{"RFC 6585 5", "GET http://up.test/" + strings.Repeat("x", 32<<10) + " HTTP/1.1\r\n{H}{A}\r\n", "431", policy.HeadTooLarge, "32768"},
	{"RFC 6585 5", "GET http://up.test/ HTTP/1.1\r\n{H}{A}" + strings.Repeat("X: y\r\n", maxFields) + "\r\n", "431", policy.HeadTooLarge, "too many"},
	{"RFC 8446 5.1", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n\n", "400", bad, "TLS listener"},
	{"RFC 1928 3", "\x05\x01\x00", "400", bad, "not socks5://"},
	{"SOCKS 4", "\x04\x01\x01\xbb\x01\x02\x03\x04step\x00", "400", bad, "not socks5://"},
}

// bodies are requests whose head is sound and whose chunked content is not.
var bodies = []hostile{
	{"7.1", "5\nabcde\r\n0\r\n\r\n", "400", bad, "bare line feed"},
	{"7.1", "5\r\nabcde\n0\r\n\r\n", "400", bad, "longer than its size"},
	{"7.1", "5\r\nabcdef\r\n0\r\n\r\n", "400", bad, "longer than its size"},
	{"7.1", "5\r\nabcde\r\n0\r\n\n", "400", bad, "trailer"},
	{"7.1", "0x5\r\nabcde\r\n0\r\n\r\n", "400", bad, "hexadecimal"},
	{"7.1", "+5\r\nabcde\r\n0\r\n\r\n", "400", bad, "hexadecimal"},
	{"7.1", "-5\r\nabcde\r\n0\r\n\r\n", "400", bad, "hexadecimal"},
	{"7.1", " 5\r\nabcde\r\n0\r\n\r\n", "400", bad, "hexadecimal"},
	{"7.1", "5 \r\nabcde\r\n0\r\n\r\n", "400", bad, "hexadecimal"},
	{"7.1", "5_0\r\nabcde\r\n0\r\n\r\n", "400", bad, "hexadecimal"},
	{"7.1", "\r\nabcde\r\n0\r\n\r\n", "400", bad, "hexadecimal"},
	{"7.1", ";x\r\nabcde\r\n0\r\n\r\n", "400", bad, "hexadecimal"},
	{"7.1", "g\r\nabcde\r\n0\r\n\r\n", "400", bad, "hexadecimal"},
	{"7.1", "10000000000000005\r\nabcde\r\n0\r\n\r\n", "400", bad, "out of range"},
	{"7.1", "ffffffffffffffff\r\nabcde\r\n0\r\n\r\n", "400", bad, "out of range"},
	{"7.1.1", "5;x\x00\r\nabcde\r\n0\r\n\r\n", "400", bad, "control byte"},
	{"7.1.1", "5;\r\r\nabcde\r\n0\r\n\r\n", "400", bad, "size line"},
	{"7.1.1", "5;x=\"\n\"\r\nabcde\r\n0\r\n\r\n", "400", bad, "bare line feed"},
	{"7.1.1", "5;" + strings.Repeat("x", 300) + "\r\nabcde\r\n0\r\n\r\n", "400", bad, "too long"},
	{"7.1.1", strings.Repeat("1;"+strings.Repeat("x", 200)+"\r\na\r\n", 100) + "0\r\n\r\n", "400", bad, "too much framing"},
	{"7.1.2", "0\r\nNoColon\r\n\r\n", "400", bad, "trailer"},
	{"7.1.2", "0\r\n folded: x\r\n\r\n", "400", bad, "trailer"},
	{"7.1.2", "0\r\nX: a\x00\r\n\r\n", "400", bad, "control byte"},
	{"7.1.2", "0\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n", "400", bad, "trailer"},
	{"7.1.2", "0\r\n" + strings.Repeat("X: y\r\n", 1000) + "\r\n", "400", bad, "trailer"},
}

func TestHostileHeads(t *testing.T) {
	if n := len(heads) + len(bodies); n < 100 {
		t.Errorf("only %d rows", n)
	}
	s := start(t, nil)
	check := func(t *testing.T, row hostile, raw string) {
		before := len(s.forward.seen())
		c := s.dial(t)
		// Behind it comes what must never be read as a request.
		go func() {
			_, _ = c.Write([]byte(raw + "GET http://smuggled.test/ HTTP/1.1\r\nHost: x\r\n" + good + "\r\n"))
		}()
		resp, body := c.answer(strings.SplitN(raw, " ", 2)[0])
		if !strings.HasPrefix(resp.Status, row.status+" Sallyport "+string(row.reason)) || !strings.Contains(body, row.detail) {
			t.Errorf("RFC section %s, %.60q:\ngot  %s %s\nwant %s %s %q", row.section, raw, resp.Status, body, row.status, row.reason, row.detail)
		}
		if rest := c.rest(); rest != "" {
			t.Errorf("%.60q: and then %q", raw, rest)
		}
		if len(s.forward.seen()) != before {
			t.Errorf("%.60q: something was forwarded", raw)
		}
	}
	expand := strings.NewReplacer("{A}", good, "{H}", "Host: up.test\r\n")
	for _, row := range heads {
		check(t, row, expand.Replace(row.raw))
	}
	for _, row := range bodies {
		check(t, row, expand.Replace("POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: chunked\r\n\r\n")+row.raw)
	}
}

// The rows bite: net/http's parser, which this package stands in for, takes many
// of them for requests.
func TestHostileHeadsElsewhere(t *testing.T) {
	expand := strings.NewReplacer("{A}", good, "{H}", "Host: up.test\r\n")
	accepted := 0
	for _, row := range heads {
		if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader(expand.Replace(row.raw)))); err == nil {
			accepted++
		}
	}
	if accepted < len(heads)/3 {
		t.Errorf("net/http accepts only %d of %d", accepted, len(heads))
	}
}

// TestUnusualValidHeadsAreAccepted has what must pass, so that strictness breaks no client.
func TestUnusualValidHeadsAreAccepted(t *testing.T) {
	s := start(t, nil)
	for _, raw := range []string{
		"\r\nGET http://up.test/ HTTP/1.1\r\n{H}{A}\r\n",                       // 2.2: one empty line in front
		"GET http://up.test/ HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n{A}\r\n",  // 3.2: every uri-host
		"GET http://up.test/ HTTP/1.1\r\nHost: my_bucket.s3.test\r\n{A}\r\n",   //
		"GET http://up.test/ HTTP/1.1\r\nHost: up.test:\r\n{A}\r\n",            // RFC 3986 3.2.3: an empty port
		"GET http://up.test/ HTTP/1.0\r\n{A}\r\n",                              // 1.0 needs no Host
		"GET HTTP://UP.TEST/ HTTP/1.1\r\n{H}{A}\r\n",                           // RFC 3986 3.1
		"get http://up.test/ HTTP/1.1\r\n{H}{A}\r\n",                           // methods are any token
		"GET http://up.test/ HTTP/1.1\r\nhost:\r\n{A}X:\r\nY: \t z \t\r\n\r\n", // empty values, white space
		"GET http://up.test/ HTTP/1.1\r\n{H}{A}X: caf\xe9\r\n\r\n",             // RFC 9110 5.5: obs-text
		"GET http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 0\r\n\r\n",      //
		"POST http://up.test/ HTTP/1.1\r\n{H}{A}Content-Length: 2\r\n\r\nab",   //
		"POST http://up.test/ HTTP/1.1\r\n{H}{A}transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n",
		"POST http://up.test/ HTTP/1.1\r\n{H}{A}Transfer-Encoding: chunked\r\n\r\n1 ;a\r\nx\r\n000\r\nA: b\r\n\r\n",
		"GET http://up.test/ HTTP/1.1\r\n{H}Proxy-Authorization: bEARER good\r\n\r\n",
		"GET http://up.test/ HTTP/1.1\r\n{H}{A}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
		"GET http://up.test/" + strings.Repeat("p", 7999) + "?" + strings.Repeat("q", 9000) + " HTTP/1.1\r\n{H}{A}\r\n", // RFC 9110 4.1
		"OPTIONS http://up.test/ HTTP/1.1\r\n{H}{A}Max-Forwards: 3\r\n\r\n",
	} {
		raw = strings.NewReplacer("{A}", good, "{H}", "Host: up.test\r\n").Replace(raw)
		if resp, body := s.dial(t).send(raw).answer("GET"); resp.StatusCode != 200 {
			t.Errorf("%q: %s %s", raw, resp.Status, body)
		}
	}
}
