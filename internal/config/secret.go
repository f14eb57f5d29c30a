package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
)

// Secret is the place of a secret: a file or an environment variable. It does not hold the secret, so
// no formatter, logger or debugger can show it; it shows where it comes from instead. The zero Secret is none.
type Secret struct{ file, env string }

// maxSecret bounds what is read from a secret's file: keys and URLs are far smaller, and a wrong path may name
// anything.
const maxSecret = 64 << 10

// IsZero reports whether no secret is configured.
func (s Secret) IsZero() bool { return s == Secret{} }

// File returns the absolute path of the secret's file, for those who watch it for changes; it is empty for a secret
// from the environment.
func (s Secret) File() string { return s.file }

// Read returns the secret as it is now, without line breaks at its end. It fails where there is none, or where it is
// empty, larger than 64 KiB, or not one line of plain text without quotes around it. The error contains the secret's place and never what was
// found there.
func (s Secret) Read() (string, error) {
	switch {
	case s.file != "":
		text, err := readSecretFile(s.file)
		if err != nil {
			return "", fmt.Errorf("config: read the secret in %s: %w%s", s.file, err, fileRemedy(err))
		}
		return text, nil
	case s.env != "":
		text, err := checkSecret(os.Getenv(s.env))
		if err != nil {
			return "", fmt.Errorf("config: read the secret in the environment variable %s: %w", s.env, err)
		}
		return text, nil
	default:
		return "", errors.New("config: read a secret: the configuration names none for this command: see docs/configuration.md")
	}
}

// fileRemedy is what to do about a file that cannot be read.
func fileRemedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ": make it, or correct its name in the configuration"
	case errors.Is(err, syscall.EMFILE):
		return ": raise the limit of open files (ulimit -n, LimitNOFILE= of the unit)"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf(": let the user that runs this command (uid %d) read it, or run it as the user that may", os.Geteuid())
	}
	return ""
}

// readSecretFile leaves the path out of its errors, so that each caller decides whether to show it.
func readSecretFile(path string) (string, error) {
	data, err := ReadRegular(path, maxSecret)
	if err != nil {
		return "", err
	}
	return checkSecret(string(data))
}

// checkSecret returns the secret without the line breaks at its end. A secret is one
// line; what editors and shells add to it is named, as it would be sent otherwise.
func checkSecret(text string) (string, error) {
	text = strings.TrimRight(text, "\r\n")
	switch trimmed := strings.TrimSpace(text); {
	case trimmed == "":
		return "", secretFault("it is empty: write the secret into it, on one line")
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		return "", secretFault("it is UTF-16: save it as UTF-8 without a byte order mark")
	case strings.ContainsRune(text, 0):
		return "", secretFault("it contains a NUL byte: save it as plain text in UTF-8")
	case strings.HasPrefix(text, "\ufeff"):
		return "", secretFault("it begins with a byte order mark: save it as UTF-8 without one")
	case strings.ContainsAny(text, "\r\n"):
		return "", secretFault("it has more than one line: write the secret and nothing else, on one line")
	case trimmed != text:
		return "", secretFault("it begins or ends with white space: remove that")
	case len(text) > 1 && text[0] == text[len(text)-1] && (text[0] == '"' || text[0] == '\''):
		return "", secretFault("it is in quotes: write the secret without them")
	}
	return text, nil
}

// secretFault is what is wrong with a secret's text, and what to do.
type secretFault string

func (e secretFault) Error() string { return string(e) }

// ReadRegular reads a regular file, or one that a symbolic link names, of at most limit bytes. Anything else is refused
// before it is opened: opening a FIFO waits for its writer, and reading a device may never end. The error leaves the
// path out; it is [fs.ErrNotExist] where there is no file.
func ReadRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	if info.IsDir() {
		return nil, errors.New("it is a directory")
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	// The path may name another file by now: without NONBLOCK a FIFO is waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if info.Size() > limit {
		return nil, tooLarge(limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, cause(err)
	}
	if int64(len(data)) > limit {
		return nil, tooLarge(limit)
	}
	return data, nil
}

func tooLarge(limit int64) error { return fmt.Errorf("it is larger than %d KiB", limit>>10) }

// cause drops the operation and the path from an error of package os.
func cause(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fs.ErrNotExist
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// String returns the secret's place.
func (s Secret) String() string {
	switch {
	case s.file != "":
		return "secret in the file " + s.file
	case s.env != "":
		return "secret in the environment variable " + s.env
	default:
		return "no secret"
	}
}

// Format writes [Secret.String] for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is [Secret.String] for package slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON is [Secret.String] as a JSON string.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }
