package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Load reads and checks the configuration file at path. The error is of type [Errors].
//
// It reads the files and environment variables that the configuration names, and starts nothing. A policy.directory
// that does not exist is accepted: the last good revision may decide.
func Load(path string) (*Config, error) { return load(path, false) }

// LoadUnread is [Load], but reads no other file and no environment variable: for a command that needs some of them, and
// whose user may read no more. [Secret.Read] reports what is wrong with one that it needs.
func LoadUnread(path string) (*Config, error) { return load(path, true) }

func load(path string, unread bool) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, Errors{unreadable(path, err)}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, Errors{unreadable(path, err)}
	}
	return parse(path, data, unread)
}

// unreadable is the error of a configuration file that cannot be read.
func unreadable(path string, err error) Error {
	hint := "name a file with -c FILE"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "correct the name after -c FILE or in SALLYPORT_CONFIG, or make the file"
	case errors.Is(err, fs.ErrPermission):
		hint = fmt.Sprintf("let the user that runs this command (uid %d) read it: sudo, chgrp or chmod", os.Geteuid())
	case errors.Is(err, syscall.EISDIR):
		hint = "it is a directory: name the file in it"
	}
	return Error{File: path, Message: fmt.Sprintf("the configuration cannot be read: %v", cause(err)), Hint: hint}
}

// Parse checks a configuration that was read already. Name is what errors call it, and its directory is where
// relative paths start. The error is of type [Errors]. Parse does not keep data.
func Parse(name string, data []byte) (*Config, error) { return parse(name, data, false) }

func parse(name string, data []byte, unread bool) (*Config, error) {
	directory, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, Errors{{File: name, Message: fmt.Sprintf("the working directory is not known: %v", err)}}
	}
	root, errs := readYAML(name, data)
	if len(errs) > 0 {
		return nil, errs
	}
	cfg := &Config{}
	d := newDecoder(name, directory, time.Now())
	d.unread = unread
	decodeDocument(d, cfg, root)
	d.relations(cfg)
	if len(d.errs) > 0 {
		return nil, sorted(d.errs)
	}
	for _, w := range sorted(d.warnings) {
		cfg.warnings = append(cfg.warnings, Warning(w))
	}
	return cfg, nil
}

func decodeDocument(d *decoder, cfg *Config, root node) {
	if root.shape == mapping || root.shape == nothing {
		root.at = position{1, 1} // a key that the document lacks is reported at its beginning
	}
	d.places = places
	d.mapping("", root, rootFields(cfg))
}

// places returns where in the schema each key is known, by its name.
var places = sync.OnceValue(func() map[string][]string {
	all := map[string][]string{}
	walk(rootFields(new(Config)), "", func(path string, f field) { all[f.name] = append(all[f.name], path) })
	return all
})
