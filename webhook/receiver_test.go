package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// mutation is a delivery, changed in one thing.
type mutation struct {
	kind    Kind
	key     string
	body    string
	change  func(t testing.TB, req *http.Request)
	empty   bool // send no body
	status  int
	problem Problem // empty: a delivery
}

func header(name string, values ...string) func(testing.TB, *http.Request) {
	return func(_ testing.TB, req *http.Request) {
		req.Header.Del(name)
		for _, v := range values {
			req.Header[http.CanonicalHeaderKey(name)] = append(req.Header[http.CanonicalHeaderKey(name)], v)
		}
	}
}

func signature(value string) func(testing.TB, *http.Request) { return header(SignatureHeader, value) }

// mutations of a signed push of Cloud.
func mutations(t testing.TB) map[string]mutation {
	valid := secretOf(t, "secret").Sign([]byte(cloudPush)).String()
	digits := strings.TrimPrefix(valid, "sha256=")
	rows := map[string]mutation{
		"as sent":                  {status: 200},
		"Data Center":              {kind: DataCenter, key: "repo:refs_changed", body: serverPush, status: 200},
		"a merge":                  {key: "pullrequest:fulfilled", body: cloudMerged, status: 200},
		"a merge of Data Center":   {kind: DataCenter, key: "pr:merged", body: serverMerged, status: 200},
		"a second attempt":         {change: header("X-Attempt-Number", "2"), status: 200},
		"another user agent":       {change: header("User-Agent", "curl/8"), status: 200},
		"no request UUID":          {change: header("X-Request-UUID"), status: 200},
		"upper-case digits":        {change: signature("sha256=" + strings.ToUpper(digits)), status: 200},
		"a charset":                {change: header("Content-Type", "application/json;charset=UTF-8"), status: 200},
		"forwarded by someone":     {change: header("X-Forwarded-For", "192.0.2.1"), status: 200},
		"a body in chunks":         {change: func(_ testing.TB, req *http.Request) { req.ContentLength = -1 }, status: 200},
		"a ping":                   {kind: DataCenter, key: Ping, body: `{"test": true}`, change: header(SignatureHeader), status: 200, problem: PingProblem},
		"a ping with a push in it": {kind: DataCenter, key: Ping, body: serverPush, change: header(SignatureHeader), status: 200, problem: PingProblem},
		"a signed ping":            {kind: DataCenter, key: Ping, body: `{"test": true}`, status: 200, problem: PingProblem},
		"a ping signed by another": {kind: DataCenter, key: Ping, body: `{"test": true}`, change: signature(valid), status: 401, problem: SignatureProblem},
		"a ping of Cloud":          {key: Ping, body: `{"test": true}`, change: header(SignatureHeader), status: 401, problem: UnsignedProblem},
		"a signed ping of Cloud":   {key: Ping, body: `{"test": true}`, status: 400, problem: EventProblem},
		"a ping twice": {kind: DataCenter, key: Ping, body: `{}`, change: func(t testing.TB, req *http.Request) {
			header(SignatureHeader)(t, req)
			header("X-Event-Key", Ping, "repo:refs_changed")(t, req)
		}, status: 401, problem: UnsignedProblem},

		"no signature":           {change: header(SignatureHeader), status: 401, problem: UnsignedProblem},
		"two signatures":         {change: header(SignatureHeader, valid, valid), status: 401, problem: SignatureProblem},
		"a bad one and a good":   {change: header(SignatureHeader, "sha256=00", valid), status: 401, problem: SignatureProblem},
		"of another secret":      {change: func(t testing.TB, req *http.Request) { sign(t, req, cloudPush, "another") }, status: 401, problem: SignatureProblem},
		"of another body":        {change: func(t testing.TB, req *http.Request) { sign(t, req, cloudPush+" ", "secret") }, status: 401, problem: SignatureProblem},
		"of a compacted body":    {body: strings.ReplaceAll(cloudPush, ":{", ": {"), change: signature(valid), status: 401, problem: SignatureProblem},
		"one digit changed":      {change: signature(valid[:len(valid)-1] + flipped(valid[len(valid)-1])), status: 401, problem: SignatureProblem},
		"the digest, no HMAC":    {change: signature(fmt.Sprintf("sha256=%x", sha256.Sum256([]byte(cloudPush)))), status: 401, problem: SignatureProblem},
		"the secret in clear":    {change: signature("secret"), status: 401, problem: SignatureProblem},
		"SHA-1 with its key":     {change: signature("sha1=" + digits[:40]), status: 401, problem: SignatureProblem},
		"the body changed":       {body: strings.Replace(cloudPush, "main", "evil", 1), change: signature(valid), status: 401, problem: SignatureProblem},
		"the body extended":      {body: cloudPush + "\n", change: signature(valid), status: 401, problem: SignatureProblem},
		"the body cut off":       {body: cloudPush[:100], change: signature(valid), status: 401, problem: SignatureProblem},
		"no body":                {empty: true, change: signature(valid), status: 401, problem: SignatureProblem},
		"an empty body, signed":  {empty: true, status: 400, problem: BodyProblem},
		"signed, and no JSON":    {body: "invalid json", status: 400, problem: BodyProblem},
		"signed, and two values": {body: cloudPush + cloudPush, status: 400, problem: BodyProblem},

		"no event key":              {change: header("X-Event-Key"), status: 400, problem: EventProblem},
		"an empty event key":        {change: header("X-Event-Key", ""), status: 400, problem: EventProblem},
		"two event keys":            {change: header("X-Event-Key", "repo:push", "repo:push"), status: 400, problem: EventProblem},
		"an unknown event":          {key: "nonsense", status: 400, problem: EventProblem},
		"an event in capitals":      {key: "REPO:PUSH", status: 400, problem: EventProblem},
		"of the other product":      {key: "repo:refs_changed", status: 400, problem: EventProblem},
		"a push as a merge":         {key: "pullrequest:fulfilled", status: 400, problem: BodyProblem},
		"a merge as a push":         {body: cloudMerged, status: 400, problem: BodyProblem},
		"unknown and unsigned":      {key: "nonsense", change: header(SignatureHeader), status: 401, problem: UnsignedProblem},
		"Cloud's to Data Center":    {kind: DataCenter, key: "repo:push", status: 400, problem: EventProblem},
		"Cloud's body, their event": {kind: DataCenter, key: "repo:refs_changed", status: 400, problem: BodyProblem},

		"a push without changes":        {body: cloudPush[:strings.Index(cloudPush, `,"push"`)] + "}", status: 400, problem: BodyProblem},
		"a comment as a merge":          {key: "pullrequest:fulfilled", body: replaced(t, cloudMerged, `{"actor"`, `{"comment":{},"actor"`), status: 400, problem: BodyProblem},
		"signed, a key twice":           {body: replaced(t, cloudPush, `{"actor"`, `{"push":{"changes":[]},"actor"`), status: 400, problem: BodyProblem},
		"signed, keys in two spellings": {body: replaced(t, cloudPush, `{"actor"`, `{"Repository":{"full_name":"acme/payments"},"actor"`), status: 400, problem: BodyProblem},
		"signed, keys in capitals":      {body: replaced(t, cloudPush, `"new"`, `"New"`), status: 400, problem: BodyProblem},
		"signed, an unused secret":      {change: signature(Secret{unusedSecret}.Sign([]byte(cloudPush)).String()), status: 401, problem: SignatureProblem},
		"signed, not UTF-8":             {body: replaced(t, cloudPush, "main", "m\xffin"), status: 400, problem: BodyProblem},
		"a merge that is open":          {key: "pullrequest:fulfilled", body: replaced(t, cloudMerged, "MERGED", "OPEN"), status: 400, problem: BodyProblem},
		"another key in the body":       {kind: DataCenter, key: "repo:forked", body: serverPush, status: 400, problem: BodyProblem},
		"signed, a merge elsewhere":     {key: "pullrequest:fulfilled", body: replaced(t, cloudMerged, mergedInto, mergedElsewhere), status: 400, problem: BodyProblem},
		"signed, one id, two names":     {key: "pullrequest:fulfilled", body: replaced(t, cloudMerged, `"repository":null`, `"repository":{"full_name":"acme/deploy","uuid":"{22222222-0000-4000-8000-000000000003}"}`), status: 400, problem: BodyProblem},
		"signed, a clone elsewhere":     {kind: DataCenter, key: "repo:refs_changed", body: replaced(t, serverPush, "scm/prj/app.git", "scm/prj/deploy.git"), status: 400, problem: BodyProblem},
		"signed, a page elsewhere":      {kind: DataCenter, key: "pr:merged", body: replaced(t, serverMerged, "repos/app/pull", "repos/deploy/pull"), status: 400, problem: BodyProblem},
		"signed, a name that climbs":    {body: replaced(t, cloudPush, `"acme/egress-policy"`, `"acme/.."`), status: 400, problem: BodyProblem},
		"signed, no repository's name":  {body: replaced(t, cloudPush, `"full_name":"acme/egress-policy",`, ""), status: 400, problem: BodyProblem},

		"GET":                    {change: method("GET"), status: 405, problem: MethodProblem},
		"PUT":                    {change: method("PUT"), status: 405, problem: MethodProblem},
		"OPTIONS":                {change: method("OPTIONS"), status: 405, problem: MethodProblem},
		"another method":         {change: method("PUSH"), status: 405, problem: MethodProblem},
		"no content type":        {change: header("Content-Type"), status: 415, problem: TypeProblem},
		"a form":                 {change: header("Content-Type", "application/x-www-form-urlencoded"), status: 415, problem: TypeProblem},
		"text":                   {change: header("Content-Type", "text/plain"), status: 415, problem: TypeProblem},
		"JSON's cousin":          {change: header("Content-Type", "application/vnd.api+json"), status: 415, problem: TypeProblem},
		"UTF-16":                 {change: header("Content-Type", "application/json; charset=utf-16"), status: 415, problem: TypeProblem},
		"a malformed type":       {change: header("Content-Type", "application/json; charset"), status: 415, problem: TypeProblem},
		"two content types":      {change: header("Content-Type", "application/json", "application/json"), status: 415, problem: TypeProblem},
		"gzip":                   {change: header("Content-Encoding", "gzip"), status: 415, problem: TypeProblem},
		"identity, said":         {change: header("Content-Encoding", "identity"), status: 415, problem: TypeProblem},
		"as large as may be":     {body: padded(t, MaxBody), status: 200},
		"one byte more":          {body: padded(t, MaxBody+1), status: 413, problem: SizeProblem},
		"one more, in chunks":    {body: padded(t, MaxBody+1), change: func(_ testing.TB, req *http.Request) { req.ContentLength = -1 }, status: 413, problem: SizeProblem},
		"a body of 256 KB":       {body: padded(t, 256<<10), status: 200},
		"large and not verified": {body: padded(t, 256<<10), change: signature(valid), status: 401, problem: SignatureProblem},
	}
	for i, wrong := range []string{
		"", "sha256", "sha256=", "sha256=" + digits[1:], valid + "0", "sha256=" + digits[:63] + "g", digits, "sha512=" + digits + digits, "SHA256=" + digits,
		"sha256:" + digits, "sha256==" + digits[1:], "totally-invalid-signature", valid + "," + valid, "sha256=" + digits + ";", "t=1,v1=" + digits, "v1," + digits,
	} {
		rows[fmt.Sprintf("malformed signature %d", i)] = mutation{change: signature(wrong), status: 401, problem: SignatureProblem}
	}
	return rows
}

