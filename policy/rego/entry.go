package rego

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// maxMessageBytes bounds the message of a rule, which a client reads.
const maxMessageBytes = 1024

// entry is one member of a set. Its keys in a policy:
//
//	rule      the id
//	message   a text for the client
//	protocol  "tls" (default) or "any"
//	allow_ip_literal true: the entry also allows IP literals
//	ech       true: the ClientHello may have the extension encrypted_client_hello
//	no_sni    true: the ClientHello may lack a server name
//	limits    {"lifetime": "2h", "idle": "5m", "bytes_sent": 1048576, "bytes_received": 1073741824, "step_bytes_sent": 10485760, "step_bytes_received": 10737418240}:
//	          durations as Go writes them, sizes in bytes
//	expires   an RFC 3339 time from which on the entry does not count
//	enforce_in_report_mode true: report mode does not soften the deny
//	action    what a route does with a delivery
//	endpoint  the configured name of the endpoint of a route
type entry struct {
	rule     string
	message  string
	protocol policy.Protocol
	address  bool
	ech      bool
	noSNI    bool
	limits   policy.Limits
	expires  time.Time
	always   bool
	route    webhook.Route // of a route, without its rule
}

// valueHint is the hint about the value of a key.
var valueHint = map[string]string{
	"message":                "write a string",
	"protocol":               `write "tls" or "any"`,
	"allow_ip_literal":       "write true or false",
	"ech":                    "write true or false",
	"no_sni":                 "write true or false",
	"enforce_in_report_mode": "write true or false",
	"limits":                 `write any of {"lifetime": "2h", "idle": "5m", "bytes_sent": 1048576, "bytes_received": 1073741824, "step_bytes_sent": 10485760, "step_bytes_received": 10737418240}`,
	"action":                 "write one of refresh_policy, forward, refresh_names, refresh_resource",
	"endpoint":               "write the name of an endpoint in webhooks.endpoints",
	"expires":                `write a time such as "2026-12-31T00:00:00Z"`,
}

// checkValue returns what is wrong with the value of a key, or "".
func checkValue(key string, value ast.Value) string {
	var e entry
	if err := e.set(key, value); err != nil {
		return err.Error()
	}
	return ""
}

// readEntry reads one member of a set.
func readEntry(set string, value ast.Value) (entry, error) {
	object, ok := value.(ast.Object)
	if !ok {
		return entry{}, fmt.Errorf("an entry of %s is not an object", set)
	}
	var e entry
	err := object.Iter(func(k, v *ast.Term) error {
		key, ok := k.Value.(ast.String)
		if !ok {
			return fmt.Errorf("an entry of %s has a key that is not a string", set)
		}
		if err := e.set(string(key), v.Value); err != nil {
			return fmt.Errorf("an entry of %s: %s %w", set, string(key), err)
		}
		return nil
	})
	if err == nil && e.rule == "" {
		err = fmt.Errorf("an entry of %s has no rule id", set)
	}
	if err == nil && set == setRoute {
		err = checkedRoute(e.route)
	}
	return e, err
}

func (e *entry) set(key string, value ast.Value) (err error) {
	switch key {
	case "rule":
		e.rule, err = text(value)
	case "message":
		e.message, err = text(value)
		e.message = shorten(e.message)
	case "allow_ip_literal":
		e.address, err = boolean(value)
	case "ech":
		e.ech, err = boolean(value)
	case "no_sni":
		e.noSNI, err = boolean(value)
	case "enforce_in_report_mode":
		e.always, err = boolean(value)
	case "protocol":
		switch s, _ := text(value); s {
		case "tls":
			e.protocol = policy.ProtocolTLS
		case "any":
			e.protocol = policy.ProtocolAny
		default:
			err = fmt.Errorf("is neither \"tls\" nor \"any\"")
		}
	case "expires":
		var s string
		if s, err = text(value); err == nil {
			if e.expires, err = time.Parse(time.RFC3339, s); err != nil {
				err = fmt.Errorf("is not an RFC 3339 time")
			}
			e.expires = e.expires.UTC()
		}
	case "limits":
		e.limits, err = readLimits(value)
	case "action", "endpoint":
		err = e.setRoute(key, value)
	default:
		err = fmt.Errorf("is not known")
	}
	return err
}

func readLimits(value ast.Value) (limits policy.Limits, err error) {
	object, ok := value.(ast.Object)
	if !ok {
		return limits, fmt.Errorf("is not an object")
	}
	err = object.Iter(func(k, v *ast.Term) (err error) {
		key, _ := k.Value.(ast.String)
		switch key {
		case "lifetime":
			limits.Lifetime, err = duration(v.Value)
		case "idle":
			limits.Idle, err = duration(v.Value)
		case "bytes_sent":
			limits.Sent, err = size(v.Value)
		case "bytes_received":
			limits.Received, err = size(v.Value)
		case "step_bytes_sent":
			limits.StepSent, err = size(v.Value)
		case "step_bytes_received":
			limits.StepReceived, err = size(v.Value)
		default:
			return fmt.Errorf("has the unknown key %s", k)
		}
		if err != nil {
			return fmt.Errorf("has a %s that %w", string(key), err)
		}
		return nil
	})
	return limits, err
}

func text(v ast.Value) (string, error) {
	s, ok := v.(ast.String)
	if !ok {
		return "", fmt.Errorf("is not a string")
	}
	return string(s), nil
}

func boolean(v ast.Value) (bool, error) {
	b, ok := v.(ast.Boolean)
	if !ok {
		return false, fmt.Errorf("is neither true nor false")
	}
	return bool(b), nil
}

func duration(v ast.Value) (time.Duration, error) {
	s, err := text(v)
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Millisecond {
		return 0, fmt.Errorf("is not a duration of at least 1ms, such as \"10m\"")
	}
	return d, nil
}

func size(v ast.Value) (int64, error) {
	n, ok := v.(ast.Number)
	if !ok {
		return 0, fmt.Errorf("is not a number of bytes")
	}
	i, err := json.Number(n).Int64()
	if err != nil || i <= 0 {
		return 0, fmt.Errorf("is not a whole number of bytes above 0")
	}
	return i, nil
}

// shorten cuts a message at its bound, between characters.
func shorten(s string) string { return shortenTo(s, maxMessageBytes) }

// shortenTo cuts a text at a bound, between characters.
func shortenTo(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	s = s[:limit]
	for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) {
		s = s[:len(s)-1]
	}
	return s
}
