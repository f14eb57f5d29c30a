package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// maxSize bounds a configuration file. A large real one has some tens of kilobytes.
const maxSize = 1 << 20

// Load reads and checks the configuration file at path. The error is of type [Errors].
//
// It looks at the files, directories and environment variables that the configuration names, and starts nothing.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, Errors{{
			File:    path,
			Message: fmt.Sprintf("the configuration cannot be read: %v", cause(err)),
			Hint:    "name the file with -c FILE",
		}}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, Errors{{File: path, Message: fmt.Sprintf("the configuration cannot be read: %v", cause(err))}}
	}
	return Parse(path, data)
}

// Parse checks a configuration that was read already. Name is what errors call it, and its directory is where
// relative paths start. The error is of type [Errors]. Parse does not keep data.
func Parse(name string, data []byte) (*Config, error) {
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
	d.document(cfg, root)
	d.relations(cfg)
	if len(d.errs) > 0 {
		return nil, sorted(d.errs)
	}
	for _, w := range sorted(d.remarks) {
		cfg.warnings = append(cfg.warnings, Warning(w))
	}
	return cfg, nil
}
