package evidence

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/sallyport/sallyport/audit"
)

// CheckOptions say what whoever checks a pack has from elsewhere.
type CheckOptions struct {
	Trust    audit.Trust
	Proofs   []*audit.Consistency // between the pack's checkpoint and others
	Unsigned bool                 // take a manifest that nobody signed
	Tool     string               // this program: pages are made again if it is the one that made them
}

// Checked is what a check found.
type Checked struct {
	Manifest *Manifest
	SignedBy audit.Key // empty: nobody
	Vouched  bool      // the manifest is signed by a key from outside, or by one that such a key handed over to
	// CheckpointBy is the trusted key that signed the pack's checkpoint: a key from
	// outside, or one that such a key handed over to. Empty: none did.
	CheckpointBy audit.Key
	// Anchored says that a checkpoint from outside holds, and AnchoredSize is the
	// size of the largest that does.
	Anchored     bool
	AnchoredSize int64
	Warnings     []string // of what was given and could not be used
	Bytes        int64
	Files        int
	Notes        []string // what could not be told
	Findings     []string // the first damaged place first
}

// Established reports whether what was given from outside vouches for the pack:
// for who signed the manifest, and for the log up to the pack's checkpoint. Where
// checkpoints were given, one of them has to hold.
func (c *Checked) Established(o CheckOptions) bool {
	signature := c.Vouched || c.SignedBy == "" && o.Unsigned
	return signature && (c.Anchored || c.CheckpointBy != "" && len(o.Trust.Notes) == 0)
}

// ErrNoPack is returned, wrapped, for a folder that is not a pack at all.
var ErrNoPack = errors.New("this is not an evidence pack")

// finding is damage that ends the check of one part.
type finding struct{ text string }

func (f finding) Error() string { return f.text }

func wrong(format string, a ...any) error { return finding{fmt.Sprintf(format, a...)} }

// Check holds a pack against its manifest, the manifest against its signature,
// and what was made of the population against the population. It needs nothing
// but the folder. Damage is a finding and no error: an error says that the folder
// could not be read, or is not a pack.
func Check(ctx context.Context, dir string, o CheckOptions) (*Checked, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	text, err := readFile(root, manifestName, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no manifest", ErrNoPack, dir)
	}
	if err != nil {
		return nil, err
	}
	c := &checker{ctx: ctx, root: root, options: o, result: &Checked{}}
	for _, part := range []func() error{
		func() error { return c.manifest(text) },
		c.files, c.facts, c.checkpoint, c.population, c.events, c.numbers, c.reconciliations, c.consistency, c.trust, c.tables, c.sampleDetails,
	} {
		err := part()
		if f, ok := errors.AsType[finding](err); ok {
			c.result.Findings = append(c.result.Findings, f.text)
			break // what follows stands on this
		}
		if err != nil {
			return nil, err
		}
	}
	return c.result, nil
}

