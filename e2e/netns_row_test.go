package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// row is one attempt, byte by byte, and all that may come of it. In its texts
// {host} is a name of the row's own, {public} and the like are the space's
// addresses and ports, and {auth} is the credential's header line.
type row struct {
	name, source string   // the source of the requirement: an RFC's section, a CVE, a documented fact
	controls     []string // each of which alone the row depends on
	elsewhere    bool     // needs addresses beyond the loopback device

	send     string
	tunnel   []string // sent after a 200, one write each
	open     bool     // our side of the tunnel stays open: the server has to end it
	greeting string   // of the target, before the request
	response string   // of the target
	patient  bool     // the response follows the end of the request's chunks

	status     int
	reason     string
	dials      []string // every connection, as address:port; none: nothing may be opened
	optional   bool     // these connections may be opened and need not be
	checkSent  func(sent string) (problem string)
	checkRaw   func(raw string) (problem string)
	cause      string        // that the tunnel ends with
	duration   time.Duration // with all controls in place
	mayResolve *bool         // whether names may be resolved; nil: depends on the reason
}

// get is the plainest request.
const get = "GET http://{host}:{http}/ HTTP/1.1\r\nHost: {host}\r\n{auth}Connection: close\r\n\r\n"

func (s *space) expand(text, host string) string {
	return strings.NewReplacer("{host}", host, "{auth}", "Proxy-Authorization: "+s.caller.basic()+"\r\n",
		"{public}", s.public, "{public2}", s.public2, "{public6}", s.public6, "{tls}", s.tls, "{http}", s.http, "{dead}", s.dead,
		"{proxy}", portOf(s.proxy), "{admin}", portOf(s.admin), "{pseudonym}", s.pseudonym).Replace(text)
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

var (
	statusLine    = regexp.MustCompile(`^HTTP/1\.[01] (\d{3})`)
	anyStatusLine = regexp.MustCompile(`(?m)^HTTP/1\.[01] \d{3}`)
	reasonField   = regexp.MustCompile(`(?m)^Sallyport-Reason: (\w+)\r$`)
)

// beforeLookup are the reasons of refusals that precede the resolution of a name.
var beforeLookup = []string{"policy_denied", "no_rule_matched", "target_invalid", "request_invalid", "credential_missing",
	"credential_ambiguous", "head_timeout", "head_too_large"}

// try makes a row's attempt and returns the first difference from the expected result.
func (s *space) try(r *row) error {
	s.serial++
	host := fmt.Sprintf("r%d.open.example", s.serial)
	s.script.Store(&row{greeting: r.greeting, response: r.response, patient: r.patient, checkSent: r.checkSent, optional: r.optional})
	if _, err := s.opened(); err != nil {
		return err
	}
	s.zone.since()
	s.log.mu.Lock()
	from := len(s.log.lines)
	s.log.mu.Unlock()
	began := time.Now()
	raw, err := s.exchange(r, host)
	if err != nil {
		return err
	}
	if err := s.idle(); err != nil {
		return err
	}
	opened, err := s.opened()
	if err != nil {
		return err
	}
	problems := []error{s.checkResponse(r, raw), s.checkOpened(r, host, opened)}
	names := s.zone.since()
	may := !slices.Contains(beforeLookup, r.reason)
	if r.mayResolve != nil {
		may = *r.mayResolve
	}
	if !may && len(names) > 0 {
		problems = append(problems, fmt.Errorf("looked up %v", names))
	}
	if r.cause != "" {
		problems = append(problems, s.checkClose(r, from, began))
	}
	return errors.Join(problems...)
}

// exchange is the client's part. It returns everything that the proxy sends.
func (s *space) exchange(r *row, host string) (string, error) {
	conn, err := net.Dial("tcp", s.proxy)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
	if _, err := io.WriteString(conn, s.expand(r.send, host)); err != nil {
		return "", err
	}
	var raw bytes.Buffer
	if r.status == 200 && (r.tunnel != nil || r.greeting != "") {
		buf := make([]byte, 4096)
		for !bytes.Contains(raw.Bytes(), []byte("\r\n\r\n")) {
			n, err := conn.Read(buf)
			raw.Write(buf[:n])
			if err != nil {
				return raw.String(), nil
			}
		}
		if strings.HasPrefix(raw.String(), "HTTP/1.1 200") {
			for _, piece := range r.tunnel {
				if _, err := io.WriteString(conn, s.expand(piece, host)); err != nil {
					break // it was cut, which the row may want
				}
			}
			if !r.open {
				_ = conn.(*net.TCPConn).CloseWrite()
			}
		}
	}
	err = readToEnd(conn, &raw, r.status)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return "", fmt.Errorf("the proxy ended nothing; it sent %.200q", raw.String())
	}
	return raw.String(), nil
}