func flipped(digit byte) string {
	if digit == '0' {
		return "1"
	}
	return "0"
}

func method(name string) func(testing.TB, *http.Request) {
	return func(_ testing.TB, req *http.Request) { req.Method = name }
}

// padded is a push whose body has n bytes.
func padded(t testing.TB, n int) string {
	t.Helper()
	head := `{"padding":"`
	rest := `",` + cloudPush[1:]
	return head + strings.Repeat("x", n-len(head)-len(rest)) + rest
}

// TestMutatedDeliveries sends each mutation over HTTP/1.1 and HTTP/2 to a real listener.
func TestMutatedDeliveries(t *testing.T) {
	t.Parallel()
	rows := mutations(t)
	if len(rows) < 80 {
		t.Errorf("%d mutations, want 80", len(rows))
	}
	for _, http2 := range []bool{true, false} {
		for name, m := range rows {
			t.Run(fmt.Sprintf("%s http2=%v", name, http2), func(t *testing.T) {
				t.Parallel()
				kind, key, body := m.kind, m.key, m.body
				if kind == 0 {
					kind = Cloud
				}
				if key == "" {
					key = "repo:push"
				}
				if body == "" && !m.empty {
					body = cloudPush
				}
				p := newReceiverEnv(t, kind, nil)
				if !http2 {
					p.server.Client().Transport.(*http.Transport).ForceAttemptHTTP2 = false
					p.server.Client().Transport.(*http.Transport).TLSClientConfig.NextProtos = []string{"http/1.1"}
				}
				req := delivery(kind, key, body)
				sign(t, req, body, "secret")
				if m.change != nil {
					m.change(t, req)
				}
				status, text := p.send(t, req)
				if status != m.status {
					t.Errorf("answered %d %q, want %d", status, text, m.status)
				}
				accepted := 0
				if m.problem == "" {
					accepted = 1
				}
				p.queue.mu.Lock()
				defer p.queue.mu.Unlock()
				if len(p.queue.deliveries) != accepted {
					t.Errorf("%d deliveries, want %d", len(p.queue.deliveries), accepted)
				}
				for _, d := range p.queue.deliveries {
					if string(d.Body) != body || d.Digest != sha256.Sum256([]byte(body)) || d.Event.Key != key || !d.Client.IsLoopback() {
						t.Errorf("delivered %+v", d)
					}
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				if m.problem != "" && (len(p.refused) != 1 || p.refused[m.problem] != 1) || m.problem == "" && len(p.refused) > 0 {
					t.Errorf("counted %v, want %q", p.refused, m.problem)
				}
			})
		}
	}
}

// TestUnverifiedAnswersAreAlike: a client without the secret detects neither which
// events are accepted nor what is wrong with the signature.
func TestUnverifiedAnswersAreAlike(t *testing.T) {
	t.Parallel()
	p := newReceiverEnv(t, Cloud, nil)
	var first string
	for _, key := range []string{"repo:push", "nonsense", "pullrequest:created", ""} {
		for _, value := range []string{"", "sha1=00", publishedSignature} {
			req := delivery(Cloud, key, cloudPush)
			req.Header.Set(SignatureHeader, value)
			status, text := p.send(t, req)
			if answer := fmt.Sprint(status, text); first == "" {
				first = answer
			} else if answer != first {
				t.Errorf("%q %q: answered %q, others %q", key, value, answer, first)
			}
		}
	}
}

// TestVerifiedIsReported: only a request with a valid signature is reported as verified, also if
// its body is not accepted.
func TestVerifiedIsReported(t *testing.T) {
	t.Parallel()
	var verified atomic.Int32
	p := newReceiverEnv(t, Cloud, func(c *Config) { c.Verified = func(context.Context) { verified.Add(1) } })
	for _, c := range []struct {
		key, secret string
		want        int32
	}{{"repo:push", "secret", 1}, {"repo:push", "another", 0}, {"repo:deleted", "secret", 1}, {"repo:deleted", "another", 0}} {
		before := verified.Load()
		req := delivery(Cloud, c.key, cloudPush)
		sign(t, req, cloudPush, c.secret)
		status, _ := p.send(t, req)
		if got := verified.Load() - before; got != c.want {
			t.Errorf("%s with %s: answered %d, reported %d times", c.key, c.secret, status, got)
		}
	}
}

// TestTwoSecrets: during a rotation both are valid, and afterwards one.
func TestTwoSecrets(t *testing.T) {
	t.Parallel()
	var secrets atomic.Pointer[[]Secret]
	secrets.Store(&[]Secret{secretOf(t, "new"), secretOf(t, "old")})
	p := newReceiverEnv(t, Cloud, func(c *Config) { c.Secrets = func() []Secret { return *secrets.Load() } })
	try := func(secret string) int {
		req := delivery(Cloud, "repo:push", cloudPush)
		sign(t, req, cloudPush, secret)
		status, _ := p.send(t, req)
		return status
	}
	if a, b, c := try("new"), try("old"), try("older"); a != 200 || b != 200 || c != 401 {
		t.Errorf("new %d, old %d, older %d", a, b, c)
	}
	secrets.Store(&[]Secret{secretOf(t, "new")})
	if a, b := try("new"), try("old"); a != 200 || b != 401 {
		t.Errorf("after the rotation: new %d, old %d", a, b)
	}
	secrets.Store(&[]Secret{})
	if a := try("new"); a != 401 {
		t.Errorf("without a secret: %d", a)
	}
}

// TestOutcomes: 200 only once the queue has committed.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcome Outcome
		err     error
		decider Decider
		status  int
		text    string
	}{
		{Accepted, nil, allowAll{}, 200, "accepted\n"},
		{Repeated, nil, allowAll{}, 200, "repeated: accepted before\n"},
		{Accepted, nil, allowAll{denied: true}, 200, "recorded, and not delivered: denied\n"},
		{Accepted, nil, failingDecider{}, 200, "recorded, and not delivered: denied\n"},
		{0, nil, allowAll{}, 503, "not recorded: send it again\n"},
		{0, errUnavailable, allowAll{}, 503, "not recorded: send it again\n"},
		{Accepted, errUnavailable, allowAll{}, 503, "not recorded: send it again\n"},
	} {
		p := newReceiverEnv(t, Cloud, func(config *Config) { config.Decider = c.decider })
		p.queue.outcome, p.queue.err = c.outcome, c.err
		req := delivery(Cloud, "repo:push", cloudPush)
		sign(t, req, cloudPush, "secret")
		if status, text := p.send(t, req); status != c.status || text != c.text {
			t.Errorf("%d %v: answered %d %q, want %d %q", c.outcome, c.err, status, text, c.status, c.text)
		}
	}
}

