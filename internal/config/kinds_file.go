package config

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// maxPEM bounds a certificate file: chains of a few certificates are a few kilobytes.
const maxPEM = 1 << 20

// resolve makes a path of the configuration absolute, so that it means the same wherever the server is started.
func (d *decoder) resolve(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(d.directory, path)
}

// fileProblem is what is wrong with a file, without its name: the position has it, and a secret that was written
// where its file should be named is not repeated.
func (d *decoder) fileProblem(given string, err error) *problem {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return problemf(d.pathHint(given, "create it"), "the file does not exist")
	case errors.Is(err, fs.ErrPermission):
		return problemf("let the user that runs sallyport read it", "the file cannot be read: permission denied")
	default:
		if _, ok := errors.AsType[secretFault](err); ok {
			return problemf("", "the file cannot be used: %v", err)
		}
		return problemf("name a regular file that has what is wanted in it", "the file cannot be used: %v", err)
	}
}

// pathHint is what to do about a path that does not exist.
func (d *decoder) pathHint(given, absolute string) string {
	if filepath.IsAbs(given) {
		return absolute
	}
	return "relative paths start at " + d.directory
}

// existingFile is a file that can be read.
var existingFile = kind[string]{
	name: "file", want: "the name of a file",
	parse: func(d *decoder, text string) (string, *problem) {
		name := d.resolve(text)
		if d.unread {
			return name, nil
		}
		if _, err := ReadRegular(name, maxPEM); err != nil {
			return "", d.fileProblem(text, err)
		}
		return name, nil
	},
}

// keyFile is a private key's file.
var keyFile = kind[string]{
	name: "secret file", want: "the name of a file",
	parse: func(d *decoder, text string) (string, *problem) {
		name, p := existingFile.parse(d, text)
		if p == nil && !d.unread {
			d.remarkMode(name)
		}
		return name, p
	},
}

// secretFile is a file that holds a secret now.
var secretFile = kind[Secret]{
	name: "secret file", want: "the name of a file that holds the secret",
	parse: func(d *decoder, text string) (Secret, *problem) {
		if p := looksLikeValue(text); p != nil {
			return Secret{}, p
		}
		name := d.resolve(text)
		if d.unread {
			return Secret{file: name}, nil
		}
		if _, err := readSecretFile(name); err != nil {
			return Secret{}, d.fileProblem(text, err)
		}
		d.remarkMode(name)
		return Secret{file: name}, nil
	},
}

// laterSecretFile is a secret that the server itself does not need: where the server cannot read it, all the better.
var laterSecretFile = kind[Secret]{
	name: "secret file", want: "the name of a file that holds the secret",
	parse: func(d *decoder, text string) (Secret, *problem) {
		if p := looksLikeValue(text); p != nil {
			return Secret{}, p
		}
		name := d.resolve(text)
		if d.unread {
			return Secret{file: name}, nil
		}
		if _, err := readSecretFile(name); err != nil {
			p := d.fileProblem(text, err)
			d.warn(d.current, "that is right where only `sallyport migrate` may read it, which will need it", "%s", p.message)
		} else {
			d.remarkMode(name)
		}
		return Secret{file: name}, nil
	},
}

func looksLikeValue(text string) *problem {
	if strings.Contains(text, "://") || strings.Contains(text, "password=") || strings.HasPrefix(text, "-----BEGIN") {
		return problemf("write the value into a file that only sallyport can read, and its name here",
			"want the name of a file that holds the secret, found what looks like the secret itself")
	}
	return nil
}

// remarkMode warns of a secret that every user of the machine can read or change. It is not an error: secrets mounted
// into a container often have such a mode, and the container has no other user.
func (d *decoder) remarkMode(name string) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
	case info.Mode().Perm()&0o002 != 0:
		d.warn(d.current, "chmod o-rw", "every user of this machine can change the secret (mode %04o)", info.Mode().Perm())
	case info.Mode().Perm()&0o004 != 0:
		d.warn(d.current, "chmod o-r", "every user of this machine can read the secret (mode %04o)", info.Mode().Perm())
	}
}

var envForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,99}$`)

// secretEnv is the name of an environment variable that is set now.
var secretEnv = kind[Secret]{
	name: "environment variable", want: "the name of an environment variable such as SALLYPORT_DATABASE_URL",
	parse: func(d *decoder, text string) (Secret, *problem) {
		if !envForm.MatchString(text) {
			return Secret{}, problemf("write its name only, without $", "want the name of an environment variable such as SALLYPORT_DATABASE_URL")
		}
		if d.unread {
			return Secret{env: text}, nil
		}
		value, set := os.LookupEnv(text)
		if !set {
			return Secret{}, problemf("export it before sallyport starts", "the environment variable %s is not set", text)
		}
		if _, err := checkSecret(value); err != nil {
			return Secret{}, problemf("give it a value before sallyport starts", "the environment variable %s cannot be used: %v", text, err)
		}
		return Secret{env: text}, nil
	},
}

// policyDirectory is a directory that can be listed, or may come to be there: while it is not, the last good
// revision decides.
var policyDirectory = kind[string]{
	name: "directory", want: "the name of a directory",
	parse: func(d *decoder, text string) (string, *problem) {
		if _, err := os.Stat(d.resolve(text)); errors.Is(err, fs.ErrNotExist) {
			return d.resolve(text), nil
		}
		return existingDirectory.parse(d, text)
	},
}

// existingDirectory is a directory that can be listed.
var existingDirectory = kind[string]{
	name: "directory", want: "the name of a directory",
	parse: func(d *decoder, text string) (string, *problem) {
		name := d.resolve(text)
		if d.unread {
			return name, nil
		}
		f, err := os.Open(name)
		if err != nil {
			return "", d.directoryProblem(text, name, cause(err))
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || !info.IsDir() {
			return "", problemf("", "%s is not a directory", quotePath(name))
		}
		return name, nil
	},
}

// directoryToBe is a directory that the server makes if need be.
var directoryToBe = kind[string]{
	name: "directory", want: "the name of a directory",
	parse: func(d *decoder, text string) (string, *problem) {
		name := d.resolve(text)
		info, err := os.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist), d.unread && errors.Is(err, fs.ErrPermission):
			return name, nil
		case err != nil:
			return "", d.directoryProblem(text, name, cause(err))
		case !info.IsDir():
			return "", problemf("", "%s is not a directory", quotePath(name))
		}
		return name, nil
	},
}

func (d *decoder) directoryProblem(given, name string, err error) *problem {
	if errors.Is(err, fs.ErrNotExist) {
		return problemf(d.pathHint(given, "create it"), "the directory %s does not exist", quotePath(name))
	}
	hint := "name a directory"
	if errors.Is(err, fs.ErrPermission) {
		hint = "let the user that runs sallyport read and enter it"
	}
	return problemf(hint, "the directory %s cannot be used: %v", quotePath(name), err)
}

// quotePath is quote with a higher limit: the end of a path identifies it.
func quotePath(name string) string {
	if len(name) <= 400 {
		return "\"" + name + "\""
	}
	return quote(name)
}

// fileToBe is a file that the server appends to, and makes if need be.
var fileToBe = kind[string]{
	name: "file", want: "the name of a file",
	parse: func(d *decoder, text string) (string, *problem) {
		name := d.resolve(text)
		if d.unread {
			return name, nil
		}
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			return "", problemf("name a file in it", "%s is a directory", quotePath(name))
		}
		switch info, err := os.Stat(filepath.Dir(name)); {
		case errors.Is(err, fs.ErrNotExist):
			return "", problemf("create it", "the directory %s does not exist", quotePath(filepath.Dir(name)))
		case err != nil:
			return "", d.directoryProblem(text, filepath.Dir(name), cause(err))
		case !info.IsDir():
			return "", problemf("name a file in a directory", "%s is not a directory", quotePath(filepath.Dir(name)))
		}
		return name, nil
	},
}

// folder is a path inside a repository.
var folder = kind[string]{
	name: "path", want: "a path inside the repository such as policy",
	parse: func(_ *decoder, text string) (string, *problem) {
		clean := path.Clean(text)
		if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.Contains(text, "\\") {
			return "", wanted("a path inside the repository such as policy", text, "it is relative to the repository's root and stays inside it")
		}
		return clean, nil
	},
}
