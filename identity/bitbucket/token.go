package bitbucket

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/printable"
)

const (
	// maxTokenBytes bounds a token. One with ten audiences of 150 characters
	// has about 3 kB.
	maxTokenBytes = 8 << 10
	maxKeyID      = 256
	algorithm     = "RS256" // the only one in Bitbucket's discovery document
)

// token is a token in compact form that was read and not verified.
type token struct {
	raw     string
	keyID   string
	issuer  string
	payload []byte
	members object
}

// parseToken reads the compact serialization of a JWS (RFC 7515 section 3.1)
// whose header is one that Bitbucket writes, and the issuer that it claims. It
// accepts one spelling only of every token: the strict base64url of RFC 7515
// section 2, without padding, white space or stray bits at the end.
func parseToken(raw string, skip checkSet) (*token, *identity.Error) {
	if err := tooLarge(raw); err != nil && !skip.has(checkSize) {
		return nil, err
	}
	parts, refused := splitToken(raw)
	if refused != nil {
		return nil, refused
	}
	var decoded [3][]byte
	for i, name := range [3]string{"header", "payload", "signature"} {
		b, err := decodeSegment(parts[i], skip)
		if err != nil {
			return nil, refuse(checkBase64, identity.CredentialMalformed, "the token's "+name+" is not canonical base64url; it was changed on its way", nil)
		}
		decoded[i] = b
	}
	t := &token{raw: raw, payload: decoded[1]}
	header, err := parseObject(decoded[0], skip)
	if err != nil {
		return nil, refuseJSON("header", identity.CredentialMalformed, err)
	}
	if err := t.readHeader(header, skip); err != nil {
		return nil, err
	}
	if t.members, err = parseObject(t.payload, skip); err != nil {
		return nil, refuseJSON("payload", identity.CredentialClaims, err)
	}
	iss, ok := t.members.text("iss")
	if !ok && !skip.has(checkClaims) {
		return nil, refuse(checkClaims, identity.CredentialIssuer, "the token has no iss claim", nil)
	}
	t.issuer = iss
	return t, nil
}

// splitToken returns the three parts of a compact serialization.
func splitToken(raw string) (parts []string, refused *identity.Error) {
	parts = strings.Split(raw, ".")
	switch {
	case len(parts) == 5:
		return nil, refuse(checkForm, identity.CredentialMalformed, "the token is encrypted (JWE); the token of a Pipelines step is signed", nil)
	case len(parts) < 3 && strings.HasPrefix(raw, "eyJ"): // {" in base64url, with which a header begins
		return nil, refuse(checkForm, identity.CredentialMalformed, fmt.Sprintf("the token is cut off: it has %d of its three parts joined by dots; send all of $BITBUCKET_STEP_OIDC_TOKEN", len(parts)), nil)
	case len(parts) != 3 || slices.Contains(parts, ""):
		return nil, refuse(checkForm, identity.CredentialMalformed,
			"this is not a token: three base64url parts joined by dots are expected; pass $BITBUCKET_STEP_OIDC_TOKEN, which is set in steps with oidc: true or oidc: audiences:", nil)
	}
	return parts, nil
}

func tooLarge(raw string) *identity.Error {
	if len(raw) <= maxTokenBytes {
		return nil
	}
	return refuse(checkSize, identity.CredentialTooLarge,
		fmt.Sprintf("the token has %d bytes, at most %d are read; fewer audiences make it smaller", len(raw), maxTokenBytes), nil)
}

// decodeSegment decodes strictly. The library's decoder ignores line ends and, by
// default, trailing bits; both would be second spellings.
func decodeSegment(s string, skip checkSet) ([]byte, error) {
	if skip.has(checkBase64) {
		b, _ := base64.RawURLEncoding.DecodeString(s)
		return b, nil
	}
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line end in base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

func refuseJSON(part string, p identity.Problem, err error) *identity.Error {
	c := checkJSON
	switch {
	case errors.Is(err, errOtherCase):
		c = checkCase
	case errors.Is(err, errDuplicate):
		c = checkDuplicates
	}
	return refuse(c, p, fmt.Sprintf("the token's %s cannot be read: %v", part, err), nil)
}

// forbidden are header parameters that would change what is verified or with
// which key (RFC 8725 sections 3.1 and 3.10, RFC 7797): Bitbucket sends none.
var forbidden = []struct{ name, why string }{
	{"crit", "asks for extensions that are not known here (RFC 7515 section 4.1.11)"},
	{"b64", "asks for an unencoded payload (RFC 7797)"},
	{"jku", "names a place to fetch keys from (RFC 7515 section 4.1.2)"},
	{"jwk", "brings its own key (RFC 7515 section 4.1.3)"},
	{"x5u", "names a place to fetch certificates from (RFC 7515 section 4.1.5)"},
	{"x5c", "brings its own certificates (RFC 7515 section 4.1.6)"},
	{"cty", "holds another token (RFC 7519 section 5.2)"},
	{"enc", "belongs to an encrypted token (RFC 7516 section 4.1.2)"},
	{"zip", "belongs to an encrypted token (RFC 7516 section 4.1.3)"},
}

// checkParameters refuses a header with a forbidden parameter.
func checkParameters(h object) *identity.Error {
	for _, f := range forbidden {
		if _, found := h[f.name]; found {
			return refuse(checkHeader, identity.CredentialMalformed, "the token's header has "+f.name+", which "+f.why+"; it is refused", nil)
		}
	}
	return nil
}

// checkTyp refuses another kind of token, such as an access token (at+jwt): RFC 7519
// section 5.1 and RFC 8725 section 3.11. The parameter is optional.
func checkTyp(h object) *identity.Error {
	if _, found := h["typ"]; !found {
		return nil
	}
	if typ, ok := h.text("typ"); !ok || !strings.EqualFold(typ, "JWT") {
		return refuse(checkType, identity.CredentialMalformed, "the token's typ is not JWT: it is another kind of token", nil)
	}
	return nil
}

// readHeader checks the JOSE header.
func (t *token) readHeader(h object, skip checkSet) *identity.Error {
	if alg, ok := h.text("alg"); (!ok || alg != algorithm) && !skip.has(checkAlgorithm) {
		return refuse(checkAlgorithm, identity.CredentialAlgorithm, "the token is not signed with RS256, as every token of Bitbucket Pipelines is", nil)
	}
	if refused := checkParameters(h); refused != nil && !skip.has(checkHeader) {
		return refused
	}
	if refused := checkTyp(h); refused != nil && !skip.has(checkType) {
		return refused
	}
	kid, ok := h.text("kid")
	if (!ok || kid == "" || len(kid) > maxKeyID || !printable.IsClean(kid)) && !skip.has(checkKeyID) {
		return refuse(checkKeyID, identity.CredentialKeyUnknown, "the token does not name the key that signed it (kid)", nil)
	}
	t.keyID = kid
	return nil
}
