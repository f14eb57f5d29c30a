package clientmatrix

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Outcome is what was measured of a client in one way.
type Outcome struct {
	// Works: an allowed transfer delivered what it should.
	Works bool `json:"works"`
	// Denied is a transfer to a target without a rule, Expired one after the end of
	// the token's lifetime.
	Denied  *Refusal `json:"denied,omitempty"`
	Expired *Refusal `json:"expired,omitempty"`
	// Restart is two transfers: one in progress when the proxy stops, and its
	// successor when the proxy runs again.
	Restart *Restart `json:"restart,omitempty"`
	// Leaks are where the token was found.
	Leaks []string `json:"leaks,omitempty"`
	// Seen is the client's last message where an allowed transfer fails.
	Seen string `json:"seen,omitempty"`
}

// Refusal is what a user gets to see of a refused transfer.
type Refusal struct {
	Status   int    `json:"status"`   // exit status
	Attempts int    `json:"attempts"` // refusals in the audit log
	Same     int    `json:"same"`     // those of the same target, or method and path
	Reason   bool   `json:"reason"`   // the client shows the reason
	Seen     string `json:"seen"`     // the client's message
}

// Restart reports which of its two transfers were completed.
type Restart struct {
	During bool `json:"during"`
	After  bool `json:"after"`
}

// Result is what was measured of a client.
type Result struct {
	Client  string           `json:"client"`
	Version string           `json:"version,omitempty"`
	NotRun  string           `json:"not_run,omitempty"` // the reason
	Ways    map[Way]*Outcome `json:"ways,omitempty"`
}

// Load reads the results that the page shows.
func Load(path string) ([]*Result, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var results []*Result
	if err := json.Unmarshal(text, &results); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return results, nil
}

// Save writes the results.
func Save(path string, results []*Result) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Differences compares what was measured with what the page shows, in words. Exit
// statuses and attempts belong to a version of a client: another version may have others.
func Differences(measured, documented *Result) []string {
	client := clientNamed(measured.Client)
	var list []string
	differ := func(way Way, what string, is, want any) {
		if is := fmt.Sprint(is); is != fmt.Sprint(want) {
			list = append(list, fmt.Sprintf("%s through %s: %s is %s, documented is %v", measured.Client, way, what, is, want))
		}
	}
	for way, is := range measured.Ways {
		want := documented.Ways[way]
		if want == nil {
			list = append(list, fmt.Sprintf("%s through %s is not documented", measured.Client, way))
			continue
		}
		differ(way, "works", is.Works, want.Works)
		differ(way, "the places of the token", is.Leaks, want.Leaks)
		if is.Restart != nil && want.Restart != nil {
			differ(way, "completed after a restart", is.Restart.After, want.Restart.After)
		}
		if measured.Version != documented.Version {
			continue
		}
		for what, pair := range map[string][2]*Refusal{"denied": {is.Denied, want.Denied}, "expired": {is.Expired, want.Expired}} {
			if pair[0] == nil {
				continue // the short form measures less
			}
			if pair[1] == nil {
				list = append(list, fmt.Sprintf("%s through %s, %s: is not documented", measured.Client, way, what))
				continue
			}
			differ(way, what+": exit status", pair[0].Status, pair[1].Status)
			if client == nil || client.AtOnce == 0 {
				differ(way, what+": attempts", pair[0].Attempts, pair[1].Attempts)
			}
			differ(way, what+": reason shown", pair[0].Reason, pair[1].Reason)
		}
	}
	slices.Sort(list)
	return list
}

// clientNamed is the client of the matrix with this name; nil: none.
func clientNamed(name string) *Client {
	for _, client := range Clients() {
		if client.Name == name {
			return client
		}
	}
	return nil
}

