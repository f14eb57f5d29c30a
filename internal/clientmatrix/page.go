package clientmatrix

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// The page has the tables between these two lines; what surrounds them is prose.
const (
	begin = "<!-- make clients writes from here -->\n"
	end   = "<!-- to here -->\n"
)

// WritePage writes the tables of the results into the page.
func WritePage(path string, results []*Result) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err = Page(text, results)
	if err != nil {
		return fmt.Errorf("write the tables of %s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o644)
}

// Page returns the page with the tables of the results.
func Page(text []byte, results []*Result) ([]byte, error) {
	before, rest, found := bytes.Cut(text, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return nil, fmt.Errorf("the lines %q and %q are missing: restore them", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(begin)
	b.WriteString("\n")
	writeWorks(&b, results)
	writeRefusals(&b, results)
	writeLeaks(&b, results)
	writeNotRun(&b, results)
	b.WriteString(end)
	b.Write(after)
	return b.Bytes(), nil
}

// run are the results of clients that were run, with their clients.
func run(results []*Result, each func(*Client, *Result)) {
	for _, client := range Clients() {
		i := slices.IndexFunc(results, func(r *Result) bool { return r.Client == client.Name })
		if i >= 0 && results[i].NotRun == "" {
			each(client, results[i])
		}
	}
}

func writeWorks(b *bytes.Buffer, results []*Result) {
	b.WriteString("## Which client works in which way\n\n| client | version | through `sallyport-step` | `https://` proxy URL | `http://` proxy URL |\n| --- | --- | --- | --- | --- |\n")
	run(results, func(client *Client, result *Result) {
		fmt.Fprintf(b, "| %s | %s |", client.Name, result.Version)
		for _, way := range Ways {
			fmt.Fprintf(b, " %s |", works(client, way, result.Ways[way]))
		}
		b.WriteString("\n")
	})
	b.WriteString("\n")
}

func works(client *Client, way Way, o *Outcome) string {
	if o == nil {
		return "not run"
	}
	var text string
	switch {
	case o.Works && slices.Contains(o.Leaks, "target"):
		text = "**no: the target gets the token**"
	case o.Works:
		text = "yes"
	case client.Except[way] != "":
		return "no: " + client.Except[way]
	case o.Seen != "":
		return "no: " + quote(o.Seen)
	default:
		return "no"
	}
	if how := client.How[way]; how != "" {
		text += "; " + how
	}
	return text
}

// quote shows a client's message in a cell of a table.
func quote(message string) string {
	if message == "" {
		return "nothing"
	}
	return "`` " + strings.ReplaceAll(strings.ReplaceAll(message, "|", "/"), "``", "''") + " ``"
}

func writeRefusals(b *bytes.Buffer, results []*Result) {
	b.WriteString("## What a refusal looks like\n\n" +
		"Each cell has the results of the three ways, in the order of the table above. Attempts are the requests of one command that the proxy refused. " +
		"The last column is a transfer that is in progress when the proxy restarts.\n\n" +
		"| client | message after a denial | exit status | attempts | exit status, token expired | attempts, token expired | restart |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	run(results, func(client *Client, result *Result) {
		message := ""
		for _, way := range Ways {
			if o := result.Ways[way]; message == "" && o != nil && o.Denied != nil && (o.Works || client.Except[way] != "") {
				message = quote(o.Denied.Seen)
			}
		}
		if message == "" {
			return
		}
		denied := func(o *Outcome) *Refusal { return o.Denied }
		expired := func(o *Outcome) *Refusal { return o.Expired }
		status := func(f *Refusal) int { return f.Status }
		attempts := func(f *Refusal) int { return f.Attempts }
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", client.Name, message,
			refusals(result, denied, status), refusals(result, denied, attempts), refusals(result, expired, status), refusals(result, expired, attempts), restarts(result))
	})
	b.WriteString("\n")
}

// each shows a value of all ways; a way without the value has a dash.
func each(result *Result, value func(*Outcome) string) string {
	var list []string
	for _, way := range Ways {
		text := ""
		if o := result.Ways[way]; o != nil {
			text = value(o)
		}
		list = append(list, cmp.Or(text, "–"))
	}
	return strings.Join(list, ", ")
}

func refusals(result *Result, refusal func(*Outcome) *Refusal, number func(*Refusal) int) string {
	return each(result, func(o *Outcome) string {
		if refusal(o) == nil {
			return ""
		}
		return fmt.Sprint(number(refusal(o)))
	})
}

func restarts(result *Result) string {
	return each(result, func(o *Outcome) string {
		switch {
		case !o.Works || o.Restart == nil:
			return ""
		case o.Restart.During:
			return "completed"
		default:
			return "lost"
		}
	})
}

func writeLeaks(b *bytes.Buffer, results []*Result) {
	b.WriteString("## Where the token was found\n\n" +
		"All output, all files, the arguments and variables of all processes, and all bytes that reached the target were searched for the token. " +
		"Not counted are the variables and files that hold the token because the way is to put it there.\n\n| client | way | place |\n| --- | --- | --- |\n")
	any := false
	run(results, func(client *Client, result *Result) {
		for _, way := range Ways {
			if o := result.Ways[way]; o != nil && len(o.Leaks) > 0 {
				any = true
				fmt.Fprintf(b, "| %s | `%s` | %s |\n", client.Name, way, strings.Join(o.Leaks, ", "))
			}
		}
	})
	if !any {
		b.WriteString("| none | | |\n")
	}
	b.WriteString("\n")
}

func writeNotRun(b *bytes.Buffer, results []*Result) {
	var list []string
	for _, r := range results {
		if r.NotRun != "" {
			list = append(list, fmt.Sprintf("- %s: %s\n", r.Client, r.NotRun))
		}
	}
	if len(list) > 0 {
		b.WriteString("Not run on the machine that wrote this page:\n\n" + strings.Join(list, "") + "\n")
	}
}
