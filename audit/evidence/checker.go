package evidence

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

type checker struct {
	ctx     context.Context
	root    *os.Root
	options CheckOptions
	result  *Checked

	m             *pack.Manifest
	manifestFacts pack.Facts
	at            audit.Checkpoint
	counted       report.Population
	path          report.Provenance
	named         []audit.Registration
	// proofs are those that hold between the pack's checkpoint and others, by their size.
	proofs map[int64]*audit.Consistency
	count  *numbering
}

func (c *checker) note(format string, a ...any) {
	c.result.Notes = append(c.result.Notes, fmt.Sprintf(format, a...))
}

func (c *checker) warn(format string, a ...any) {
	c.result.Warnings = append(c.result.Warnings, fmt.Sprintf(format, a...))
}

// openRegular opens a file of a pack. Opening a pipe would wait for its other end,
// and nothing would end that.
func openRegular(root *os.Root, name string) (*os.File, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, wrong("%.200q: it is not a regular file", name)
	}
	return root.Open(name)
}

func readFile(root *os.Root, name string, most int64) ([]byte, error) {
	f, err := openRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		return nil, wrong("%s has more than %d bytes", name, most)
	}
	return b, err
}

// hashed is the digest of what is written to it.
type hashed struct {
	*bufio.Writer
	sum  io.Writer
	done func() string
}

func newHashed() *hashed {
	h := &hashed{}
	sum := sha256.New()
	h.sum, h.done = sum, func() string { return hex.EncodeToString(sum.Sum(nil)) }
	h.Writer = bufio.NewWriterSize(sum, 1<<16)
	return h
}

func (h *hashed) digest() string {
	_ = h.Flush() // a hash takes everything
	return h.done()
}