// TestSourceAddresses: a request from another address costs no signature.
func TestSourceAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		accepted bool
		status   int
		problem  Problem
	}{{true, 200, ""}, {false, 403, NetworkProblem}} {
		p := newReceiverEnv(t, Cloud, func(config *Config) {
			config.AcceptsFrom = func(a netip.Addr) bool { return c.accepted && a == netip.MustParseAddr("127.0.0.1") }
		})
		req := delivery(Cloud, "repo:push", cloudPush)
		sign(t, req, cloudPush, "secret")
		if status, text := p.send(t, req); status != c.status {
			t.Errorf("accepted %v: answered %d %q, want %d", c.accepted, status, text, c.status)
		}
		p.mu.Lock()
		if c.problem != "" && p.refused[c.problem] != 1 {
			t.Errorf("counted %v", p.refused)
		}
		p.mu.Unlock()
	}
}

// TestRateIsChecked: above the rate, not even the body is read.
func TestRateIsChecked(t *testing.T) {
	t.Parallel()
	var used atomic.Int64
	p := newReceiverEnv(t, Cloud, func(c *Config) { c.Allow = func(netip.Addr) bool { return used.Add(1) <= 2 } })
	for _, want := range []int{401, 401, 429} {
		req := delivery(Cloud, "repo:push", cloudPush)
		req.Header.Set(SignatureHeader, publishedSignature)
		if status, _ := p.send(t, req); status != want {
			t.Errorf("answered %d, want %d", status, want)
		}
	}
}