type checker struct {
	ctx     context.Context
	root    *os.Root
	options CheckOptions
	result  *Checked

	m             *Manifest
	manifestFacts Facts
	at            audit.Checkpoint
	taken         population
	path          provenance
	named         []audit.Registration
	// proofs are those that hold between the pack's checkpoint and others, by their size.
	proofs map[int64]*audit.Consistency
	count  *numbering
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

func (c *checker) manifest(text []byte) error {
	keys := c.options.Trust.Keys
	if len(keys) == 0 {
		keys = claimedKey(text)
	}
	m, by, err := openManifest(text, keys, c.options.Unsigned)
	if err != nil {
		// A key that a given one handed over to is looked for in the pack.
		bound := c.bound(claimedKey(text))
		if len(c.options.Trust.Keys) == 0 || len(bound) == 0 {
			return wrong("%s: %v", manifestName, err)
		}
		if m, by, err = openManifest(text, bound, c.options.Unsigned); err != nil {
			return wrong("%s: %v", manifestName, err)
		}
	}
	c.m, c.result.Manifest, c.result.SignedBy = m, m, by
	c.result.Vouched = by != "" && len(c.options.Trust.Keys) > 0
	if by != "" && string(by) != m.Signature {
		return wrong("%s: it says that it is signed by %s, and is by %s", manifestName, m.Signature, by)
	}
	return nil
}

// bound are those of some keys that a trusted one handed over to, in events of the
// pack that both signed.
func (c *checker) bound(keys []audit.Key) []audit.Key {
	file, err := openRegular(c.root, eventsFile)
	if err != nil {
		return nil
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 1<<16), maxLine)
	var named []audit.Registration
	for lines.Scan() {
		if p, err := readPair(lines.Bytes()); err == nil {
			if _, kind := peek(p.Record); kind == string(audit.KindSigningKey) {
				if r, ok := audit.RegistrationOf(p.Record); ok {
					named = append(named, r)
				}
			}
		}
	}
	trusted := forwards(c.options.Trust.Keys, named)
	return slices.DeleteFunc(slices.Clone(keys), func(k audit.Key) bool { return !slices.Contains(trusted, k) })
}

// files compares the folder with the manifest, name by name and byte by byte.
func (c *checker) files() error {
	there := map[string]bool{}
	err := fs.WalkDir(c.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() || name == manifestName:
		case !d.Type().IsRegular():
			return wrong("%.200q: it is not a regular file", name)
		default:
			if _, listed := c.m.file(name); !listed {
				return wrong("%.200q: the manifest does not list it", name)
			}
			there[name] = true
		}
		return c.ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, f := range c.m.Files {
		if !there[f.Path] {
			return wrong("%s: it is missing", f.Path)
		}
		if err := c.file(f); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) file(f File) error {
	file, err := c.root.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, file)
	if err != nil {
		return err
	}
	c.result.Bytes += n
	c.result.Files++
	if n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.Digest {
		return wrong("%s: it is not what the manifest says: %d bytes of SHA-256 %x, not %d of %.64s", f.Path, n, sum.Sum(nil), f.Size, f.Digest)
	}
	return c.ctx.Err()
}

// maxFacts bounds the facts, when a pack is made and when it is checked. A table of
// the report has at most 50,000 rows.
const maxFacts = 256 << 20

func (c *checker) facts() error {
	text, err := readFile(c.root, factsFile, maxFacts)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", factsFile)
	}
	if err != nil {
		return err
	}
	if err := readJSON(text, &c.manifestFacts); err != nil {
		return wrong("%s: it cannot be read: %v", factsFile, err)
	}
	p := c.m.Parameters
	if c.manifestFacts.Checkpoint != c.m.Checkpoint || !c.manifestFacts.Period.From.Equal(p.From) || !c.manifestFacts.Period.To.Equal(p.To) ||
		!slices.Equal(c.manifestFacts.Repositories, p.Repositories) || c.manifestFacts.Result.Sound != c.m.Sound {
		return wrong("%s: it says something else than the manifest", factsFile)
	}
	return nil
}

// checkpoint checks that the checkpoint is signed, and is the one that the facts
// are about. Whether it is to be believed is for trust to say.
func (c *checker) checkpoint() error {
	signed := []byte(c.m.Checkpoint)
	var err error
	if c.at, err = audit.ReadCheckpoint(signed); err != nil {
		return wrong("checkpoint: %v", err)
	}
	if _, _, err := audit.OpenCheckpoint(signed, c.manifestFacts.Result.Keys...); err != nil && c.m.Sound {
		return wrong("checkpoint: %v", err)
	}
	if !c.at.Time.Equal(c.m.Time) || c.manifestFacts.Log != c.at.Origin || c.m.Sound && c.manifestFacts.Result.Leaves != c.at.Size {
		return wrong("checkpoint: its time, name or size is not the pack's")
	}
	return nil
}
