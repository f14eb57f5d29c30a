package evidence

import (
	"bufio"
	"errors"
	"io/fs"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

func (c *checker) lines(name string, f func(n int64, p *pack.Pair) error) (int64, error) {
	file, err := c.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, wrong("%s: it is missing", name)
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(make([]byte, 1<<18), pack.MaxLine)
	n := int64(0)
	for in.Scan() {
		n++
		p, err := c.pair(name, n, in.Bytes())
		if err != nil {
			return 0, err
		}
		if err := f(n, p); err != nil {
			return 0, err
		}
		if n%1024 == 0 && c.ctx.Err() != nil {
			return 0, c.ctx.Err()
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return 0, wrong("%s: line %d is longer than any", name, n+1)
	}
	return n, in.Err()
}

// pair reads a line of a file.
func (c *checker) pair(name string, n int64, line []byte) (*pack.Pair, error) {
	p, err := pack.ReadPair(line)
	if err != nil {
		return nil, wrong("%s: line %d: %v", name, n, err)
	}
	if p.Leaf >= c.at.Size || p.EndLeaf >= c.at.Size {
		return nil, wrong("%s: line %d: the checkpoint does not cover leaf %d", name, n, max(p.Leaf, p.EndLeaf))
	}
	return p, nil
}