// TestSlowBody: a body that stalls is answered, and does not keep its connection.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	p := newReceiverEnv(t, Cloud, func(c *Config) { c.Timeout = 50 * time.Millisecond })
	conn, err := tls.Dial("tcp", p.server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: hooks.example\r\nContent-Type: application/json\r\nX-Event-Key: repo:push\r\n%s: %s\r\nContent-Length: %d\r\n\r\n{", SignatureHeader, publishedSignature, len(cloudPush))
	read := bufio.NewReader(conn)
	response, err := http.ReadResponse(read, nil)
	if err != nil || response.StatusCode != http.StatusRequestTimeout {
		t.Fatalf("answered %v: %v", response, err)
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
	if _, err := read.ReadByte(); err == nil {
		t.Error("the connection is kept")
	}
}

// TestForwardedFields: only the listed fields are kept; credentials and identity fields
// are not.
func TestForwardedFields(t *testing.T) {
	t.Parallel()
	p := newReceiverEnv(t, Cloud, nil)
	req := delivery(Cloud, "repo:push", cloudPush)
	sign(t, req, cloudPush, "secret")
	for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization", "X-Forwarded-For", "X-Forwarded-User", "X-Real-Ip", "Forwarded", "X-Remote-User", "X-Original-Url", "X-Kubernetes-User", "Remote-User"} {
		req.Header.Set(name, "x")
	}
	req.Header["X-Attempt-Number"] = []string{"1", "2"}
	if status, text := p.send(t, req); status != 200 {
		t.Fatalf("answered %d %q", status, text)
	}
	d := p.queue.deliveries[0]
	var names []string
	for name := range d.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{"Content-Type", "User-Agent", "X-Event-Key", "X-Hook-Uuid", SignatureHeader, "X-Request-Uuid"}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("kept %v, want %v", names, want)
	}
	if d.RequestID != "44444444-0000-4000-8000-000000000005" || d.HookUUID != "33333333-0000-4000-8000-000000000004" || d.Attempt != 0 {
		t.Errorf("read as %q %q %d", d.RequestID, d.HookUUID, d.Attempt)
	}
}

