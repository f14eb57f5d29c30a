package stepapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a [NetworkCheck].
const (
	MaxResults      = 64       // results of one check
	MaxNetworkCheck = 32 << 10 // bytes of its JSON

	maxTest    = 32
	maxAddress = 261 // a name of 253 bytes and a port
	maxNetwork = 16
	maxDetail  = 200
)

// The outcomes of a test.
const (
	OutcomeBlocked = "blocked" // nothing got out around the proxy
	OutcomeOpen    = "open"    // the step can get out around the proxy
	OutcomeError   = "error"   // the test has no result
)

// NetworkCheck is the result of a test of enforcement: whether a step can get out around
// the proxy. The step states it, and Sallyport records it without proof.
type NetworkCheck struct {
	Results []NetworkResult `json:"results"`
}

// NetworkResult is the outcome of one test.
type NetworkResult struct {
	// Test is what was tested, such as direct_tcp, udp_443, dns, ipv6 or metadata: up to 32
	// lower-case letters, digits and underscores.
	Test string `json:"test"`
	// Address is what was tried, as host:port or an address: printable ASCII.
	Address string `json:"address"`
	// Network is the network as Go names it, such as tcp4 or udp6.
	Network string `json:"network"`
	Outcome string `json:"outcome"`
	// Detail is one line of printable ASCII for a person, at most 200 bytes; it may be empty.
	Detail string `json:"detail,omitempty"`
}

// Outcome returns the outcome of the whole check: OutcomeOpen if any test found a way out,
// otherwise OutcomeError if any test failed, otherwise OutcomeBlocked. A check without
// results has proved nothing: OutcomeError.
func (c *NetworkCheck) Outcome() string {
	outcome := OutcomeBlocked
	for _, r := range c.Results {
		switch r.Outcome {
		case OutcomeOpen:
			return OutcomeOpen
		case OutcomeBlocked:
		default:
			outcome = OutcomeError
		}
	}
	if len(c.Results) == 0 {
		return OutcomeError
	}
	return outcome
}

// Validate reports the first value that is not permitted.
func (c *NetworkCheck) Validate() error {
	switch n := len(c.Results); {
	case n == 0:
		return errors.New("network check: there are no results: send at least one")
	case n > MaxResults:
		return fmt.Errorf("network check: there are %d results: send at most %d", n, MaxResults)
	}
	for i, r := range c.Results {
		if err := r.validate(); err != nil {
			return fmt.Errorf("network check: results[%d]: %w", i, err)
		}
	}
	return nil
}

func (r *NetworkResult) validate() error {
	switch {
	case !isWord(r.Test, maxTest):
		return fmt.Errorf("test is not a name: use 1 to %d of a-z, 0-9 and _", maxTest)
	case r.Address == "" || !isLine(r.Address, maxAddress) || strings.Contains(r.Address, " "):
		return fmt.Errorf("address is not an address: use 1 to %d characters of printable ASCII without spaces", maxAddress)
	case !isWord(r.Network, maxNetwork):
		return fmt.Errorf("network is not a network: use a name such as tcp4, of at most %d characters", maxNetwork)
	case r.Outcome != OutcomeBlocked && r.Outcome != OutcomeOpen && r.Outcome != OutcomeError:
		return errors.New("outcome is not known: use blocked, open or error")
	case !isLine(r.Detail, maxDetail):
		return fmt.Errorf("detail is not a line: use at most %d characters of printable ASCII", maxDetail)
	}
	return nil
}

// isWord reports whether s has 1 to limit lower-case letters, digits and underscores.
func isWord(s string, limit int) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

// isLine reports whether s has at most limit bytes of printable ASCII.
func isLine(s string, limit int) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= limit
}

// ParseNetworkCheck reads and validates a network check. It refuses unknown keys, repeated
// keys, and anything behind the object. An error has no text of the input.
func ParseNetworkCheck(b []byte) (*NetworkCheck, error) {
	if len(b) > MaxNetworkCheck {
		return nil, fmt.Errorf("network check: %d bytes of JSON: send at most %d", len(b), MaxNetworkCheck)
	}
	if err := checkKeys(b); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var c NetworkCheck
	if err := d.Decode(&c); err != nil {
		return nil, errInvalid
	}
	return &c, c.Validate()
}

var errInvalid = errors.New(`network check: not a valid JSON object: send {"results": [{"test": …, "address": …, "network": …, "outcome": …}]}`)

// maxDepth is the depth of a valid network check: the object, the list and a result.
const maxDepth = 3

// checkKeys reads the JSON by tokens: encoding/json matches keys in any letter case, uses
// the last of repeated keys, and ignores what follows the value.
func checkKeys(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	var open []map[string]bool // the keys of each open object; nil: a list
	isKey := false
	for {
		token, err := d.Token()
		if err == io.EOF && len(open) == 0 {
			return nil
		}
		if err != nil {
			return errInvalid
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{', '[':
				if len(open) == maxDepth {
					return errInvalid
				}
				if t == '{' {
					open = append(open, map[string]bool{})
				} else {
					open = append(open, nil)
				}
			default:
				open = open[:len(open)-1]
			}
			if len(open) == 0 {
				return atEnd(d)
			}
			isKey = open[len(open)-1] != nil
			continue
		case string:
			if isKey {
				keys := open[len(open)-1]
				if keys[t] || !isWord(t, maxTest) {
					return errors.New("network check: a key is repeated or not known: send each of results, test, address, network, outcome and detail once")
				}
				keys[t], isKey = true, false
				continue
			}
		}
		if len(open) == 0 {
			return errInvalid // not an object
		}
		isKey = open[len(open)-1] != nil
	}
}

// atEnd refuses anything but white space behind the value.
func atEnd(d *json.Decoder) error {
	if _, err := d.Token(); err != io.EOF {
		return errInvalid
	}
	return nil
}
