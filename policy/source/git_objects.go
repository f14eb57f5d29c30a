package source

import (
	"context"
	"strings"
)

// maxObjectLine bounds a line of git cat-file, in bytes: a name, a kind and a size.
const maxObjectLine = 128

// sizes reads kinds and sizes with one process.
func (g *Git) sizes(ctx context.Context, names []string) ([]objectSize, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out, err := g.catFile(ctx, "--batch-check", names, 0)
	if err != nil {
		return nil, err
	}
	return parseSizes(out, names)
}

// contents reads contents with one process.
func (g *Git) contents(ctx context.Context, names []string, sizes []objectSize) ([][]byte, error) {
	if len(names) == 0 {
		return nil, nil
	}
	total := int64(0)
	for _, s := range sizes {
		total += s.size
	}
	out, err := g.catFile(ctx, "--batch", names, total)
	if err != nil {
		return nil, err
	}
	return parseBatch(out, names, sizes)
}

// catFile passes names to git cat-file. size is that of all contents.
func (g *Git) catFile(ctx context.Context, mode string, names []string, size int64) ([]byte, error) {
	input := strings.NewReader(strings.Join(names, "\n") + "\n")
	return g.run(ctx, gitCall{
		arguments: []string{"cat-file", mode, "--buffer"}, input: input, limit: size + int64(len(names))*maxObjectLine,
	})
}