// TestLongFieldsAreDropped: the fields fit the queue, which stores at most 64 KiB of JSON,
// whatever a client with a captured body adds.
func TestLongFieldsAreDropped(t *testing.T) {
	t.Parallel()
	stored := func(bytes int) int {
		h := http.Header{}
		for _, name := range forwardedFields {
			h.Set(name, strings.Repeat("<", bytes)) // six bytes in JSON
		}
		text, err := json.Marshal(forwardable(h))
		if err != nil {
			t.Fatal(err)
		}
		return len(text)
	}
	if n := stored(maxForwarded); n < 6*maxForwarded*len(forwardedFields) || n > 64<<10 {
		t.Errorf("the longest fields have %d bytes", n)
	}
	if n := stored(maxForwarded + 1); n != len("{}") {
		t.Errorf("longer fields are kept: %d bytes", n)
	}
	if text, _ := json.Marshal(strings.Repeat("<", 14<<10)); len(text) <= 64<<10 { // a field that net/http accepts
		t.Error("without the limit, one field fits too: it is not needed")
	}
}

func TestReceiversThatVerifyNothing(t *testing.T) {
	t.Parallel()
	secrets := func(s ...Secret) func() []Secret { return func() []Secret { return s } }
	one, queue := secretOf(t, "secret"), &memoryQueue{}
	valid := Config{Kind: Cloud, Secrets: secrets(one), Queue: queue, Decider: allowAll{}, Events: []string{"repo:push"}}
	if _, err := NewReceiver(valid); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no kind":             func(c *Config) { c.Kind = 0 },
		"another kind":        func(c *Config) { c.Kind = 7 },
		"no secrets":          func(c *Config) { c.Secrets = nil },
		"an empty list":       func(c *Config) { c.Secrets = secrets() },
		"an empty secret":     func(c *Config) { c.Secrets = secrets(one, Secret{}) },
		"no queue":            func(c *Config) { c.Queue = nil },
		"no decider":          func(c *Config) { c.Decider = nil },
		"a misspelled event":  func(c *Config) { c.Events = []string{"repo:psuh"} },
		"an event of another": func(c *Config) { c.Events = []string{"repo:refs_changed"} },
	} {
		c := valid
		change(&c)
		if _, err := NewReceiver(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// BenchmarkDelivery is the price of a delivery and of a forged one, without the queue.
func BenchmarkDelivery(b *testing.B) {
	for name, secret := range map[string]string{"verified": "secret", "forged": "another"} {
		b.Run(name, func(b *testing.B) {
			key := secretOf(b, "secret")
			r, err := NewReceiver(Config{Kind: Cloud, Secrets: func() []Secret { return []Secret{key} }, Queue: &memoryQueue{outcome: Repeated}, Decider: allowAll{}})
			if err != nil {
				b.Fatal(err)
			}
			req := delivery(Cloud, "repo:push", cloudPush)
			sign(b, req, cloudPush, secret)
			body := bytes.NewReader([]byte(cloudPush))
			b.ReportAllocs()
			for b.Loop() {
				body.Reset([]byte(cloudPush))
				req.Body = io.NopCloser(body)
				r.ServeHTTP(discard{}, req)
			}
		})
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
