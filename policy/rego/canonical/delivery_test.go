package canonical

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/sallyport/sallyport/webhook"
)

const (
	cloudPush = `{"actor":{"type":"user","uuid":"{11111111-0000-4000-8000-000000000001}"},` +
		`"repository":{"type":"repository","full_name":"acme/app","uuid":"{22222222-0000-4000-8000-000000000002}","project":{"key":"SEC"}},` +
		`"push":{"changes":[{"new":{"type":"branch","name":"main","target":{"hash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"old":null},` +
		`{"new":null,"old":{"type":"tag","name":"v1","target":{"hash":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}}}]}}`
	serverMerged = `{"eventKey":"pr:merged","actor":{"id":4,"type":"NORMAL"},"pullRequest":{"id":9,"state":"MERGED",` +
		`"fromRef":{"id":"refs/heads/fix","latestCommit":"cccccccccccccccccccccccccccccccccccccccc","repository":{"slug":"app","id":12,"project":{"key":"PRJ"}}},` +
		`"toRef":{"id":"refs/heads/main","latestCommit":"dddddddddddddddddddddddddddddddddddddddd","repository":{"slug":"app","id":12,"project":{"key":"PRJ"}}},` +
		`"properties":{"mergeCommit":{"id":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}}}}`
)

func deliveryOf(t testing.TB, kind webhook.Kind, key, body string) *webhook.Delivery {
	t.Helper()
	e, err := webhook.Parse(kind, key, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return &webhook.Delivery{Receiver: "builds", Event: e, Client: netip.MustParseAddr("192.0.2.7"), Received: time.Date(2026, 11, 21, 9, 40, 0, 123456789, time.FixedZone("", 3600))}
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind            webhook.Kind
		key, body, want string
	}{
		{webhook.Cloud, "repo:push", cloudPush, `{"receiver":"builds","kind":"cloud","event":"repo:push",` +
			`"repository":{"uuid":"22222222-0000-4000-8000-000000000002","full_name":"acme/app","project":"SEC"},` +
			`"refs":[{"type":"branch","name":"main","change":"created","new":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},` +
			`{"type":"tag","name":"v1","change":"deleted","old":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}],"incomplete":false,` +
			`"actor":{"uuid":"11111111-0000-4000-8000-000000000001","kind":"user"},"client":{"address":"192.0.2.7"},"time":"2026-11-21T08:40:00.123456Z"}`},
		{webhook.DataCenter, "pr:merged", serverMerged, `{"receiver":"builds","kind":"data_center","event":"pr:merged",` +
			`"repository":{"id":12,"full_name":"PRJ/app","project":"PRJ"},` +
			`"refs":[{"type":"branch","name":"main","change":"updated","new":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}],"incomplete":false,` +
			`"pull_request":{"id":9,"state":"MERGED","source":{"repository":{"id":12,"full_name":"PRJ/app","project":"PRJ"},"branch":"fix","commit":"cccccccccccccccccccccccccccccccccccccccc"},` +
			`"destination":{"repository":{"id":12,"full_name":"PRJ/app","project":"PRJ"},"branch":"main","commit":"dddddddddddddddddddddddddddddddddddddddd"},"merge_commit":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"},` +
			`"actor":{"id":4,"kind":"normal"},"client":{"address":"192.0.2.7"},"time":"2026-11-21T08:40:00.123456Z"}`},
		{webhook.Cloud, "project:updated", `{"project":{"key":"SEC"}}`, `{"receiver":"builds","kind":"cloud","event":"project:updated","refs":[],"incomplete":false,` +
			`"actor":{},"client":{"address":"192.0.2.7"},"time":"2026-11-21T08:40:00.123456Z"}`},
	} {
		value, text, err := Delivery(deliveryOf(t, c.kind, c.key, c.body))
		if err != nil || string(text) != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", c.key, err, text, c.want)
		}
		agree(t, value, text)
	}
}

// agree fails the test unless the value is what the JSON holds, which the schema names.
func agree(t testing.TB, value *ast.Term, text []byte) {
	t.Helper()
	var decoded any
	if err := util.UnmarshalJSON(text, &decoded); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	again, err := ast.InterfaceToValue(decoded)
	if err != nil || again.Compare(value.Value) != 0 {
		t.Fatalf("%v\n evaluated %s\n recorded %s", err, value, text)
	}
	var schema map[string]any
	if err := json.Unmarshal(DeliverySchema, &schema); err != nil {
		t.Fatal(err)
	}
	described(t, "input", decoded, schema)
}

// described fails the test unless a schema describes a value and all its members.
func described(t testing.TB, at string, value any, schema map[string]any) {
	t.Helper()
	want, _ := schema["type"].(string)
	is := ""
	switch v := value.(type) {
	case map[string]any:
		is = "object"
		properties, _ := schema["properties"].(map[string]any)
		for name, member := range v {
			sub, ok := properties[name].(map[string]any)
			if !ok {
				t.Errorf("the schema lacks %s.%s", at, name)
				continue
			}
			described(t, at+"."+name, member, sub)
		}
	case []any:
		is = "array"
		items, _ := schema["items"].(map[string]any)
		for _, member := range v {
			described(t, at+"[_]", member, items)
		}
	case json.Number:
		is = "integer"
	case string:
		is = "string"
	case bool:
		is = "boolean"
	}
	if is != want {
		t.Errorf("%s is %s, and in the schema %s", at, is, want)
	}
}

func TestDeliveryThatNoRuleCouldBeAbout(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*webhook.Delivery{
		"none": nil, "without an event": {Receiver: "x", Received: time.Unix(1, 0)},
		"without a receiver": {Event: &webhook.Event{}, Received: time.Unix(1, 0)}, "without a time": {Receiver: "x", Event: &webhook.Event{}},
	} {
		if _, text, err := Delivery(d); err == nil || text != nil {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}

// FuzzDelivery: the evaluated value and the recorded JSON of any delivery agree, the JSON
// can be stored, and the schema describes it.
func FuzzDelivery(f *testing.F) {
	f.Add("builds", "main", "acme/app", "user", int64(9), "OPEN", "repo:push", true)
	f.Add("a\x00b", "\xff\xfe", "ws/\u2028r", "\\u0000", int64(-1), "\"", "\n", false)
	f.Fuzz(func(t *testing.T, receiver, name, fullName, kind string, id int64, state, key string, incomplete bool) {
		if receiver == "" {
			return
		}
		repository := &webhook.Repository{UUID: name, ID: id, FullName: fullName, Project: state}
		e := &webhook.Event{
			Kind: webhook.Cloud, Key: key, Repository: repository, Incomplete: incomplete, Actor: webhook.Actor{UUID: kind, ID: id, Kind: kind},
			Refs:        []webhook.Ref{{Type: webhook.RefType(kind), Name: name, Change: webhook.Change(state), Old: key, New: fullName}, {}},
			PullRequest: &webhook.PullRequest{ID: id, State: state, Source: webhook.Side{Branch: name}, Destination: webhook.Side{Repository: repository, Branch: name, Commit: key}, MergeCommit: state},
		}
		value, text, err := Delivery(&webhook.Delivery{Receiver: receiver, Event: e, Received: time.Unix(1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 || bytes.Contains(text, []byte(`\u0000`)) && !bytes.Contains([]byte(receiver+name+fullName+kind+state+key), []byte(`\u0000`)) {
			t.Errorf("cannot be stored: %q", text)
		}
		agree(t, value, text)
	})
}
