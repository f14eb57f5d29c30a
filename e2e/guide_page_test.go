package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// guidePage is the page that TestGuide runs.
const guidePage = "../docs/policy.md"

// guideStep is a command, a file to be written, or something that happens around
// the reader.
type guideStep struct {
	line          int    // of the page
	command       string // of a block of sh
	file, content string // of a block that begins with "# path"
	event         string
	want          string // what the command prints
	status        int
}

var guideEvent = regexp.MustCompile(`^<!-- guide: (.*) -->$`)

// guideSteps reads the page as its reader does: a command, and what it prints in
// the block of text behind it.
func guideSteps(page string) ([]*guideStep, error) {
	var steps []*guideStep
	var command *guideStep // the latest, whose output may still come
	var language string
	var block *strings.Builder
	for n, line := range strings.Split(page, "\n") {
		if fence, ok := strings.CutPrefix(line, "```"); ok {
			if block == nil {
				language, block = fence, &strings.Builder{}
				continue
			}
			text := block.String()
			block = nil
			first, rest, _ := strings.Cut(text, "\n")
			path, named := strings.CutPrefix(first, "# ")
			switch {
			case language == "sh":
				command = &guideStep{line: n + 1, command: text}
				steps = append(steps, command)
			case language == "text" && command != nil:
				command.want, command = text, nil
			case named && (language == "yaml" || language == "rego"):
				steps = append(steps, &guideStep{line: n + 1, file: path, content: rest})
			default:
				return nil, fmt.Errorf("line %d: the block is neither a command, nor what one prints, nor a file", n+1)
			}
			continue
		}
		switch output := guideEvent.FindStringSubmatch(line); {
		case block != nil:
			block.WriteString(line + "\n")
		case output == nil:
		case strings.HasPrefix(output[1], "status "):
			if _, err := fmt.Sscanf(output[1], "status %d", &command.status); err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
		default:
			steps = append(steps, &guideStep{line: n + 1, event: output[1]})
		}
	}
	return steps, nil
}

// What the page and a run have in different words: see the comment on the page.
var (
	guideDate   = regexp.MustCompile(`\b\d{4}-\d{2}-\d{2}`)
	guideTime   = regexp.MustCompile(`\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z`)
	guideID     = regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`)
	guideDigest = regexp.MustCompile(`\b([0-9a-f]{64}|[0-9a-f]{40})\b`)
	pageToday   = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
)

// guideRefusal is the id on the page that stands for the one of a refusal.
const guideRefusal = "01a1fdf4-c192-7cf7-900b-49ceb24f5238"

// movedTo moves a text of the page along with the calendar.
func movedTo(today time.Time, text string) string {
	days := int(today.Sub(pageToday).Hours() / 24)
	return guideDate.ReplaceAllStringFunc(text, func(date string) string {
		at, err := time.Parse(time.DateOnly, date)
		if err != nil {
			return date
		}
		return at.AddDate(0, 0, days).Format(time.DateOnly)
	})
}

// unrepeated removes from a text what differs in each run.
func unrepeated(today time.Time, text string) string {
	text = guideTime.ReplaceAllStringFunc(text, func(at string) string {
		for _, day := range []int{-1, 0, 1} { // a run may go over midnight
			if strings.HasPrefix(at, today.AddDate(0, 0, day).Format(time.DateOnly)) {
				return "<today>"
			}
		}
		return at
	})
	text = guideDigest.ReplaceAllString(guideID.ReplaceAllString(text, "<id>"), "<digest>")
	return strings.TrimSpace(text)
}

// shell is one sh that runs the page.
type shell struct {
	in  io.Writer
	out *bufio.Reader
}

func newShell(t testing.TB, directory string, env []string) *shell {
	t.Helper()
	// The shell outlives the test's context, so that cleanups can end what it started.
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(t.Context(), func() { time.AfterFunc(10*time.Second, cancel) })
	cmd := exec.CommandContext(ctx, "sh")
	cmd.Dir, cmd.Env = directory, env
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() {
		_ = in.Close()
		cancel()
		_ = cmd.Wait() // its error is the end by cancel
		_ = r.Close()
	})
	return &shell{in, bufio.NewReader(r)}
}

// run returns what the commands print, up to the first that fails, and its status.
func (s *shell) run(commands string) (output string, status int, err error) {
	const end = "-- the block has ended: "
	var script strings.Builder
	script.WriteString("status=0\n")
	for line := range strings.Lines(commands) {
		fmt.Fprintf(&script, "test $status -ne 0 || { %s\n} </dev/null || status=$?\n", strings.TrimSuffix(line, "\n"))
	}
	fmt.Fprintf(&script, "echo '%s'$status\n", end)
	if _, err := io.WriteString(s.in, script.String()); err != nil {
		return "", 0, err
	}
	var all strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			return all.String(), 0, fmt.Errorf("the shell ended: %w", err)
		}
		if code, ok := strings.CutPrefix(line, end); ok {
			_, err := fmt.Sscanf(code, "%d", &status)
			return all.String(), status, err
		}
		all.WriteString(line)
	}
}
