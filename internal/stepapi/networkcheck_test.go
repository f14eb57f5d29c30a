package stepapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const validCheck = `{"results": [{"test": "direct_tcp", "address": "192.0.2.1:443", "network": "tcp4", "outcome": "blocked", "detail": "connection refused"}]}`

func TestParseNetworkCheck(t *testing.T) {
	c, err := ParseNetworkCheck([]byte(validCheck))
	if err != nil {
		t.Fatal(err)
	}
	want := NetworkCheck{Results: []NetworkResult{{Test: "direct_tcp", Address: "192.0.2.1:443", Network: "tcp4", Outcome: OutcomeBlocked, Detail: "connection refused"}}}
	if !reflect.DeepEqual(*c, want) {
		t.Fatalf("got %+v", *c)
	}
}

func TestNetworkChecksThatAreRefused(t *testing.T) {
	result := func(s string) string { return `{"results": [` + s + `]}` }
	for name, input := range map[string]string{
		"empty":              ``,
		"null":               `null`,
		"a list":             `[]`,
		"a string":           `"results"`,
		"no results":         `{"results": []}`,
		"results null":       `{"results": null}`,
		"no keys":            `{}`,
		"unknown key":        `{"results": [], "more": 1}`,
		"unknown result key": result(`{"test":"a","address":"a","network":"tcp","outcome":"open","x":1}`),
		"other letter case":  strings.Replace(validCheck, `"test"`, `"Test"`, 1),
		"repeated key":       result(`{"test":"a","address":"a","network":"tcp","outcome":"open","outcome":"blocked"}`),
		"escaped repetition": result(`{"test":"a","address":"a","network":"tcp","outcome":"open","\u006futcome":"blocked"}`),
		"trailing object":    validCheck + validCheck,
		"trailing text":      validCheck + ` x`,
		"cut":                validCheck[:len(validCheck)-1],
		"unknown outcome":    strings.Replace(validCheck, `"blocked"`, `"closed"`, 1),
		"no outcome":         result(`{"test":"a","address":"a","network":"tcp"}`),
		"test with a space":  strings.Replace(validCheck, `direct_tcp`, `direct tcp`, 1),
		"line feed":          strings.Replace(validCheck, `connection refused`, `a\nb`, 1),
		"terminal control":   strings.Replace(validCheck, `connection refused`, `\u001b[2J`, 1),
		"not ASCII":          strings.Replace(validCheck, `192.0.2.1`, `ä`, 1),
		"long detail":        strings.Replace(validCheck, `connection refused`, strings.Repeat("a", maxDetail+1), 1),
		"long address":       strings.Replace(validCheck, `192.0.2.1`, strings.Repeat("a", maxAddress), 1),
		"deep":               result(`[[[[]]]]`),
		"too many":           result(strings.TrimSuffix(strings.Repeat(`{"test":"a","address":"a","network":"tcp","outcome":"open"},`, MaxResults+1), ",")),
		"too long":           validCheck + strings.Repeat(" ", MaxNetworkCheck),
		"number for a text":  strings.Replace(validCheck, `"direct_tcp"`, `1`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := ParseNetworkCheck([]byte(input)); err == nil {
				t.Fatalf("accepted: %+v", c)
			}
		})
	}
}

func TestOutcome(t *testing.T) {
	of := func(outcomes ...string) string {
		c := NetworkCheck{}
		for _, o := range outcomes {
			c.Results = append(c.Results, NetworkResult{Outcome: o})
		}
		return c.Outcome()
	}
	for _, c := range []struct{ got, want string }{
		{of(), OutcomeError},
		{of(OutcomeBlocked, OutcomeBlocked), OutcomeBlocked},
		{of(OutcomeBlocked, OutcomeError), OutcomeError},
		{of(OutcomeError, OutcomeOpen, OutcomeBlocked), OutcomeOpen},
		{of(OutcomeBlocked, ""), OutcomeError},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// FuzzNetworkCheck: what is accepted is within its bounds, prints on one line, and is the
// same after another round.
func FuzzNetworkCheck(f *testing.F) {
	f.Add([]byte(validCheck))
	f.Add([]byte(`{"results": [{"test":"a","test":"b"}]}`))
	f.Add([]byte(`{"results"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseNetworkCheck(b)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		for _, r := range c.Results {
			for _, s := range []string{r.Test, r.Address, r.Network, r.Outcome, r.Detail} {
				if !isLine(s, maxAddress) {
					t.Fatalf("not a line: %q", s)
				}
			}
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseNetworkCheck(again)
		if err != nil || !reflect.DeepEqual(c, d) {
			t.Fatalf("%v: %+v became %+v", err, c, d)
		}
	})
}