// readToEnd reads until the proxy ends the connection; a reset ends it too. After another
// status than the expected one the row has failed, and the client ends its side.
func readToEnd(conn net.Conn, raw *bytes.Buffer, status int) error {
	buf, ended := make([]byte, 4096), false
	for {
		n, err := conn.Read(buf)
		raw.Write(buf[:n])
		if err != nil {
			return err
		}
		if m := statusLine.FindSubmatch(raw.Bytes()); m != nil && string(m[1]) != strconv.Itoa(status) && !ended {
			ended = true
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}
}

func (s *space) checkResponse(r *row, raw string) error {
	status, reason := 0, ""
	if m := statusLine.FindStringSubmatch(raw); m != nil {
		status, _ = strconv.Atoi(m[1])
	}
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	if m := reasonField.FindStringSubmatch(head + "\r\n"); m != nil {
		reason = m[1]
	}
	if status != r.status || reason != r.reason {
		return fmt.Errorf("answered %d %s, not %d %s: %.300q", status, reason, r.status, r.reason, raw)
	}
	if r.status >= 400 && len(anyStatusLine.FindAllString(raw, -1)) > 1 {
		return fmt.Errorf("something was answered behind the refusal: %q", raw)
	}
	if strings.Contains(raw, s.caller.token) {
		return errors.New("the credential came back")
	}
	if r.checkRaw != nil {
		if problem := r.checkRaw(raw); problem != "" {
			return fmt.Errorf("%s: %.600q", problem, raw)
		}
	}
	return nil
}

// checkOpened compares the connections that were opened, and the bytes sent on them,
// with the row.
func (s *space) checkOpened(r *row, host string, opened []dialled) error {
	var have, want []string
	var sent strings.Builder
	for _, d := range opened {
		have = append(have, d.to.String())
		sent.WriteString(d.bytes)
	}
	for _, to := range r.dials {
		want = append(want, s.expand(to, host))
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) && !(r.optional && len(have) == 0) {
		return fmt.Errorf("connections were opened to %v, not %v; sent: %.300q", have, want, sent.String())
	}
	leaked := strings.Contains(sent.String(), s.caller.token) || strings.Contains(strings.ToLower(sent.String()), "proxy-authorization")
	if leaked {
		return fmt.Errorf("the credential has arrived: %.300q", sent.String())
	}
	if r.checkSent != nil {
		if problem := r.checkSent(sent.String()); problem != "" && !(r.optional && len(have) == 0) {
			return fmt.Errorf("%s: there arrived %.600q", problem, sent.String())
		}
	} else if sent.Len() > 0 && !r.optional {
		return fmt.Errorf("there arrived %.300q", sent.String())
	}
	return nil
}

// checkClose finds the close event's line, which is written behind from lines. Lines are
// written together, a moment later: those of the row before may still be on their
// way, and are known by their time.
func (s *space) checkClose(r *row, from int, began time.Time) error {
	decided := func(l fields) bool {
		text, _ := l["time"].(string)
		at, err := time.Parse(time.RFC3339Nano, text)
		return err == nil && !at.Before(began) && message("decision", nil)(l)
	}
	end := time.After(5 * time.Second)
	for {
		s.log.mu.Lock()
		changed, lines := s.log.changed, s.log.lines[from:]
		s.log.mu.Unlock()
		if i := slices.IndexFunc(lines, decided); i >= 0 {
			ended := message("tunnel_closed", fields{"decision_id": lines[i]["decision_id"]})
			if i := slices.IndexFunc(lines, ended); i >= 0 {
				if lines[i]["close_reason"] != r.cause {
					return fmt.Errorf("the tunnel ended with %v, not %s", lines[i]["close_reason"], r.cause)
				}
				return nil
			}
		}
		select {
		case <-changed:
		case <-end:
			return errors.New("no line says that the tunnel has ended")
		}
	}
}

// controls are the ones that any row names.
func (s *space) controls(rows []*row) []string {
	var all []string
	for _, r := range rows {
		all = append(all, r.controls...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// without removes one control. Exactly the rows that name it fail.
func (s *space) without(t *testing.T, control string, rows []*row, turn int) {
	s.taken = control
	s.program = mutant(t)
	s.launch(t, "SALLYPORT_WITHOUT="+control)
	failed := 0
	for i, r := range rows {
		named := slices.Contains(r.controls, control)
		if !named && ((i+turn)%othersEvery != 0 || r.duration > 300*time.Millisecond) {
			continue // those that wait for a time to pass would do so once for each control
		}
		err := s.try(r)
		switch {
		case err == nil && named:
			t.Errorf("%s: the row holds without %s, which it names", r.name, control)
		case err != nil && !named:
			t.Errorf("%s: the row fails without %s, which it does not name: %v", r.name, control, err)
		case named:
			failed++
		}
	}
	t.Logf("%d rows fail without it", failed)
	s.fixture.stop()
}

// all joins checks of sent or received bytes.
func all(checks ...func(string) string) func(string) string {
	return func(text string) string {
		for _, check := range checks {
			if problem := check(text); problem != "" {
				return problem
			}
		}
		return ""
	}
}

func has(part string) func(string) string {
	return func(text string) string {
		if !strings.Contains(text, part) {
			return fmt.Sprintf("%q is not there", part)
		}
		return ""
	}
}

func lacks(part string) func(string) string {
	return func(text string) string {
		if strings.Contains(strings.ToLower(text), strings.ToLower(part)) {
			return fmt.Sprintf("%q is there", part)
		}
		return ""
	}
}

// once is for what a target receives: one request, and nothing behind it.
func once(text string) string {
	if n := strings.Count(text, " HTTP/1.1\r\n"); n != 1 {
		return fmt.Sprintf("%d requests", n)
	}
	return ""
}

func exactly(want string) func(string) string {
	return func(text string) string {
		if text != want {
			return fmt.Sprintf("%q was expected", want)
		}
		return ""
	}
}