// Violations are what no client may do through sallyport-step, in words: fail, try
// again, or leave the token anywhere. Exceptions have a documented reason.
func Violations(client *Client, o *Outcome) []string {
	var list []string
	if len(o.Leaks) > 0 {
		list = append(list, fmt.Sprintf("leaves the token: %s", strings.Join(o.Leaks, ", ")))
	}
	if client.Except[Step] != "" {
		if o.Works {
			list = append(list, "works, but is documented as an exception: "+client.Except[Step])
		}
		return list
	}
	if !o.Works {
		list = append(list, "an allowed transfer fails: "+o.Seen)
	}
	for name, refusal := range map[string]*Refusal{"denied": o.Denied, "expired": o.Expired} {
		switch {
		case refusal == nil:
		case refusal.Status == 0 && refusal.Attempts == 0:
			list = append(list, name+": was not refused: "+refusal.Seen)
		case refusal.Same < 1 || refusal.Same > max(1, client.AtOnce):
			list = append(list, fmt.Sprintf("%s: the same request reached the proxy %d times instead of once", name, refusal.Same))
		}
	}
	if o.Restart != nil && !o.Restart.During {
		list = append(list, "a transfer during a restart of the proxy is lost")
	}
	if o.Restart != nil && !o.Restart.After {
		list = append(list, "a transfer after a restart of the proxy fails")
	}
	slices.Sort(list)
	return list
}

var (
	// volatile differs from run to run, or is a token.
	volatile = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|/tmp/\S*/|\b\d+(\.\d+)? ?m?s\b|0x[0-9a-f]+|eyJ[-\w.]+|` +
		`(time=)?"?\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ?"?`)
	port     = regexp.MustCompile(`:\d{4,5}\b|(port=)\d+|,? port \d+|( 127\.0\.0\.1) \d+`)
	hostName = regexp.MustCompile(`[a-z0-9-]+\.(allowed|raw|ech|denied|reported)\.example`)
	control  = regexp.MustCompile(`\x1b\[[0-9;?]*[a-zA-Z]|[\x00-\x08\x0b-\x1f\x7f]`)
)

// notClients are what lines begin with that are not of the client's transfer.
var notClients = []string{"sallyport", "Picked up JAVA_TOOL_OPTIONS", "(node:", "(Use `node", "[ERROR] [ERROR] Some problems", "FAILURE: Build failed"}

// Message selects what a user would quote of a client's output: the line with the
// reason, otherwise one with an error, otherwise the last one. Names and numbers that
// differ from run to run are removed. Lines of sallyport-step are not the client's.
func Message(output, reason string) (text string, shown bool) {
	var lines []string
	for line := range strings.Lines(control.ReplaceAllString(output, "")) {
		if strings.HasPrefix(line, "sallyport: what this step") {
			break // the report at the end
		}
		if line = strings.TrimSpace(line); line != "" && !slices.ContainsFunc(notClients, func(p string) bool { return strings.HasPrefix(line, p) }) {
			lines = append(lines, line)
		}
	}
	find := func(words ...string) int {
		return slices.IndexFunc(lines, func(line string) bool {
			return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(strings.ToLower(line), word) })
		})
	}
	i := find(reason)
	shown = i >= 0
	for _, words := range [][]string{{"403", "407"}, {"error", "fatal", "fail", "refused", "reset", "proxy"}} {
		if i < 0 {
			i = find(words...)
		}
	}
	if i < 0 {
		i = len(lines) - 1
	}
	if i < 0 {
		return "", false
	}
	text = hostName.ReplaceAllString(port.ReplaceAllString(volatile.ReplaceAllString(lines[i], "…"), "$1$2"), "HOST")
	text = excerpt(text, reason)
	return text, shown
}

// excerpt shortens a long line to what surrounds the reason.
func excerpt(line, reason string) string {
	const most = 110
	r := []rune(line)
	if len(r) <= most {
		return line
	}
	from := 0
	if i := strings.Index(line, reason); i >= 0 {
		from = max(0, min(len([]rune(line[:i]))-most/2, len(r)-most))
	}
	text := string(r[from:min(len(r), from+most)])
	if from > 0 {
		text = "…" + text
	}
	if from+most < len(r) {
		text += "…"
	}
	return text
}
