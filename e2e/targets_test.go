package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/testenv"
)

// prohibitedBody: the answer does not name the address.
func prohibitedBody(t *testing.T, body string) {
	t.Helper()
	for _, internal := range []string{"10.0.0.1", "127.0.0."} {
		if strings.Contains(body, internal) {
			t.Errorf("the refusal tells the address: %q", body)
		}
	}
}

func testPrivateAddress(t *testing.T, w *fixture) {
	c := w.production()
	v := w.curl(t, c.proxyURL(w.proxy), "https://"+testenv.PrivateHost+"/")
	id := v.refused(t, "403", "address_prohibited")
	row := w.decision(t, c)
	w.both(t, row, fields{
		"decision_id": id, "verdict": "deny", "reason": "address_prohibited", "rule": "everybody", "status": 403,
		"host": testenv.PrivateHost, "dialed_address": nil, "addresses": nil,
	})
	if record := row["record_json"].(map[string]any); !strings.Contains(show(record["attributes"]), "private 10.0.0.1") {
		t.Errorf("the record does not tell the address: %v", record["attributes"])
	}

	// At a prohibited address that we can listen on, nothing comes.
	target := newTap(t, "127.0.0.2:0", nil)
	by := w.production()
	a := w.connect(t, by, testenv.LoopbackHost+":"+target.port)
	id = a.refused(t, 403, "address_prohibited")
	prohibitedBody(t, a.body)
	if ps := a.Header.Get("Proxy-Status"); !strings.Contains(ps, "error=destination_ip_prohibited") {
		t.Errorf("Proxy-Status is %q", ps)
	}
	target.untouched(t)
	w.both(t, w.decision(t, by), fields{"decision_id": id, "verdict": "deny", "reason": "address_prohibited", "host": testenv.LoopbackHost})

	// The tap does see who comes.
	conn, err := net.Dial("tcp", net.JoinHostPort(target.host, target.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-target.arrivals
}

// testOwnAddress: 127.0.0.1 is an exception that the operator made, but not for
// this instance's own listeners, under whatever name.
func testOwnAddress(t *testing.T, w *fixture) {
	for _, own := range []string{w.proxy, w.tlsProxy, w.admin} {
		_, port, err := net.SplitHostPort(own)
		if err != nil {
			t.Fatal(err)
		}
		c := w.production()
		a := w.connect(t, c, "proxy.partner.example:"+port)
		id := a.refused(t, 403, "address_prohibited")
		prohibitedBody(t, a.body)
		w.both(t, w.decision(t, c), fields{"decision_id": id, "verdict": "deny", "reason": "address_prohibited", "port": port})
	}
}

func testAddressLiteral(t *testing.T, w *fixture) {
	target := newTap(t, "127.0.0.1:0", nil)
	c := w.production()
	a := w.connect(t, c, "127.0.0.1:"+target.port)
	id := a.refused(t, 403, "no_rule_matched") // the rule that names it does not count
	w.both(t, w.decision(t, c), fields{"decision_id": id, "verdict": "deny", "reason": "no_rule_matched", "host": "127.0.0.1"})

	// No other spelling of it is a target at all.
	for _, spelling := range []string{"127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "127.0.0.1."} {
		by := w.production()
		a := w.connect(t, by, spelling+":"+target.port)
		id := a.refused(t, 400, "target_invalid")
		w.both(t, w.decision(t, by), fields{"decision_id": id, "verdict": "deny", "reason": "target_invalid", "status": 400,
			"host": nil, "target_raw": spelling + ":" + target.port})
	}
	target.untouched(t)
}

func testUnresolved(t *testing.T, w *fixture) {
	c := w.production()
	id := w.connect(t, c, "unknown.partner.test:443").refused(t, 502, "name_unresolved")
	w.both(t, w.decision(t, c), fields{"decision_id": id, "verdict": "deny", "reason": "name_unresolved", "status": 502})
}

// testUnreachable: it was allowed, so the decision is an allow, and its end has the
// outcome.
func testUnreachable(t *testing.T, w *fixture) {
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	c := w.production()
	a := w.connect(t, c, "files.partner.example:"+port)
	id := a.refused(t, 502, "target_unreachable")
	prohibitedBody(t, a.body)
	w.both(t, w.decision(t, c), fields{"decision_id": id, "verdict": "allow", "reason": "policy_allowed", "close_reason": "target_unreachable", "bytes_sent": 0, "bytes_received": 0})
}

func testMalformed(t *testing.T, w *fixture) {
	for _, target := range []string{
		"api.partner.example",             // no port
		"api.partner.example:0",           // no such port
		"api.partner.example:https",       // not a number
		"api.partner.example:443/path",    // more than an authority
		"me:pw@api.partner.example:443",   // with user information
		":443",                            // no host
		"/",                               // a path
		"https://api.partner.example:443", // a URL
		"api..partner.example:443",        // an empty label
		"xn--.partner.example:443",        // no A-label
		"api.partner.example:443?q=s3cret-in-a-query",
	} {
		c := w.production()
		a := w.connect(t, c, target)
		id := a.refused(t, 400, "target_invalid")
		row := w.decision(t, c)
		w.both(t, row, fields{"decision_id": id, "verdict": "deny", "reason": "target_invalid", "status": 400, "host": nil})
		line := w.log.wait(t, "of the refusal", message("decision", fields{"decision_id": id}))
		for _, text := range []string{fmt.Sprint(row), fmt.Sprint(line)} {
			if strings.Contains(text, "pw@") || strings.Contains(text, "s3cret") {
				t.Errorf("%s: the record or the log has more of it than it may: %s", target, text)
			}
		}
	}
	// Bytes other than HTTP are refused before authentication: counted, not recorded.
	before := w.counter(t, `sallyport_unrecorded_total{reason="request_invalid"}`)
	heads := []string{
		"CONNECT api.partner.example:443 HTTP/1.1\nHost: api.partner.example:443\n\n",
		"CONNECT  api.partner.example:443 HTTP/1.1\r\n\r\n",
		"CONNECT api.partner.example:443 HTTP/1.1\r\nHost : api.partner.example:443\r\n\r\n",
		"CONNECT api.partner.example:443 HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: api.partner.example\r\n\r\n",
	}
	for _, head := range heads {
		sendRaw(t, w.proxy, head).refused(t, 400, "request_invalid")
	}
	if after := w.counter(t, `sallyport_unrecorded_total{reason="request_invalid"}`); after != before+float64(len(heads)) {
		t.Errorf("%v of %d are counted", after-before, len(heads))
	}
	// The bytes behind a refused CONNECT are never a request.
	c := w.production()
	smuggled := w.http("api.partner.example", "/smuggled")
	a := sendRaw(t, w.proxy, connectTo("nobody.listed.example:443", c.basic())+
		"GET "+smuggled+" HTTP/1.1\r\nHost: api.partner.example\r\nProxy-Authorization: "+c.basic()+"\r\n\r\n")
	a.refused(t, 403, "no_rule_matched")
	w.decision(t, c) // one row and not two
}
