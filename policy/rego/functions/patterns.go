package functions

import (
	"regexp"
	"regexp/syntax"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/cache"
)

// maxPatternBytes bounds the memory of the compiled patterns of one program. A pattern of
// a few bytes can compile to many megabytes, and a pattern with a part of the input in it
// differs for each input.
const maxPatternBytes = 8 << 20

// Upper estimates of the memory of compiled patterns.
const (
	instructionBytes = 160 // an instruction of a regular expression, with the matcher's state for it
	globByteBytes    = 256 // a byte of a glob
	patternOverhead  = 1 << 10
)

// patternCache holds the compiled patterns of one program, the most recently used within a
// bound in bytes. A pattern over the bound is not kept. Safe for concurrent use.
type patternCache struct{ patterns *sized[string, any] }

var _ cache.InterQueryValueCache = patternCache{}

// NewPatternCache returns the cache of compiled patterns for one program. OPA's own cache is
// bounded in entries, of which one can take many megabytes.
func NewPatternCache() cache.InterQueryValueCache {
	return patternCache{newSized[string, any](maxPatternBytes)}
}

// Get returns the pattern of a text.
func (c patternCache) Get(key ast.Value) (any, bool) {
	text, ok := key.(ast.String)
	if !ok {
		return nil, false
	}
	return c.patterns.get(string(text))
}

// Insert adds a pattern, and returns how many others it dropped.
func (c patternCache) Insert(key ast.Value, value any) int {
	text, ok := key.(ast.String)
	if !ok {
		return 0
	}
	return c.patterns.insert(string(text), value, patternSize(string(text), value))
}

// Delete forgets a pattern.
func (c patternCache) Delete(key ast.Value) {
	if text, ok := key.(ast.String); ok {
		c.patterns.remove(string(text))
	}
}

// GetCache returns nil: entries that builtins keep in other caches have no known size.
func (patternCache) GetCache(string) cache.InterQueryValueCacheBucket { return nil }

// UpdateConfig does nothing: the bound is fixed.
func (patternCache) UpdateConfig(*cache.Config) {}

// patternSize estimates the bytes that a compiled pattern takes.
func patternSize(text string, value any) int {
	size := patternOverhead + 2*len(text)
	re, ok := value.(*regexp.Regexp)
	if !ok {
		return size + globByteBytes*len(text)
	}
	parsed, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return maxPatternBytes + 1
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return maxPatternBytes + 1
	}
	return size + instructionBytes*len(prog.Inst)
}
