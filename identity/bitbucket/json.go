package bitbucket

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a token's JSON: Bitbucket's has none.
const maxDepth = 8

var (
	errNotObject = errors.New("it is not one JSON object in UTF-8")
	errDuplicate = errors.New("a name occurs twice")
	errOtherCase = errors.New("a name occurs twice, in another case")
	errTooDeep   = errors.New("it is nested too deeply")
)

// object is a JSON object's members, by their exact names.
type object map[string]json.RawMessage

// parseObject reads one JSON object strictly. RFC 7515 section 4 and RFC 7519
// section 4 let a reader refuse repeated names; we do, at every level. Names
// that differ only in case count as repeated: encoding/json, which go-oidc and
// many others use, takes ISS for iss, and a token must not mean one thing to us
// and another to them.
func parseObject(data []byte, skip checkSet) (object, error) {
	// Valid first: the token-wise decoder below is laxer than the grammar, and
	// turns bytes that are not UTF-8 into U+FFFD.
	if !utf8.Valid(data) || !json.Valid(data) {
		return nil, errNotObject
	}
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); trimmed[0] != '{' {
		return nil, errNotObject
	}
	if err := checkNames(json.NewDecoder(bytes.NewReader(data)), 0, skip); err != nil {
		return nil, err
	}
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, errNotObject
	}
	return o, nil
}

// checkNames walks one value and refuses an object in it that repeats a name.
func checkNames(d *json.Decoder, depth int, skip checkSet) error {
	if depth > maxDepth {
		return errTooDeep
	}
	d.UseNumber() // a number that no float64 holds is not our business here
	t, err := d.Token()
	if err != nil {
		return errNotObject
	}
	switch t {
	case json.Delim('['):
		for d.More() {
			if err := checkNames(d, depth+1, skip); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		if err := checkMembers(d, depth, skip); err != nil {
			return err
		}
	default:
		return nil
	}
	if _, err := d.Token(); err != nil { // the closing delimiter
		return errNotObject
	}
	return nil
}

// checkMembers checks the members of an object whose opening delimiter was read.
func checkMembers(d *json.Decoder, depth int, skip checkSet) error {
	exact, folded := map[string]bool{}, map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return errNotObject
		}
		switch {
		case exact[name]:
			if !skip.has(checkDuplicates) {
				return errDuplicate
			}
		case folded[fold(name)] && !skip.has(checkCase):
			return errOtherCase
		}
		exact[name], folded[fold(name)] = true, true
		if err := checkNames(d, depth+1, skip); err != nil {
			return err
		}
	}
	return nil
}

// fold maps names that encoding/json would take for one another to one string:
// simple Unicode folding, so that U+017F (long s) and U+212A (Kelvin) count too.
func fold(name string) string {
	return strings.ToLower(strings.ToUpper(name))
}

// text returns a member that must be a string; ok is false when it is something
// else or absent.
func (o object) text(name string) (s string, ok bool) {
	raw, found := o[name]
	if !found || len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// optionalText returns a member that may be absent, null or a string; ok is
// false when it is something else.
func (o object) optionalText(name string) (s string, ok bool) {
	raw, found := o[name]
	if !found || string(raw) == "null" {
		return "", true
	}
	return o.text(name)
}
