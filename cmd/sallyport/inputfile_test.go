package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// TestInputFlags: every flag that names a file which is read whole ends with status
// 2 where that file is none, or has no end, and the error names the flag and the file.
func TestInputFlags(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	fifo, large, missing := filepath.Join(folder, "fifo"), filepath.Join(folder, "large"), filepath.Join(folder, "missing")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.WriteFile(large, nil, 0o600), os.Truncate(large, 300<<20)); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(folder, "link")
	if err := os.Symlink("/dev/zero", link); err != nil {
		t.Fatal(err)
	}
	pack := []string{"audit", "evidence", "--since", "2026-10-01", "--until", "2026-11-01", "--out", filepath.Join(folder, "pack")}
	declare := []string{"audit", "gap", "declare", "--writer", "w", "--first", "1", "--last", "2", "--reason", "r"}
	flags := []struct {
		flag string
		args []string
	}{
		{"--key", []string{"audit", "verify", "--export", "-"}},
		{"--checkpoint", []string{"audit", "verify", "--export", "-"}},
		{"--database-url-file", []string{"audit", "verify"}},
		{"--export", []string{"audit", "verify"}},
		{"--key", []string{"audit", "evidence", "check", folder}},
		{"--checkpoint", []string{"audit", "evidence", "check", folder}},
		{"--proof", []string{"audit", "evidence", "check", folder}},
		{"--key", pack},
		{"--checkpoint", pack},
		{"--signing-key", pack},
		{"--database-url-file", append(pack[:len(pack):len(pack)], "--unsigned")},
		{"--signing-key", declare},
		{"--database-url-file", []string{"audit", "gap", "list"}},
		{"--database-url-file", []string{"audit", "hold", "list"}},
		{"--database-url-file", []string{"audit", "query"}},
		{"--database-url-file", []string{"audit", "show", "01a1fdf4-0000-7000-8000-00000000000d"}},
		{"--database-url-file", []string{"audit", "stats"}},
		{"--database-url-file", []string{"audit", "tail"}},
		{"--database-url-file", []string{"audit", "export"}},
		{"--database-url-file", []string{"audit", "proof", "01a1fdf4-0000-7000-8000-00000000000d"}},
	}
	files := []struct{ path, want string }{
		{"/dev/zero", "not a regular file"}, {link, "not a regular file"}, {fifo, "without a writer"},
		{folder, "it is a directory"}, {large, "it is larger than"}, {missing, "file does not exist"},
	}
	for _, f := range flags {
		for _, file := range files {
			want := file.want
			switch {
			case f.flag != "--export":
			case file.path == missing:
				want = "no such file"
			case file.path == fifo:
				want = "other end"
			case file.path == large: // an export has no bound: its first line has
				want = "token too long"
			default:
				want = "neither a regular file nor a pipe"
			}
			ctx, cancel := context.WithCancel(t.Context())
			status := exitInvalid
			if f.flag == "--export" && file.path == fifo {
				cancel() // as a signal does: an interruption is a failure
				status = exitFailed
			}
			var out, errOut bytes.Buffer
			args := append(f.args[:len(f.args):len(f.args)], f.flag, file.path)
			code := run(ctx, args, strings.NewReader(""), &out, &errOut)
			cancel()
			if said := errOut.String(); code != status || !strings.Contains(said, want) || !strings.Contains(said, file.path) || !strings.Contains(said, f.flag) {
				t.Errorf("%q: it ended with %d, and does not say %q of the flag and the file: %s", args, code, want, said)
			}
		}
	}
}

// TestInputFromPipe: the shell's <(command) is a pipe, of which only so much is read.
func TestInputFromPipe(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	key := string(newTestSigner(t).Key())
	for name, c := range map[string]struct {
		text, want string
	}{
		"a key": {text: key + "\n"}, "too much": {text: strings.Repeat("a", cli.MaxSecretInput+1), want: "gives more"}, "nothing": {want: "without a writer"},
	} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = write.WriteString(c.text); _ = write.Close() }()
		text, err := cli.ReadInput(t.Context(), pipePath(read), cli.MaxSecretInput)
		_ = read.Close()
		if c.want == "" && (err != nil || string(text) != c.text) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %d bytes and the error %v", name, len(text), err)
		}
	}
	dangling := filepath.Join(folder, "dangling")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.ReadInput(t.Context(), dangling, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to nothing: %v", err)
	}
}

// TestInputWaitEnds: a signal ends the wait for a pipe whose writer gives nothing,
// and that for the standard input of a verification.
func TestInputWaitEnds(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = read.Close(), write.Close() }()
	for _, args := range [][]string{
		{"audit", "verify", "--export", pipePath(read), "--unanchored"},
		{"audit", "verify", "--export", "-", "--unanchored"},
		{"audit", "verify", "--export", "-", "--key", pipePath(read)},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		var out, errOut bytes.Buffer
		go func() { ended <- run(ctx, args, read, &out, &errOut) }()
		cancel()
		if code := <-ended; code != exitFailed || !strings.Contains(errOut.String(), context.Canceled.Error()) {
			t.Errorf("%q: it ended with %d: %s", args, code, &errOut)
		}
	}
}

// pipePath is what a shell puts in the place of <(command).
func pipePath(f *os.File) string { return fmt.Sprintf("/dev/fd/%d", f.Fd()) }
